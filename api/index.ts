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
export { type ImportReportJson, importToJson } from './import-json.js'
export { journalToJson } from './journal-json.js'
export { metaToJson, quarantineToJson, spoolStateToJson } from './message-json.js'
export { META_FORMATS, type MetaFormat, renderMeta } from './meta-render.js'
export { HttpError, PROBLEM_TYPE, type Problem } from './problem.js'
export { REASON_CODES, type Reason, type ReasonCode } from './readiness.js'
export { type ApiLimits, type ApiOptions, buildServer } from './server.js'
export type { JournalStore, MessageStore } from './stores.js'
