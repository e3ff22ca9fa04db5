/**
 * Puts subscribers' checkpoints right, once segments and metastore are: never past an unread record, and past none
 * that is to come. A file of the wrong size goes to the beginning: reading twice is safe, skipping is not.
 */
import { join } from 'node:path'
import { CHECKPOINT_FILE_ERRORS, errnoOf, JournalFile } from './file.js'
import {
  CHECKPOINT_BYTES,
  decodeCheckpoint,
  encodeCheckpoint,
  parseCheckpointFile,
} from './format.js'
import { listJournal } from './journal-directory.js'
import { compareLogIds, formatLogId, type LogId, parseLogId } from './log-id.js'
import { copyAside, exists, replaceFile } from './repair-aside.js'
import type { CheckpointChange, SegmentReport } from './repair-report.js'
import { isLeftAlone, readCheckpointFile } from './repair-shifts.js'

export interface CheckpointContext {
  readonly dryRun: boolean
  readonly storageLog: number
  /** Segments that are there when repair is done, ascending. */
  readonly segments: readonly Pick<SegmentReport, 'log' | 'records' | 'checkpoints'>[]
  /** Records in a segment now: for one that has grown, or come to be, since it was looked at. */
  readonly recount: (log: number) => Promise<number>
  readonly lockTimeout?: number | undefined
}

export async function repairCheckpoints(
  dir: string,
  context: CheckpointContext,
): Promise<CheckpointChange[]> {
  const changes: CheckpointChange[] = []
  for (const name of (await listJournal(dir)).checkpoints) {
    try {
      changes.push(
        isLeftAlone(name) ? await leaveAlone(dir, name) : await repairOne(dir, name, context),
      )
    } catch (error) {
      // A subscriber that was removed since the directory was listed.
      if (errnoOf(error) !== 'ENOENT' || (await exists(join(dir, name)))) throw error
    }
  }
  return changes
}

async function leaveAlone(dir: string, name: string): Promise<CheckpointChange> {
  const id = await readCheckpointFile(dir, name)
  const text = id === null ? null : formatLogId(id)
  return { ...named(name), before: text, after: text ?? '', reason: 'left-alone' }
}

async function repairOne(
  dir: string,
  name: string,
  context: CheckpointContext,
): Promise<CheckpointChange> {
  const path = join(dir, name)
  const errors = CHECKPOINT_FILE_ERRORS
  const file = await JournalFile.open(path, { write: !context.dryRun, errors })
  try {
    if (!context.dryRun) await file.lock({ timeout: context.lockTimeout ?? 5000 })
    const now = decodeCheckpoint(await file.read(0, CHECKPOINT_BYTES + 1))
    const shift = shiftOf(name, context.segments)
    // In a dry run the shift is still to come.
    const at = shift !== undefined && context.dryRun ? shift.to : now
    const { to, reason } = await place(dir, at, context)
    if (!context.dryRun && (now === null || compareLogIds(now, to) !== 0)) {
      if (now === null) await replace(dir, name, to)
      else {
        await file.write(encodeCheckpoint(to), 0)
        await file.sync()
      }
    }
    const before = shift?.from ?? now
    return {
      ...named(name),
      before: before === null ? null : formatLogId(before),
      after: formatLogId(to),
      reason: reason === 'unchanged' && shift !== undefined ? 'records-cut-before-it' : reason,
    }
  } finally {
    await file.close()
  }
}

/** The bytes of a file of the wrong size are kept in another; at no time is the subscriber without a checkpoint. */
async function replace(dir: string, name: string, to: LogId): Promise<void> {
  await copyAside(dir, name)
  await replaceFile(dir, name, (file) => file.write(encodeCheckpoint(to), 0))
}

/** Where a checkpoint belongs, by the table of the format's "Repair". */
async function place(
  dir: string,
  id: LogId | null,
  { segments, storageLog, recount }: CheckpointContext,
): Promise<{ to: LogId; reason: CheckpointChange['reason'] }> {
  const earliest = segments[0]?.log ?? storageLog
  if (id === null) return { to: { log: earliest, marker: 0 }, reason: 'wrong-size' }
  if (id.log < earliest) {
    return { to: { log: earliest, marker: 0 }, reason: 'before-the-earliest' }
  }
  let newest = Math.max(storageLog, segments.at(-1)?.log ?? 0)
  // Written to meanwhile: a subscriber may be in a segment that was made since.
  if (id.log > newest) newest = Math.max(newest, (await listJournal(dir)).segments.at(-1) ?? 0)
  const log = Math.min(id.log, newest)
  const counted = segments.find((segment) => segment.log === log)?.records ?? 0
  if (id.log === log && id.marker <= counted) return { to: id, reason: 'unchanged' }
  // A segment that is missing holds nothing: whatever is written to it later has not been read.
  const records = await recount(log)
  if (id.log === log && id.marker <= records) return { to: id, reason: 'unchanged' }
  return { to: { log, marker: records }, reason: 'past-the-end' }
}

function shiftOf(
  name: string,
  segments: CheckpointContext['segments'],
): { from: LogId; to: LogId } | undefined {
  for (const { checkpoints } of segments) {
    for (const { file, before, after } of checkpoints) {
      if (file === name) return { from: parseLogId(before), to: parseLogId(after) }
    }
  }
  return undefined
}

function named(file: string): { file: string; subscriber: string } {
  return { file, subscriber: parseCheckpointFile(file)?.toString('utf8') ?? file }
}
