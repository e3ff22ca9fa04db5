/**
 * Journals in the jlog format of libjlog 2.6.0. A journal is a directory of segments that writers append records to, any
 * number of processes at once, and that each subscriber reads at its own pace; segments that all have read are removed.
 *
 * To write: `createJournal`, `openWriter`, `append`. To read as a subscriber: `addSubscriber`, `openReader`, then
 * `readInterval`, `readBatch`, `checkpoint` in turn. To read without leaving a trace: `readRecords`, or `follow` for what is still to come.
 * Every failure is a JlogError with a stable code.
 */
export { type AlterOptions, alterJournal } from './alter.js'
export type { ByteOrder } from './byte-order.js'
export {
  type CleanOptions,
  type PendingReaders,
  pendingReaders,
  type SubscriberName,
} from './checkpoints.js'
export {
  type Compression,
  type CreateOptions,
  createJournal,
  MAX_SUBSCRIBER_BYTES,
} from './create.js'
export { changeEndian, type EndianOptions, type EndianReport } from './endian.js'
export { JLOG_ERROR_CODES, JlogError, type JlogErrorCode, type JlogErrorDetails } from './errors.js'
export {
  COMPRESSED_MAGIC,
  DEFAULT_UNIT_LIMIT,
  type Metastore,
  PLAIN_MAGIC,
  SAFETY,
  type Safety,
} from './format.js'
export {
  inspectJournal,
  inspectSegment,
  type JournalInspection,
  type RecordDetail,
  type SegmentInspection,
} from './inspect.js'
export {
  advanceId,
  cleanJournal,
  describeJournal,
  describePreCommit,
  ensurePreCommit,
  type JournalInfo,
  rawSize,
  type SegmentInfo,
  type SubscriberInfo,
} from './journal.js'
export { type JournalListing, listJournal } from './journal-directory.js'
export { checkpointAt, firstId, lastId, lastStorageLog } from './journal-end.js'
export { type Appended, JournalSet, type JournalSetOptions } from './journal-set.js'
export { type JournalSummary, JournalWatch, type WatchedSubscriber } from './journal-watch.js'
export { LineSplitter } from './line-splitter.js'
export { type FollowOptions, follow } from './live-reader.js'
export { compareLogIds, formatLogId, type LogId, parseLogId } from './log-id.js'
export { type Interval, JournalReader, openReader } from './reader.js'
export { type BatchLimits, type JournalRecord, RecordBatch } from './record-batch.js'
export type { AppendRecord, RecordTime, TimedRecord } from './record-encoder.js'
export { type RecordJson, recordToJson } from './record-json.js'
export { type ReadRecordsOptions, readRecords, type SkippedRange } from './records.js'
export { type RepairOptions, type RepairProgress, repairJournal } from './repair.js'
export { type MetadataReport, repairMetadata } from './repair-metadata.js'
export type {
  CheckpointChange,
  CutRange,
  FileReport,
  RepairReport,
  SegmentReport,
} from './repair-report.js'
export { type RepairSegmentOptions, repairSegment } from './repair-segment.js'
export { type ReportJson, reportToJson } from './report-json.js'
export {
  checkSanity,
  type SanityProblem,
  type SanityProblemKind,
  type SanityReport,
} from './sanity.js'
export { type IndexDetails, readIndexDetails } from './segment-index.js'
export { type JournalSettings, readSettings } from './settings.js'
export {
  addSubscriber,
  getCheckpoint,
  listSubscribers,
  removeSubscriber,
  type SetCheckpointOptions,
  type SubscriberPosition,
  setCheckpoint,
  type Whence,
} from './subscribers.js'
export {
  type AppendedBatch,
  JournalWriter,
  openWriter,
  type WriterObserver,
  type WriterOptions,
} from './writer.js'
