/** The spool: a durable message store on LMDB, with an outbox of log records beside each change. */

export type {
  Activity,
  Commit,
  Due,
  ReadActivity,
  SpoolObserver,
  Waiting,
} from './activity.js'
export type { BackupReport } from './backup.js'
export {
  type CheckOptions,
  type CheckReport,
  checkSpool,
  PROBLEMS,
  type Problem,
} from './check.js'
export { type CompactReport, compactSpool } from './compact.js'
export { ContextDictionary, type DictionaryName, type SetOptions } from './context.js'
export type { DeliveryOptions } from './delivery.js'
export {
  DISPOSITIONS,
  type Disposed,
  type Disposition,
  type DispositionType,
  type FreeEvent,
  type Rejection,
} from './dispositions.js'
export { SPOOL_ERROR_CODES, SpoolError, type SpoolErrorCode } from './errors.js'
export { EventMacros } from './event-macros.js'
export { EVENT_TYPES, type EventOptions, type EventType, STAGES } from './events.js'
export {
  type EnvelopeNames,
  EXPORT_FORMATS,
  type ExportedMessage,
  type ExportFormat,
  type ExportOptions,
  type ExportReport,
  type ExportSource,
  exportMessages,
} from './export.js'
export { exportedMessage, exportSource } from './export-source.js'
export type { SpoolHooks } from './hooks.js'
export type { IdempotencyOptions } from './idempotency.js'
export type { ImportFailure, ImportOptions, ImportProgress, ImportReport } from './import.js'
export {
  JOB_STATES,
  type Job,
  type JobState,
  Jobs,
  type LongOptions,
  type Progress,
} from './jobs.js'
export type { Claim, ClaimOptions, ExtendedClaim } from './leases.js'
export {
  type ByteRange,
  type ContentOf,
  type ContentOptions,
  type CopyOptions,
  DURABILITIES,
  type Durability,
  MESSAGE_STATES,
  type MessageContext,
  type MessageMeta,
  type MessagePage,
  type MessageQuery,
  type MessageSnapshot,
  type MessageState,
  type MetaPatch,
  type NewMessage,
  type RemoveOptions,
  type StagedBody,
  type StageOptions,
  type SwapOutMetaOptions,
  type SwapOutMetaResult,
  type SwapOutOptions,
  type SwapOutResult,
  type SwappedBody,
} from './message.js'
export type { DefectName, MimeDefect, MimePart, MimeStructure } from './mime.js'
export { midToSpoolName, spoolNameToMid, threadId } from './names.js'
export { openSpool } from './open.js'
export { COMPRESSIONS, type Compression, type SpoolOptions, type SpoolStats } from './options.js'
export type {
  Outbox,
  OutboxBacklog,
  OutboxBatch,
  OutboxLimits,
  OutboxRecord,
  OutboxSize,
} from './outbox.js'
export type { ContentStructure } from './parts.js'
export { passing } from './passing.js'
export {
  QUARANTINE_KINDS,
  type QuarantineEntry,
  type QuarantineKind,
  type QuarantinePage,
} from './quarantine.js'
export type { RepairOptions, RepairReport } from './repair.js'
export { type OfflineRepairReport, repairSpool } from './repair-offline.js'
export { type RestoreOptions, type RestoreReport, restoreSpool } from './restore.js'
export type { SalvageReport } from './salvage.js'
export { type Backoff, checkSchedule, DEFAULT_SCHEDULE, type RetrySchedule } from './schedule.js'
export { IMPORT_FORMATS, type ImportFormat, type ImportResult } from './sources/source.js'
export { type SpaceMarks, SpaceWatch, type SpoolSpace } from './space.js'
export { Spool } from './spool.js'
export type { ReleaseOptions, Upkeep } from './upkeep.js'
export { type ContextLimits, validateMessage } from './validate.js'
