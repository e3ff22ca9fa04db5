/**
 * Repair of what stands around the records: the metastore, and the subscribers' checkpoints (libjlog's jlog_ctx_repair). Segments are looked
 * at where a checkpoint asks for it, and never changed; for the rest the rules are those of `repairJournal`.
 */
import { syncDirectory } from './file.js'
import { listJournal } from './journal-directory.js'
import type { RepairOptions } from './repair.js'
import { repairCheckpoints } from './repair-checkpoints.js'
import { repairMetastore } from './repair-metastore.js'
import type { CheckpointChange, FileReport } from './repair-report.js'
import { repairSegment } from './repair-segment.js'
import { readSettings } from './settings.js'

export interface MetadataReport {
  readonly metastore: FileReport
  readonly subscribers: readonly CheckpointChange[]
}

/** @throws JlogError as `repairJournal` */
export async function repairMetadata(
  dir: string,
  { lockTimeout }: Pick<RepairOptions, 'lockTimeout'> = {},
): Promise<MetadataReport> {
  const listing = await listJournal(dir)
  // Asked first of all: a directory that is no journal is not made one.
  await readSettings(dir, listing)
  const { segments } = listing
  const { report: metastore, meta } = await repairMetastore(dir, segments, {
    dryRun: false,
    lockTimeout,
  })
  const subscribers = await repairCheckpoints(dir, {
    dryRun: false,
    storageLog: meta.storageLog,
    // Records are counted only in the segments that a checkpoint is in.
    segments: segments.map((log) => ({ log, records: 0, checkpoints: [] })),
    recount: (log) => countConfirmed(dir, log, meta.hdrMagic),
    lockTimeout,
  })
  await syncDirectory(dir)
  return { metastore, subscribers }
}

async function countConfirmed(dir: string, log: number, hdrMagic: number): Promise<number> {
  const { segments } = await listJournal(dir)
  if (!segments.includes(log)) return 0
  return (await repairSegment(dir, log, { hdrMagic, dryRun: true })).records
}
