/**
 * The plan of a segment's repair, as a file beside the segment: the one thing that makes repair crash-safe.
 *
 * What is cut and what replaces the segment are first copied to files with fixed names, synced; until the plan is
 * there they mean nothing, and the next repair makes them anew. When the plan is there (one rename) the repair is
 * decided, and everything in `carryOut` can be done again after a crash, with the same result. In order: checkpoints,
 * index, segment, names.
 *
 *     <segment>.repair-cut   the cut bytes, one range after the other      → named <segment>.torn-<n>
 *     <segment>.repair-new   the segment without them (empty: truncate)    → takes the segment's place
 *     <segment>.repair-sum   checksums for that segment                    → takes the place of <segment>.sum
 *     <segment>.repair       the plan, as JSON                             → removed at the end
 *
 * A finished segment is replaced by rename, so whoever has the old one mapped goes on reading the old bytes, and a
 * writer that missed the roll finds it full, as it was. The segment being written is never replaced: other writers have it open, wait for its lock and would then append to a file
 * without a name. It is cut back in place or, for damage in its middle, rewritten in place under its lock.
 */
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { checksumFile } from './checksums.js'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile, readSmallFile, syncDirectory } from './file.js'
import { indexFile, segmentFile } from './format.js'
import { exists, moveAside, removeIfThere, replaceFile } from './repair-aside.js'
import {
  applyShifts,
  type CheckpointShift,
  type HeldCheckpoints,
  isCheckpointShift,
  release,
} from './repair-shifts.js'

const COPY_BYTES = 1024 * 1024
/** Bytes compared to see whether a tail still stands. */
const TAIL_SAMPLE_BYTES = 64 * 1024

/** A plan grows with the checkpoints that it moves; what is larger is none. */
const MOST_PLAN_BYTES = 64 * 1024 * 1024

export type RepairMode = 'truncate' | 'replace' | 'rewrite'

export interface RepairPlan {
  readonly version: 1
  readonly log: number
  readonly mode: RepairMode
  /** Size of the segment when the plan was made. */
  readonly size: number
  /** Its size afterwards. */
  readonly newSize: number
  /** Bytes before this are the same before and after. */
  readonly firstCut: number
  /** The index does not fit the repaired segment. */
  readonly dropIndex: boolean
  readonly checkpoints: readonly CheckpointShift[]
}

export function repairFiles(log: number) {
  const name = segmentFile(log)
  return {
    plan: `${name}.repair`,
    cut: `${name}.repair-cut`,
    fresh: `${name}.repair-new`,
    sums: `${name}.repair-sum`,
  }
}

/** The decision: durable when this returns. */
export async function commitPlan(dir: string, plan: RepairPlan, mode: number): Promise<void> {
  const bytes = Buffer.from(`${JSON.stringify(plan)}\n`)
  await replaceFile(dir, repairFiles(plan.log).plan, (file) => file.write(bytes, 0), mode)
}

/**
 * The plan that an interrupted repair left, or null. What is no plan, or one for another segment, is moved aside:
 * its name is needed.
 */
