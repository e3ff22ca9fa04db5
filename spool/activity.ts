/**
 * What a spool has done and is doing, for whoever watches it: sums since it was opened, which cost an
 * addition each, and calls that an observer gets at once. Nothing here is written down.
 */
import type { SpoolErrorCode } from './errors.js'
import type { EventType } from './event-types.js'

/** Sums since the spool was opened, of what is committed. */
export interface Activity {
  /** Messages, one a recipient. */
  readonly messagesStored: number
  readonly messagesRemoved: number
  /** Of contents, each counted once however many messages share it. */
  readonly bytesStored: number
  readonly bytesRemoved: number
}

export const NO_ACTIVITY: Activity = {
  messagesStored: 0,
  messagesRemoved: 0,
  bytesStored: 0,
  bytesRemoved: 0,
}

/** What was read since the spool was opened. */
export interface ReadActivity {
  /** Contents, or ranges of them, that were asked for. */
  readonly reads: number
  readonly bytesRead: number
}

/** What waits to be on the disk. */
export interface Waiting {
  /** Bytes of writes that are queued or under way, about. */
  readonly bytes: number
  /** How long the longest has waited, in milliseconds. */
  readonly milliseconds: number
}

export interface Commit {
  /** From the first byte to the end of the sync. */
  readonly milliseconds: number
  /** Calls that it answered. */
  readonly operations: number
  /** Events of what happened to messages, receptions apart: `messagesStored` counts those. */
  readonly events: readonly EventType[]
}

/** Called at once; must be cheap, and must not throw. */
export interface SpoolObserver {
  committed(commit: Commit): void
  commitFailed(code: SpoolErrorCode): void
}

/** Messages that are due. */
export interface Due {
  /** Counted up to the limit that was asked for. */
  readonly count: number
  /** When the longest waiting one was due, milliseconds since the epoch; null when none is. */
  readonly oldest: number | null
}
