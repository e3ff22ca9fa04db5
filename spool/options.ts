/** What a spool is opened with, and what it says of itself. */
import type { SpoolObserver } from './activity.js'
import type { DeliveryOptions } from './delivery.js'
import { invalid } from './errors.js'
import type { EventOptions } from './events.js'
import type { SpoolHooks } from './hooks.js'
import type { IdempotencyOptions } from './idempotency.js'
import type { OutboxSize } from './outbox.js'
import { type ContextLimits, isCount } from './validate.js'

export const DEFAULT_MODE = 0o640
export const DEFAULT_LARGE_THRESHOLD = 256 * 1024

export const COMPRESSIONS = ['none', 'deflate'] as const
export type Compression = (typeof COMPRESSIONS)[number]
const DEFAULT_COMPRESSION_MIN_SIZE = 4096

export interface SpoolOptions extends DeliveryOptions {
  /** Base directory; made when absent. */
  path: string
  /** False: SPOOL_ERR_OPEN when there is no spool yet. */
  create?: boolean | undefined
  /** Offline reading: takes no ownership, refuses every write, works beside a running service. */
  readOnly?: boolean | undefined
  /** Of the files; 0o640 when not given. */
  mode?: number | undefined
  /** `EC_NODE_NAME` when not given, else `default`. */
  nodeName?: string | undefined
  /** Bodies over it are never whole in memory; 256 KiB when not given. */
  largeMessageThreshold?: number | undefined
  /** No limit when not given. */
  maxMessageSize?: number | undefined
  /** How bodies that come are compressed; not at all when not given. Those there are read in any case. */
  compression?: Compression | undefined
  /** Bodies of fewer bytes are not compressed; 4,096 when not given. */
  compressionMinSize?: number | undefined
  /** Address space reserved for the store's file, in bytes; the file may outgrow it. */
  mapSize?: number | undefined
  /** Of the dictionaries of a message; keys of 255 bytes and 64 KiB in all when not given. */
  contextLimits?: ContextLimits | undefined
  /** Whether messages may be deferred: kept in memory, and lost in a crash; false when not given. */
  unsafeSpooling?: boolean | undefined
  /** Failures with which a deferred message is spooled; 1 when not given. */
  suppressRetries?: number | undefined
  /** Deferred messages, and what they take, at most: the oldest are spooled; 10,000 and 64 MiB. */
  maxResidentMessages?: number | undefined
  maxResidentBytes?: number | undefined
  /** Leave a message that cannot be read where it is; it is moved to quarantine when not given. */
  leaveUnreadable?: boolean | undefined
  /** For the program that embeds the spool. */
  hooks?: SpoolHooks | undefined
  /** How long, and how many, idempotency keys are kept. */
  idempotency?: IdempotencyOptions | undefined
  /** No events are logged when not given. */
  events?: EventOptions | undefined
  /** Told of each commit. */
  observer?: SpoolObserver | undefined
}

export interface SpoolStats {
  messages: number
  /** Those of them that are in memory alone. */
  unspooled: number
  bodies: number
  /** Of all bodies, each counted once. */
  bytes: number
  outbox: OutboxSize
  /** Messages that have a next attempt, due or not yet. */
  due: number
  /** Idempotency keys that are kept. */
  idempotencyKeys: number
  /** Messages that have failed an attempt and wait for the next. */
  deferred: number
  leased: number
  /** Claims that hold messages. */
  claims: number
  /** Why the spool takes no writes; null when it does. */
  readOnly: string | null
}

/** Bytes from which on bodies are packed. Throws SPOOL_ERR_INVALID. */
export function packFrom({
  compression = 'none',
  compressionMinSize = DEFAULT_COMPRESSION_MIN_SIZE,
}: SpoolOptions): number {
  if (!COMPRESSIONS.includes(compression)) throw invalid('compression', 'not known')
  if (!isCount(compressionMinSize)) throw invalid('compressionMinSize', 'not a number of bytes')
  return compression === 'none' ? Number.POSITIVE_INFINITY : compressionMinSize
}
