/** `bobbin/client`: a typed client of the REST service. It loads neither the service nor its stores. */
export type { Body } from './body.js'
export type { ClaimsOptions, Work, WorkOptions } from './claims.js'
export {
  BobbinClient,
  type ChangeOptions,
  type ContentMatch,
  type InjectOptions,
  type ListOptions,
} from './client.js'
export type { ContentOptions } from './content.js'
export type { ContextCalls, ContextChange, ContextSet } from './context.js'
export { ClientError } from './errors.js'
export type { Injection } from './injection.js'
export type { JournalCalls, ReadOptions } from './journals.js'
export type { RecordsOptions, TailOptions } from './log.js'
export type { LogRecord } from './log-record.js'
export type { RetryOptions } from './retry.js'
export type { CallOptions, ClientOptions } from './transport.js'
export type * from './types.js'
export type { JobCalls, JobRequest, QuarantineCalls, ReleaseOptions } from './upkeep.js'
