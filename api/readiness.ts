/** Why messages are not taken now: stable codes, what they mean, and whom they concern. */
import Type from 'typebox'

export const REASON_CODES = [
  /** SIGTERM was received. */
  'stopping',
  /** A write or sync of the spool failed; it takes writes again after a restart. */
  'spool_read_only',
  /** The disk has less room than spool.min_free, and not yet spool.resume_free again. */
  'low_space',
  /** More log records wait for their journals than events.max_backlog. */
  'log_backlog',
  /** The oldest write has waited for the disk longer than shed.commit_delay. */
  'commits_late',
  /** The process holds more memory than shed.memory, or its heap is nearly full. */
  'memory_high',
  /** Timers fire later than shed.event_loop_delay allows. */
  'event_loop_late',
] as const
export type ReasonCode = (typeof REASON_CODES)[number]

export interface Reason {
  readonly code: ReasonCode
  /** What is measured, and what is to be done where that is not to wait. */
  readonly detail: string
  /** Seconds after which to try again. */
  readonly retryAfter: number
}

export const ReasonJson = Type.Object({
  code: Type.String({ description: `One of ${REASON_CODES.join(', ')}.` }),
  detail: Type.String(),
})
