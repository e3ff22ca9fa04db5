/** The REST service and its client. */
export {
  type Authenticator,
  type Caller,
  revocation,
  SCOPES,
  type Scope,
} from './caller.js'
export {
  BobbinClient,
  ClientError,
  type JobJson,
  type MetaJson,
  type QuarantinedJson,
  type SpoolStateJson,
} from './client/index.js'
export {
  DEFAULT_CONNECTIONS,
  DEFAULT_HEADER_BYTES,
  DEFAULT_HEADERS_TIMEOUT,
} from './connections.js'
export { journalToJson } from './journal-json.js'
export * from './json.js'
export { HttpError, PROBLEM_TYPE, type Problem } from './problem.js'
export { REASON_CODES, type Reason, type ReasonCode } from './readiness.js'
export { type ApiLimits, type ApiOptions, buildServer } from './server.js'
export type { JournalStore, MessageStore } from './stores.js'
