/** What the calls about messages take beside the message. */
import type { CallOptions } from './transport.js'
import type { TimeInput } from './types.js'

export interface InjectOptions extends CallOptions {
  /**
   * The same key and content give the first answer again. Default: one for each call, so that a retry never doubles; give
   * your own where your program may itself repeat the call.
   */
  readonly idempotencyKey?: string | undefined
}

export interface ListOptions extends CallOptions {
  readonly state?: string | undefined
  /** The recipient's. */
  readonly domain?: string | undefined
  readonly binding?: string | undefined
  readonly due_before?: TimeInput | undefined
}

export interface ChangeOptions extends CallOptions {
  /** The version that the meta must have; else ClientError 412. */
  readonly ifVersion?: number | undefined
  /** false: visible at once, durable with what comes after it (`partial`). */
  readonly force?: boolean | undefined
}

export interface ContentMatch extends CallOptions {
  /** Hash that the content must have; else ClientError 412. */
  readonly ifSha256?: string | undefined
}
