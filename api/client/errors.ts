/** What a call of the client fails with. */
import type { ProblemJson } from './types.js'

export interface ClientErrorOptions extends ErrorOptions {
  readonly errors?: ProblemJson['errors'] | undefined
  readonly reasons?: ProblemJson['reasons'] | undefined
  readonly requestId?: string | undefined
  readonly retryAfter?: number | undefined
}

/**
 * The service's refusal, with the status, code and detail of its problem; or, with status 0, that there was none:
 *
 * - `UNREACHABLE`: no connection, or it broke before the answer was whole
 * - `TIMEOUT`: nothing moved for as long as `timeout` says
 * - `BAD_ANSWER`: what came is not what this service answers
 * - `JOB_FAILED`, `JOB_CANCELLED` or the job's own code: a long operation did not end well
 */
export class ClientError extends Error {
  override readonly name = 'ClientError'
  /** What is wrong in the input, thing by thing. */
  readonly errors: readonly { where: string; message: string }[]
  /** Why nothing is taken now, reason by reason. */
  readonly reasons: readonly { code: string; detail: string }[]
  /** Id of the request in the service's log. */
  readonly requestId: string | undefined
  /** Milliseconds after which the service asks to be tried again. */
  readonly retryAfter: number | undefined

  constructor(
    /** HTTP status; 0 when there was no answer. */
    readonly status: number,
    /** Stable name of what went wrong. */
    readonly code: string,
    message: string,
    { errors = [], reasons = [], requestId, retryAfter, ...options }: ClientErrorOptions = {},
  ) {
    super(message, options)
    this.errors = errors
    this.reasons = reasons
    this.requestId = requestId
    this.retryAfter = retryAfter
  }

  /** Whether the same may succeed later: what an MTA answers 4xx for. A refusal for good is 5xx. */
  get temporary(): boolean {
    if (this.status === 0) return this.code === 'UNREACHABLE' || this.code === 'TIMEOUT'
    return this.status >= 500 || this.status === 408 || this.status === 429
  }
}
