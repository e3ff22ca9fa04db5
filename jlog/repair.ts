/**
 * Repair of a whole journal, by the rules of docs/jlog.md: every confirmed record is kept, in order; nothing that was
 * not written appears; no subscriber skips what it has not read; no byte is destroyed, what is cut lies in files
 * beside. Repairing a repaired journal changes nothing.
 *
 * A story in six steps, each of which takes the locks of the files it changes, and each of which can be done again:
 * the metastore first, because it tells what a record looks like; then each segment with its index; empty segments;
 * the pre-commit buffer; the checkpoints, which need to know how many records are left; and what is no journal's.
 */
import { join } from 'node:path'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile, syncDirectory } from './file.js'
import { indexFile, METASTORE_FILE, segmentFile } from './format.js'
import { listJournal } from './journal-directory.js'
import { exists, moveAside, removeIfThere } from './repair-aside.js'
import { repairCheckpoints } from './repair-checkpoints.js'
import { repairMetastore } from './repair-metastore.js'
import { repairPreCommit } from './repair-pre-commit.js'
import type { RepairReport, SegmentReport } from './repair-report.js'
import { repairSegment } from './repair-segment.js'
import { missingRanges, orphanIndexes, strayFiles } from './repair-strays.js'

export interface RepairOptions {
  /** Find out and report, but write nothing. */
  readonly dryRun?: boolean
  readonly onProgress?: (progress: RepairProgress) => void
  readonly signal?: AbortSignal
  /** Milliseconds to wait for each lock before JLOG_ERR_LOCK. Default 5000. */
  readonly lockTimeout?: number
}

export interface RepairProgress {
  /** Segments done, and all of them. */
  readonly segment: number
  readonly segments: number
  /** Bytes looked at of the segment at hand. */
  readonly bytes: number
}

/**
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR; JLOG_ERR_META_OPEN when it is no journal; JLOG_ERR_LOCK when
 *   another process holds one of its files; JLOG_ERR_NOT_SUPPORTED for one of the other byte order. What was done
 *   until then is whole, and the next repair goes on from there
 */
export async function repairJournal(
  dir: string,
  options: RepairOptions = {},
): Promise<RepairReport> {
  const dryRun = options.dryRun ?? false
  const { lockTimeout } = options
  const listing = await listJournal(dir)
  if (![...listing.names].some((name) => isJournalFile(name))) {
    throw new JlogError('JLOG_ERR_META_OPEN', 'this directory is no journal', { file: dir })
  }
  const { report: metastore, meta } = await repairMetastore(dir, listing.segments, {
    dryRun,
    lockTimeout,
  })
  const segments = await repairSegments(dir, listing.segments, meta, options)
  const left = segments.filter(({ bytesAfter, log }) => bytesAfter > 0 || log >= meta.storageLog)
  const empty = segments.filter((segment) => !left.includes(segment))
  if (!dryRun) for (const { log } of empty) await removeEmpty(dir, log)
  const orphans = orphanIndexes(listing)
  if (!dryRun) for (const name of orphans) await moveAside(dir, name)
  const preCommit = await repairPreCommit(dir, meta.hdrMagic, { dryRun, lockTimeout })
  const subscribers = await repairCheckpoints(dir, {
    dryRun,
    storageLog: meta.storageLog,
    segments: left,
    recount: (log) => countRecords(dir, log, meta.hdrMagic, left, dryRun),
    lockTimeout,
  })
  if (!dryRun) await syncDirectory(dir)
  const moved = subscribers.some(
    ({ before, after, reason }) => reason !== 'left-alone' && before !== after,
  )
  return {
    directory: dir,
    dryRun,
    changed:
      metastore.changed ||
      preCommit.changed ||
      moved ||
      empty.length > 0 ||
      orphans.length > 0 ||
      segments.some(({ changed }) => changed),
    records: left.reduce((sum, { records }) => sum + records, 0),
    metastore,
    preCommit,
    segments,
    missing: missingRanges(listing.segments),
    emptyRemoved: empty.map(({ file }) => file),
    orphanIndexes: orphans,
    subscribers,
    strays: strayFiles(listing),
  }
}

async function repairSegments(
  dir: string,
  logs: readonly number[],
  meta: { readonly hdrMagic: number; readonly storageLog: number },
  { dryRun, lockTimeout, signal, onProgress }: RepairOptions,
): Promise<SegmentReport[]> {
  const reports: SegmentReport[] = []
  for (const [i, log] of logs.entries()) {
    signal?.throwIfAborted()
    const progress = (bytes: number) => onProgress?.({ segment: i, segments: logs.length, bytes })
    try {
      reports.push(
        await repairSegment(dir, log, {
          hdrMagic: meta.hdrMagic,
          live: log >= meta.storageLog,
          dryRun: dryRun ?? false,
          signal,
          onProgress: progress,
          ...(lockTimeout === undefined ? {} : { lockTimeout }),
        }),
      )
    } catch (error) {
      await assertGone(dir, log, error)
    }
  }
  return reports
}

/** Records that are in a segment now, or will be once it is repaired; 0 when it is not there. */
async function countRecords(
  dir: string,
  log: number,
  hdrMagic: number,
  known: readonly SegmentReport[],
  dryRun: boolean,
): Promise<number> {
  const report = known.find((segment) => segment.log === log)
  if (dryRun || report === undefined) {
    const { segments } = await listJournal(dir)
    if (report !== undefined || !segments.includes(log)) return report?.records ?? 0
  }
  try {
    return (await repairSegment(dir, log, { hdrMagic, dryRun: true })).records
  } catch (error) {
    await assertGone(dir, log, error)
    return 0
  }
}

/** Removed since it was listed, because all had read it: there is nothing to repair, and no error. */
async function assertGone(dir: string, log: number, error: unknown): Promise<void> {
  if (errnoOf(error) !== 'ENOENT' || (await exists(join(dir, segmentFile(log))))) throw error
}

/** Only if it is empty still, under its lock. */
async function removeEmpty(dir: string, log: number): Promise<void> {
  const file = await JournalFile.open(join(dir, segmentFile(log)), { write: true })
  try {
    await file.lock()
    if (file.size() > 0) return
    await moveAside(dir, indexFile(log))
    await removeIfThere(file.path)
  } finally {
    await file.close()
  }
}

function isJournalFile(name: string): boolean {
  return name === METASTORE_FILE || /^[0-9a-f]{8}$/.test(name) || name.startsWith('cp.')
}
