/**
 * What a message is to the spool: the shapes that go in (`NewMessage`) and come out (`MessageMeta`,
 * `SwappedBody`). Times are milliseconds since the epoch, sizes are bytes, addresses are as they stood
 * in the envelope, without angle brackets.
 */

/**
 * `queued`: no attempt has failed yet. `deferred`: at least one did, and it waits for the next.
 * `leased` and `quarantined` are reserved for claims and quarantine.
 */
export const MESSAGE_STATES = ['queued', 'deferred', 'leased', 'quarantined'] as const
export type MessageState = (typeof MESSAGE_STATES)[number]

/** The two dictionaries of a message: of its connection and of its own. */
export interface MessageContext {
  conn: Record<string, string>
  mess: Record<string, string>
}

/**
 * A body that `stageBody` has taken in whole and that belongs to no message yet. A large one lies in
 * the spool already: it ends in a `swapOut` or in `discard()`; after a crash the next open removes it.
 */
export interface StagedBody {
  readonly size: number
  /** Hexadecimal, lower case. */
  readonly sha256: string
  /** Gives the body up. Idempotent; does nothing once a message holds the body. */
  discard(): Promise<void>
}

export interface StageOptions {
  /** Refuse with SPOOL_ERR_TOO_LARGE beyond this; never above the spool's `maxMessageSize`. */
  maxBytes?: number | undefined
  /** Gives up with SPOOL_ERR_ABORTED, leaving nothing behind. */
  signal?: AbortSignal | undefined
}

/** The content of a message that is stored already, to be shared with it. */
export interface ContentOf {
  /** The message's id. */
  refs: string
}

export interface NewMessage {
  /** Envelope sender; '' is the null sender (RFC 5321 section 4.5.5). */
  mailfrom: string
  /** One message is made for each, in order, all sharing the body. */
  rcptto: readonly string[]
  /** A Uint8Array must not be changed until the promise has settled. */
  body: StagedBody | Uint8Array | ContentOf
  context?:
    | {
        conn?: Record<string, string> | undefined
        mess?: Record<string, string> | undefined
      }
    | undefined
  batchId?: string | undefined
  connectionId?: string | undefined
  /** `rest` when not given. */
  protocol?: string | undefined
  /** `default` when not given, and so for `binding`. */
  bindingGroup?: string | undefined
  binding?: string | undefined
  /** When it is first due; now when not given, never when null. */
  nextAttempt?: number | Date | null | undefined
  /** Seconds it may stay in the spool; the spool's own setting when not given. */
  retention?: number | undefined
  /** The peer's address for the reception record; `unknown` when not given. */
  peer?: string | undefined
  /**
   * `deferred`: it may be kept in memory and be lost in a crash; only with `unsafeSpooling`, else
   * SPOOL_ERR_UNSAFE. `durable` when not given.
   */
  durability?: Durability | undefined
}

export const DURABILITIES = ['durable', 'deferred'] as const
export type Durability = (typeof DURABILITIES)[number]

export interface SwapOutResult {
  /** `deferred`: not durable. A message that might have been deferred may be `complete` all the same. */
  result: 'complete' | 'deferred'
  /** One a recipient, in the order of `rcptto`. */
  ids: string[]
  size: number
  sha256: string
  /** Stored by an earlier call with the same idempotency key, which got the same answer. */
  replayed?: true | undefined
}

export interface SwapOutOptions {
  /**
   * Up to 255 bytes. A call with the same key and the same messages stores nothing and gets the first
   * answer, and one with other messages is refused with SPOOL_ERR_KEY_REUSED, for as long as it is kept.
   */
  idempotencyKey?: string | undefined
}

export interface MessageMeta {
  id: string
  mailfrom: string
  rcptto: string
  /** Bytes of the content; 0 when it was dropped. */
  size: number
  /** Of the content, hexadecimal; null when it was dropped. */
  sha256: string | null
  state: MessageState
  created: number
  /** null: not scheduled. */
  nextAttempt: number | null
  retries: number
  /** 1 when stored, one more at each write of the meta. */
  version: number
  batchId: string
  connectionId: string
  protocol: string
  bindingGroup: string
  binding: string
  /** Seconds, or null for the spool's own setting. */
  retention: number | null
  peer: string
  context: MessageContext
}

/** What `swapOutMeta` may change. In `context` a null removes the key (RFC 7396), as in a merge patch. */
export interface MetaPatch {
  nextAttempt?: number | Date | null | undefined
  retries?: number | undefined
  retention?: number | null | undefined
  bindingGroup?: string | undefined
  binding?: string | undefined
  context?:
    | {
        conn?: Record<string, string | null> | null | undefined
        mess?: Record<string, string | null> | null | undefined
      }
    | undefined
}

export interface SwapOutMetaOptions {
  /** Durable before the answer (default). Not forced: visible at once, synced with the next commit. */
  force?: boolean | undefined
  /** Refuse with SPOOL_ERR_VERSION unless this version stands. */
  ifVersion?: number | undefined
}

export interface RemoveOptions {
  /** Refuse with SPOOL_ERR_VERSION unless the meta stands at this version. */
  ifVersion?: number | undefined
}

export interface ContentOptions {
  /** Refuse with SPOOL_ERR_VERSION unless the meta stands at this version. */
  ifVersion?: number | undefined
  /** Refuse with SPOOL_ERR_VERSION unless this is the content; null: unless there is none. */
  ifSha256?: string | null | undefined
}

export interface CopyOptions {
  /** Share the content with the original, copy on write, instead of copying it. */
  share?: boolean | undefined
}

/** Meta and content of one moment, whatever is written meanwhile. */
export interface MessageSnapshot {
  meta: MessageMeta
  /** To be read or released; null when the content was dropped. */
  body: SwappedBody | null
}

export interface SwapOutMetaResult {
  result: 'complete' | 'partial'
  meta: MessageMeta
}

/** A half-open range of a body, `start` inclusive, `end` exclusive. */
export interface ByteRange {
  start: number
  end: number
}

/**
 * A body being read. It stays whole while it is read, even when its message is removed meanwhile:
 * until the stream has ended, broken off, or `release()` was called.
 */
export interface SwappedBody {
  /** Of the whole body, whatever the range. */
  readonly size: number
  readonly sha256: string
  readonly start: number
  readonly end: number
  /** Once only. */
  readonly stream: AsyncIterable<Uint8Array>
  /** The range in one buffer; instead of `stream`. */
  buffer(): Promise<Buffer>
  /** Lets go of a body that is not read to its end. Idempotent. */
  release(): void
}

export interface MessageQuery {
  state?: MessageState | undefined
  /** Recipient domain, in any case. */
  domain?: string | undefined
  binding?: string | undefined
  /** Only messages whose next attempt is before this. */
  dueBefore?: number | Date | undefined
  /** From the page before. */
  cursor?: string | undefined
  /** 1 to 1,000; 100 when not given. */
  limit?: number | undefined
}

/** A page may be shorter than `limit`, even empty, and not the last: the last has no cursor. */
export interface MessagePage {
  messages: MessageMeta[]
  cursor: string | null
}
