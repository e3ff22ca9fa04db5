/**
 * When a failed call is tried again, and how long after: exponential backoff with jitter, never before the service's
 * Retry-After, bounded by a number of attempts and by a time.
 */
import type { ClientError } from './errors.js'

export interface RetryOptions {
  /** Attempts in all, the first included; default 5. */
  readonly attempts?: number | undefined
  /** No further attempt begins after so many milliseconds; default 30,000. What is under way then is not cut. */
  readonly deadline?: number | undefined
  /** Milliseconds before the first retry; default 100. Each later one is twice as long, less up to half by chance. */
  readonly delay?: number | undefined
  /** Longest of these delays; default 10,000. */
  readonly maxDelay?: number | undefined
}

/** For what goes on until it is stopped. */
export const ENDLESS = { attempts: Number.POSITIVE_INFINITY, deadline: Number.POSITIVE_INFINITY }

export const ONCE = { attempts: 1 }

export class Backoff {
  readonly #attempts: number
  readonly #ends: number
  readonly #maxDelay: number
  #delay: number
  #failed = 0

  constructor({ attempts = 5, deadline = 30_000, delay = 100, maxDelay = 10_000 }: RetryOptions) {
    this.#attempts = attempts
    this.#ends = performance.now() + deadline
    this.#delay = delay
    this.#maxDelay = maxDelay
  }

  /** Milliseconds to wait before the next attempt; null when there is to be none. */
  next(retryAfter = 0): number | null {
    this.#failed++
    if (this.#failed >= this.#attempts) return null
    const most = Math.min(this.#delay, this.#maxDelay)
    this.#delay = most * 2
    const wait = Math.max(retryAfter, most * (0.5 + Math.random() / 2))
    return performance.now() + wait > this.#ends ? null : wait
  }
}

/** Of a connection that was not made: the service has seen nothing of the call. */
const NOT_CONNECTED = new Set([
  ...['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ENETUNREACH', 'EHOSTUNREACH'],
  ...['ENOENT', 'UND_ERR_CONNECT_TIMEOUT'],
])

const PASSING = new Set([408, 429, 502, 503, 504, 507])

/**
 * Whether another attempt makes sense and does no harm. A call that is not repeatable is tried again only when the
 * service has certainly not carried it out.
 */
export function mayRetry(error: ClientError, repeatable: boolean): boolean {
  const isPassing = error.status === 0 ? error.temporary : PASSING.has(error.status)
  return isPassing && (repeatable || !isUncertain(error))
}

/** Whether the call may have been carried out, although it failed. */
export function isUncertain({ status, code, cause }: ClientError): boolean {
  // At the door, where nothing has begun; a failure of a store has the store's name.
  if (status === 429 || (status === 503 && !/^(SPOOL|JLOG)_/.test(code))) return false
  if (code !== 'UNREACHABLE') return status === 0 || status >= 500
  const reason = (cause as { cause?: unknown } | undefined)?.cause ?? cause
  return !NOT_CONNECTED.has(String((reason as NodeJS.ErrnoException | undefined)?.code))
}

/** Milliseconds; a date or a number of seconds (RFC 9110, section 10.2.3). */
export function parseRetryAfter(header: string | null): number | undefined {
  if (header === null) return undefined
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}