export async function readPlan(dir: string, log: number): Promise<RepairPlan | null> {
  const { plan } = repairFiles(log)
  let text: string
  try {
    const bytes = await readSmallFile(join(dir, plan), MOST_PLAN_BYTES + 1)
    text = bytes.length <= MOST_PLAN_BYTES ? bytes.toString('utf8') : ''
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
  try {
    const value: unknown = JSON.parse(text)
    if (isPlan(value) && value.log === log) return value
  } catch {
    // Not JSON: no plan.
  }
  await moveAside(dir, plan)
  return null
}

export interface CarriedOut {
  /** Name of the file that holds the cut bytes now; null when an earlier run had named it already. */
  readonly cutFile: string | null
  /** Name under which the index that no longer fits lies now. */
  readonly indexFile: string | null
}

/**
 * Does what the plan says, as far as it is not done. The caller holds the segment's lock by `segment`.
 * @returns null when the plan is out of date: then it is gone, and the segment holds every byte still
 */
export async function carryOut(
  dir: string,
  plan: RepairPlan,
  segment: JournalFile,
): Promise<CarriedOut | null> {
  const files = repairFiles(plan.log)
  const index = indexFile(plan.log)
  let movedIndex: string | null = null
  const fresh = await JournalFile.open(join(dir, files.fresh), { write: true }).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
  // `fresh` goes in the same step in which the segment has changed, so while it is there, the segment has not.
  if (fresh !== null) {
    let held: HeldCheckpoints | null = null
    try {
      if (!(await isStale(dir, plan, segment))) held = await applyShifts(dir, plan.checkpoints)
      if (held === null && plan.mode !== 'rewrite') return await abandon(dir, plan.log)
      if (plan.dropIndex) movedIndex = await moveAside(dir, index)
      await syncDirectory(dir)
      await changeSegment(dir, plan, segment, fresh)
    } finally {
      await fresh.close()
      if (held !== null) await release(held)
    }
  }
  // A reader may have made an index meanwhile, of the bytes as they were.
  if (plan.dropIndex) movedIndex = (await moveAside(dir, index)) ?? movedIndex
  await replaceChecksums(dir, plan)
  const cutFile = await moveAside(dir, files.cut, segmentFile(plan.log))
  await removeIfThere(join(dir, files.plan))
  await syncDirectory(dir)
  return { cutFile, indexFile: movedIndex }
}

/** Checksums of a segment that was only cut back stay: entries for what is gone are never believed. */
async function replaceChecksums(dir: string, { log, mode }: RepairPlan): Promise<void> {
  const from = join(dir, repairFiles(log).sums)
  const to = join(dir, checksumFile(log))
  if (mode !== 'truncate' && (await exists(to)) && (await exists(from))) await rename(from, to)
  else await removeIfThere(from)
}

/** Nothing was changed by the plan, and the segment was by others: its copies are worth nothing. */
async function abandon(dir: string, log: number): Promise<null> {
  const { plan, fresh, cut, sums } = repairFiles(log)
  for (const name of [plan, fresh, cut, sums]) await removeIfThere(join(dir, name))
  await syncDirectory(dir)
  return null
}

async function changeSegment(
  dir: string,
  plan: RepairPlan,
  segment: JournalFile,
  fresh: JournalFile,
): Promise<void> {
  if (plan.mode === 'replace') {
    await rename(fresh.path, segment.path)
  } else if (plan.mode === 'truncate') {
    if (await tailStands(dir, plan, segment)) await segment.truncate(plan.newSize)
    await segment.sync()
    await removeIfThere(fresh.path)
  } else {
    const all = await withAppended(dir, plan, segment, fresh)
    await copyBytes(fresh, plan.firstCut, all, segment, plan.firstCut)
    await segment.truncate(all)
    await segment.sync()
    await removeIfThere(fresh.path)
  }
  await syncDirectory(dir)
}

/**
 * When the rewriting was interrupted, another writer may have appended before it could go on. What it appended is
 * taken over, and noted in the plan, so that a second interruption does not double it.
 * @returns the size that the segment will have
 */
async function withAppended(
  dir: string,
  plan: RepairPlan,
  segment: JournalFile,
  fresh: JournalFile,
): Promise<number> {
  const size = segment.size()
  if (size <= plan.size) return plan.newSize
  await fresh.truncate(plan.newSize)
  await copyBytes(segment, plan.size, size, fresh, plan.newSize)
  await fresh.sync()
  const newSize = plan.newSize + size - plan.size
  await commitPlan(dir, { ...plan, size, newSize }, 0o640)
  return newSize
}

/** The plan is for bytes that are no longer what the segment holds, and nothing has been cut yet. */
async function isStale(dir: string, plan: RepairPlan, segment: JournalFile): Promise<boolean> {
  const size = segment.size()
  if (plan.mode === 'truncate') return size !== plan.size && (await tailStands(dir, plan, segment))
  // Rewriting in place may have begun, so there is no way back; bytes appended since are taken over.
  return plan.mode === 'replace' && size !== plan.size
}

/** The tail to be cut still stands where it stood. */
async function tailStands(dir: string, plan: RepairPlan, segment: JournalFile): Promise<boolean> {
  if (segment.size() < plan.size) return false
  const cut = await JournalFile.open(join(dir, repairFiles(plan.log).cut))
  try {
    const sample = Math.min(TAIL_SAMPLE_BYTES, plan.size - plan.newSize)
    return (await cut.read(0, sample)).equals(await segment.read(plan.newSize, sample))
  } finally {
    await cut.close()
  }
}

/** Copies [from, end) of one file to `at` of another, with bounded memory. */
export async function copyBytes(
  source: JournalFile,
  from: number,
  end: number,
  target: JournalFile,
  at: number,
): Promise<void> {
  const piece = Buffer.allocUnsafeSlow(Math.max(1, Math.min(COPY_BYTES, end - from)))
  for (let done = from; done < end; ) {
    const part = piece.subarray(0, Math.min(piece.length, end - done))
    const read = await source.readAt(part, done)
    if (read < part.length) {
      throw new JlogError('JLOG_ERR_FILE_READ', 'the file ends before what is to be copied', {
        file: source.path,
        offset: done + read,
      })
    }
    await target.write(part, at + done - from)
    done += read
  }
}

function isPlan(value: unknown): value is RepairPlan {
  if (typeof value !== 'object' || value === null) return false
  const plan = value as Partial<Record<keyof RepairPlan, unknown>>
  const sizes = [plan.log, plan.size, plan.newSize, plan.firstCut]
  return (
    plan.version === 1 &&
    (plan.mode === 'truncate' || plan.mode === 'replace' || plan.mode === 'rewrite') &&
    typeof plan.dropIndex === 'boolean' &&
    sizes.every((size) => Number.isSafeInteger(size) && (size as number) >= 0) &&
    Array.isArray(plan.checkpoints) &&
    plan.checkpoints.every(isCheckpointShift)
  )
}
