/** The spool: a durable message store on LMDB, with an outbox of log records beside each change. */
export {
  type CheckOptions,
  type CheckReport,
  checkSpool,
  PROBLEMS,
  type Problem,
} from './check.js'
export { ContextDictionary, type DictionaryName, type SetOptions } from './context.js'
export { SPOOL_ERROR_CODES, SpoolError, type SpoolErrorCode } from './errors.js'
export { EVENT_TYPES, type EventOptions, type EventType } from './events.js'
export {
  JOB_STATES,
  type Job,
  type JobState,
  Jobs,
  type LongOptions,
  type Progress,
} from './jobs.js'
export {
  type ByteRange,
  type ContentOf,
  type ContentOptions,
  type CopyOptions,
  MESSAGE_STATES,
  type MessageContext,
  type MessageMeta,
  type MessagePage,
  type MessageQuery,
  type MessageSnapshot,
  type MessageState,
  type MetaPatch,
  type NewMessage,
  type StagedBody,
  type StageOptions,
  type SwapOutMetaOptions,
  type SwapOutMetaResult,
  type SwapOutResult,
  type SwappedBody,
} from './message.js'
export type { Outbox, OutboxBatch, OutboxLimits, OutboxRecord, OutboxSize } from './outbox.js'
export { openSpool, Spool, type SpoolOptions, type SpoolStats } from './spool.js'
export type { ContextLimits } from './validate.js'
