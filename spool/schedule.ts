/**
 * When a message is tried again after a transient failure, and when no more. Pure: the same answer for
 * the same facts. Once an attempt has failed past the message's expiration or its last retry, the answer
 * is "expired"; before, it is always a time ahead, the last one at the expiration itself.
 */
import { invalid } from './errors.js'
import { isCount } from './validate.js'

/** Seconds before the first retry, then `factor` times as long each time, up to `max`. */
export interface Backoff {
  readonly base: number
  readonly factor: number
  readonly max: number
}

export interface RetrySchedule {
  /** Seconds before each retry, the last of them repeated; or a growing delay. */
  readonly delays: readonly number[] | Backoff
  /** Retries after the first attempt; null: no limit. */
  readonly maxRetries: number | null
  /** Seconds since reception after which a failed attempt was the last; null: never. */
  readonly messageExpiration: number | null
  /** The first failure is final. */
  readonly neverRetry: boolean
}

/** 5, 10, 20, 40 minutes and so on up to 4 hours, for 5 days (RFC 5321 section 4.5.4.1: at least 4). */
export const DEFAULT_SCHEDULE: RetrySchedule = {
  delays: { base: 300, factor: 2, max: 4 * 3600 },
  maxRetries: null,
  messageExpiration: 5 * 86_400,
  neverRetry: false,
}

export interface FailedMessage {
  /** Milliseconds since the epoch. */
  readonly created: number
  /** Attempts that failed, the latest among them: 1 after the first. */
  readonly failures: number
}

export type NextAttempt =
  /** Milliseconds since the epoch, after `now`. */
  | { readonly expired: false; readonly at: number }
  | { readonly expired: true; readonly why: 'never_retry' | 'max_retries' | 'message_expiration' }

export function nextAttempt(
  { created, failures }: FailedMessage,
  now: number,
  schedule: RetrySchedule,
): NextAttempt {
  const { delays, maxRetries, messageExpiration, neverRetry } = schedule
  if (neverRetry) return { expired: true, why: 'never_retry' }
  if (maxRetries !== null && failures > maxRetries) return { expired: true, why: 'max_retries' }
  const end =
    messageExpiration === null
      ? Number.POSITIVE_INFINITY
      : created + Math.ceil(messageExpiration * 1000)
  if (now >= end) return { expired: true, why: 'message_expiration' }
  return { expired: false, at: Math.min(now + delayMs(delays, failures), end) }
}

function delayMs(delays: RetrySchedule['delays'], failures: number): number {
  const seconds = isBackoff(delays)
    ? Math.min(delays.base * delays.factor ** (failures - 1), delays.max)
    : (delays[Math.min(failures, delays.length) - 1] as number)
  return Math.max(1, Math.round(seconds * 1000))
}

/** Throws SPOOL_ERR_INVALID, naming the setting. */
export function checkSchedule(schedule: RetrySchedule): RetrySchedule {
  const { delays, maxRetries, messageExpiration } = schedule
  if (isBackoff(delays)) {
    const { base, factor, max } = delays
    if (!isSeconds(base) || base <= 0) throw invalid('retry.base', 'not a number of seconds over 0')
    if (!Number.isFinite(factor) || factor < 1) throw invalid('retry.factor', 'not 1 or more')
    if (!isSeconds(max) || max < base) throw invalid('retry.max', 'less than the first delay')
  } else if (delays.length === 0 || !delays.every((delay) => isSeconds(delay) && delay > 0)) {
    throw invalid('retry.delays', 'not a list of seconds over 0')
  }
  if (maxRetries !== null && !isCount(maxRetries)) throw invalid('retry.max_retries', 'not a count')
  if (messageExpiration !== null && !isSeconds(messageExpiration)) {
    throw invalid('retry.message_expiration', 'not a number of seconds')
  }
  return schedule
}

function isBackoff(delays: RetrySchedule['delays']): delays is Backoff {
  return !Array.isArray(delays)
}

/** Up to ten years: what is stored as a time must stay one. */
function isSeconds(value: number): boolean {
  return Number.isFinite(value) && value >= 0 && value <= 10 * 366 * 86_400
}
