/**
 * What messages are imported from: a place that lists them, opens each, and lets go of it once it is ours.
 * A source promises to name a message the same way for as long as it is there, so that an import that was
 * killed knows what it did; and to say of a message that cannot be read what of it could not.
 */
import type { MessageContext } from '../message.js'

export const IMPORT_FORMATS = ['spool', 'maildir', 'mbox', 'mboxo', 'eml', 'haraka'] as const
export type ImportFormat = (typeof IMPORT_FORMATS)[number]

/** As it is logged: 1 success, 2 meta failed, 3 body failed, 4 our write failed. */
export type ImportResult = 1 | 2 | 3 | 4
export const SUCCESS = 1

/** A message of the source cannot be read; it is left where it is. */
export class SourceError extends Error {
  override readonly name = 'SourceError'
  readonly result: 2 | 3

  constructor(result: 2 | 3, message: string, options?: ErrorOptions) {
    super(message, options)
    this.result = result
  }
}

/** A message was listed and is not there any more: somebody else has it. */
export class SourceGone extends Error {
  override readonly name = 'SourceGone'
}

/** What a source knows of a message; what it does not know is left out. */
export interface SourceMeta {
  /** An id that the message had in a Bobbin spool. */
  readonly id?: string | undefined
  readonly mailfrom?: string | undefined
  readonly rcptto?: readonly string[] | undefined
  /** Milliseconds since the epoch, as all times. */
  readonly created?: number | undefined
  readonly nextAttempt?: number | null | undefined
  readonly retries?: number | undefined
  readonly batchId?: string | undefined
  readonly connectionId?: string | undefined
  readonly protocol?: string | undefined
  readonly bindingGroup?: string | undefined
  readonly binding?: string | undefined
  readonly retention?: number | null | undefined
  readonly peer?: string | undefined
  readonly context?: Partial<MessageContext> | undefined
}

export interface SourceContent {
  readonly meta: SourceMeta
  /** Once only; throws SourceError where it cannot be read. Null: its content was dropped. */
  readonly body: AsyncIterable<Uint8Array> | null
  /** Messages that give the same share one body. */
  readonly sharedAs?: string | undefined
  /** Lets go of it, read or not. Idempotent. */
  close(): Promise<void>
}

export interface SourceMessage {
  /** Its name within the source. */
  readonly key: string
  /** What the log record calls it. */
  readonly originalId: string
  /** Throws SourceError, SourceGone. */
  open(): Promise<SourceContent>
  /**
   * Takes it out of the source; on the disk once `settle` has returned. Idempotent. False when it is not there any more, or under
   * another name. Throws when it has changed since it was listed.
   */
  remove(): Promise<boolean>
}

export interface Source {
  readonly format: ImportFormat
  /** Where it is: a path without symbolic links. */
  readonly base: string
  /** False: messages are not removed one by one, but all of them by `finish`. */
  readonly removesEach: boolean
  /** Messages, as many as can be told now. */
  count(signal: AbortSignal | undefined): Promise<number>
  /** Throws SPOOL_ERR_OPEN when it cannot be listed. */
  messages(): AsyncIterable<SourceMessage>
  /** Makes removals durable. */
  settle(): Promise<void>
  /** Every message is ours: removes them all. Returns why not, when it did not. Without `removesEach`. */
  finish(): Promise<string | null>
  /** Idempotent. */
  close(): Promise<void>
}
