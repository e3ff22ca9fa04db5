/**
 * Export: messages as files that other programs read, a Maildir, an mbox or a folder of `.eml` files. The envelope
 * is kept in fields before each message, which an import takes off again. The spool is only read. What was
 * exported is on the disk when it ends; interrupted, it goes on when it is called again.
 */
import { resolve } from 'node:path'
import { invalid, SpoolError } from './errors.js'
import { EmlTarget, MaildirTarget } from './export-folders.js'
import { MboxTarget } from './export-mbox.js'
import {
  describe,
  type EnvelopeNames,
  type ExportedMessage,
  type ExportTarget,
  Hashing,
  holdDirectory,
} from './export-target.js'
import { type LongOptions, throwIfAborted } from './jobs.js'
import { exportBlock, lineEndOf } from './sources/envelope-fields.js'

export type { EnvelopeNames, ExportedMessage } from './export-target.js'

export const EXPORT_FORMATS = ['maildir', 'mbox', 'eml'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

/** A spool at rest or a service, as an export reads it. */
export interface ExportSource {
  /** In the order of their ids; they may come and go meanwhile. */
  messages(): AsyncIterable<ExportedMessage>
  /** Undefined when there is none of that id. */
  message(id: string): Promise<ExportedMessage | undefined>
  content(id: string): Promise<AsyncIterable<Uint8Array>>
  /** About; null when it cannot be told. */
  total(): Promise<number | null>
}

export interface ExportOptions extends LongOptions {
  readonly format: ExportFormat
  /** `Return-Path` and `X-Envelope-To` when not given; null: the envelope is not kept. */
  readonly envelope?: EnvelopeNames | undefined
  /** Only these. */
  readonly ids?: readonly string[] | undefined
  /** Only messages in this state. */
  readonly state?: string | undefined
  /** Only messages to this domain, in any case. */
  readonly domain?: string | undefined
}

export interface ExportReport {
  readonly format: ExportFormat
  readonly directory: string
  /** Messages written now. */
  readonly exported: number
  /** Those that were there from before. */
  readonly already: number
  /** Those that have no content, or were gone when they were read. */
  readonly skipped: number
  /** Those whose content cannot be read. */
  readonly failed: number
  /** The first thousand. */
  readonly failures: { readonly id: string; readonly reason: string }[]
}

const DEFAULT_ENVELOPE = { from: 'Return-Path', to: 'X-Envelope-To' }
const FIELD_NAME = /^[!-9;-~]{1,100}$/
const CONCURRENCY = 8
const MAX_FAILURES = 1000
/** Messages and milliseconds between two syncs of what they lie in. */
const SETTLE = 256
const TELL_MS = 200

/**
 * Throws SPOOL_ERR_INVALID for an option, SPOOL_ERR_BUSY while another export writes there, SPOOL_ERR_EXISTS when there
 * is an mbox, SPOOL_ERR_FULL and SPOOL_ERR_WRITE for the disk, SPOOL_ERR_ABORTED, and what the source throws.
 */
export async function exportMessages(
  source: ExportSource,
  directory: string,
  options: ExportOptions,
): Promise<ExportReport> {
  const path = resolve(directory)
  check(options)
  const held = await holdDirectory(path)
  let isFinished = false
  try {
    const target = await openTarget(path, options)
    try {
      const report = await new Run(source, path, target, options).run()
      isFinished = true
      return report
    } finally {
      await target.close()
    }
  } finally {
    await held.release(isFinished)
  }
}

async function openTarget(directory: string, options: ExportOptions): Promise<ExportTarget> {
  const { format, envelope, ids, state, domain } = options
  try {
    if (format === 'maildir') return await MaildirTarget.open(directory)
    if (format === 'eml') return new EmlTarget(directory)
    const what = JSON.stringify([envelope, ids?.toSorted(), state, domain?.toLowerCase()])
    return await MboxTarget.open(directory, what)
  } catch (error) {
    throw error instanceof SpoolError ? error : describe(error, directory)
  }
}

class Run {
  readonly #source: ExportSource
  readonly #directory: string
  readonly #target: ExportTarget
  readonly #options: ExportOptions
  readonly #failures: { id: string; reason: string }[] = []
  #total: number | null = null
  #exported = 0
  #already = 0
  #skipped = 0
  #failed = 0
  #unsettled = 0
  #settling: Promise<void> = Promise.resolve()
  #told = 0

  constructor(
    source: ExportSource,
    directory: string,
    target: ExportTarget,
    options: ExportOptions,
  ) {
    this.#source = source
    this.#directory = directory
    this.#target = target
    this.#options = options
  }

  async run(): Promise<ExportReport> {
    const { ids, format, signal } = this.#options
    throwIfAborted(signal)
    this.#total = ids === undefined ? await this.#source.total() : ids.length
    const messages = this.#wanted()[Symbol.asyncIterator]()
    let failure: unknown
    let isOver = false
    const worker = async () => {
      try {
        while (!isOver) {
          throwIfAborted(signal)
          const next = await messages.next()
          if (next.done === true) return
          await this.#one(next.value)
        }
      } catch (error) {
        failure ??= error
        isOver = true
      }
    }
    // An mbox is written in one place.
    const count = format === 'mbox' ? 1 : CONCURRENCY
    await Promise.all(Array.from({ length: count }, worker))
    await messages.return?.()
    if (failure !== undefined) throw failure
    await this.#write(() => this.#target.finish())
    this.#tell(true)
    return {
      format,
      directory: this.#directory,
      exported: this.#exported,
      already: this.#already,
      skipped: this.#skipped,
      failed: this.#failed,
      failures: this.#failures,
    }
  }

  async *#wanted(): AsyncGenerator<ExportedMessage, void, void> {
    const { ids, state, domain } = this.#options
    if (ids === undefined) {
      for await (const message of this.#source.messages()) {
        if (state !== undefined && message.state !== state) continue
        if (domain !== undefined && domainOf(message.rcptto) !== domain.toLowerCase()) continue
        yield message
      }
      return
    }
    for (const id of [...new Set(ids)].sort()) {
      const message = await this.#source.message(id)
      if (message === undefined) this.#skipped++
      else yield message
    }
  }

  async #one(message: ExportedMessage): Promise<void> {
    if (message.sha256 === null) this.#skipped++
    else if (await this.#write(() => this.#target.has(message))) this.#already++
    else await this.#export(message)
    this.#tell(false)
  }

  async #export(message: ExportedMessage): Promise<void> {
    const hashing = new Hashing()
    try {
      const content = await this.#source.content(message.id)
      await this.#write(() =>
        this.#target.write(
          message,
          this.#complete(message, this.#checked(message, hashing, content)),
        ),
      )
    } catch (error) {
      if (isGone(error)) {
        this.#skipped++
        return
      }
      if (!(error instanceof Unreadable) && codeOf(error) !== 'SPOOL_ERR_CORRUPT') throw error
      this.#failed++
      if (this.#failures.length < MAX_FAILURES) {
        this.#failures.push({ id: message.id, reason: (error as Error).message })
      }
      return
    }
    this.#exported++
    if (++this.#unsettled >= SETTLE) await this.#settle()
  }

  /** Ends with an error unless it is what the meta says. */
  async *#checked(
    { id, sha256 }: ExportedMessage,
    hashing: Hashing,
    content: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* hashing.of(content)
    } catch (error) {
      throw new FromSource(error)
    }
    const digest = hashing.digest()
    if (digest === sha256) return
    // It may have been replaced since it was listed.
    const now = await this.#source.message(id)
    if (now?.sha256 !== digest) throw new Unreadable('its content is not what its hash says')
  }

  async *#complete(
    { id, mailfrom, rcptto }: ExportedMessage,
    content: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array, void, void> {
    const { envelope = DEFAULT_ENVELOPE } = this.#options
    let isFirst = envelope !== null
    for await (const piece of content) {
      if (isFirst && envelope !== null) {
        yield exportBlock({ id, mailfrom, rcptto }, envelope, lineEndOf(piece))
      }
      isFirst = false
      yield piece
    }
    if (isFirst && envelope !== null) {
      yield exportBlock({ id, mailfrom, rcptto }, envelope, '\r\n')
    }
  }

  #settle(): Promise<void> {
    this.#unsettled = 0
    this.#settling = this.#settling.then(() => this.#write(() => this.#target.settle()))
    return this.#settling
  }

  /** What the disk throws is told apart from what the source throws. */
  async #write<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write()
    } catch (error) {
      if (error instanceof FromSource) throw error.cause
      if (error instanceof Unreadable || error instanceof SpoolError) throw error
      throw describe(error, this.#directory)
    }
  }

  #tell(now: boolean): void {
    const time = Date.now()
    if (!now && time - this.#told < TELL_MS) return
    this.#told = time
    const done = this.#exported + this.#already + this.#skipped + this.#failed
    const total = this.#total === null ? null : Math.max(this.#total, done)
    this.#options.onProgress?.({ phase: 'exporting', done, total })
  }
}

class Unreadable extends Error {}

/** Carries an error of the source through the writing of the file. */
class FromSource extends Error {
  constructor(cause: unknown) {
    super('of the source', { cause })
  }
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code
}

function isGone(error: unknown): boolean {
  return codeOf(error) === 'SPOOL_ERR_NOT_FOUND'
}

function domainOf(address: string): string {
  return address.slice(address.lastIndexOf('@') + 1).toLowerCase()
}

function check({ format, envelope }: ExportOptions): void {
  if (!EXPORT_FORMATS.includes(format)) {
    throw invalid('format', `not one of ${EXPORT_FORMATS.join(', ')}`)
  }
  for (const name of Object.values(envelope ?? {})) {
    if (!FIELD_NAME.test(name)) throw invalid('envelope', 'not the name of a header field')
  }
}
