/**
 * Makes one segment whole: cuts what no rule confirms, keeps every confirmed record in order, destroys no byte. The
 * same code serves a reader that meets a damaged finished segment, and the repair of a whole journal.
 *
 * Works under the segment's lock, and only by a plan (see repair-plan), so it may be killed anywhere and run again.
 * The segment being written is repaired only when the caller says that it is that one.
 */
import { fstatSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ChecksumAppender, SegmentChecksums } from './checksums.js'
import { DamageBytes } from './damage-bytes.js'
import { type Extent, scanSegment } from './damage-scan.js'
import { JlogError } from './errors.js'
import { JournalFile, syncDirectory } from './file.js'
import { headerBytes, indexFile, segmentFile } from './format.js'
import { freeAsideName, moveAside, openIfThere, removeIfThere } from './repair-aside.js'
import {
  carryOut,
  commitPlan,
  copyBytes,
  type RepairPlan,
  readPlan,
  repairFiles,
} from './repair-plan.js'
import { CutList, type SegmentReport, shiftReport } from './repair-report.js'
import { type CheckpointShift, checkpointsIn } from './repair-shifts.js'

const MODE_BITS = 0o777
const MOST_TRIES = 5
/** Entries of the records of one extent are held in memory. */
const CHECKED_EXTENT_BYTES = 1024 * 1024

export interface RepairSegmentOptions {
  /** The journal's magic; 0 for a legacy one. */
  readonly hdrMagic: number
  /** It is the segment being written: it is then changed in place. Default false. */
  readonly live?: boolean
  /** Find out and report, but write nothing. */
  readonly dryRun?: boolean
  /** Milliseconds to wait for a lock. Default 5000. */
  readonly lockTimeout?: number
  readonly signal?: AbortSignal | undefined
  /** Called now and then with the bytes of this segment looked at so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined
}

/**
 * @throws JlogError JLOG_ERR_LOCK when somebody holds the segment; JLOG_ERR_FILE_* when files cannot be read or
 *   written, JLOG_ERR_FILE_OPEN when the segment is not there
 */
export async function repairSegment(
  dir: string,
  log: number,
  options: RepairSegmentOptions,
): Promise<SegmentReport> {
  const path = join(dir, segmentFile(log))
  if (options.dryRun) {
    const segment = await JournalFile.open(path)
    try {
      return (await examine(dir, log, segment, await settledSize(path, segment), options)).report
    } finally {
      await segment.close()
    }
  }
  let resumed = false
  for (let tries = 1; ; tries++) {
    const segment = await openLocked(path, options.lockTimeout ?? 5000)
    try {
      // After that the lock may be on a file that was replaced, so the repaired one is looked at like any other.
      if (await resumePlan(dir, log, segment)) {
        resumed = true
        continue
      }
      const report = await repairLocked(dir, log, segment, options)
      if (report !== null) return resumed ? { ...report, changed: true, resumed } : report
      if (tries >= MOST_TRIES) {
        throw new JlogError('JLOG_ERR_LOCK', 'subscribers kept reading the segment under repair', {
          file: path,
          segment: log,
          advice: 'stop its readers and repair again',
        })
      }
    } finally {
      await segment.close()
    }
  }
}

/** Completes what an interrupted repair of the segment had decided. @returns whether there was anything */
async function resumePlan(dir: string, log: number, segment: JournalFile): Promise<boolean> {
  const plan = await readPlan(dir, log)
  if (plan !== null) {
    await carryOut(dir, plan, segment)
    return true
  }
  // Copies of a repair that never came to a plan: the segment holds all of it.
  const { cut, fresh, sums } = repairFiles(log)
  for (const name of [cut, fresh, sums]) await removeIfThere(join(dir, name))
  return false
}

/** @returns null when a subscriber moved in the segment meanwhile: to be done again */
async function repairLocked(
  dir: string,
  log: number,
  segment: JournalFile,
  options: RepairSegmentOptions,
): Promise<SegmentReport | null> {
  const found = await examine(dir, log, segment, segment.size(), options)
  const { report } = found
  if (report.cutRanges > 0) {
    const mode = (await stat(segment.path)).mode & MODE_BITS
    const plan = planFor(log, found, options)
    await writeCopies(dir, plan, segment, options, mode)
    await commitPlan(dir, plan, mode)
    const done = await carryOut(dir, plan, segment)
    if (done === null) return null
    return { ...report, cutFile: done.cutFile, indexFile: done.indexFile }
  }
  if (report.index !== 'moved-aside') return report
  const indexAside = await moveAside(dir, indexFile(log))
  await syncDirectory(dir)
  return { ...report, indexFile: indexAside }
}

interface Examined {
  readonly report: SegmentReport
  readonly firstCut: number
  /** There is one range, and it goes to the end. */
  readonly tailOnly: boolean
  readonly shifts: readonly CheckpointShift[]
}

/** Scans, and makes out the report as it will be when the repair is done. */
async function examine(
  dir: string,
  log: number,
  segment: JournalFile,
  size: number,
  options: RepairSegmentOptions,
): Promise<Examined> {
  const subscribers = await checkpointsIn(dir, log)
  /** Of each subscriber: kept records that it is sure to have read. */
  const read = subscribers.map(() => 0)
  const cuts = new CutList()
  let records = 0
  let end = 0
  let firstCut = size
  const summary = await scan(dir, log, segment, size, options, {
    record: (_offset, _end, ordinal) => {
      for (let i = 0; i < subscribers.length; i++)
        if (ordinal <= subscribers[i]!.id.marker) read[i]!++
    },
    extent: (extent) => {
      end = extent.end
      if (extent.kind === 'kept') {
        records += extent.records
        return
      }
      if (cuts.ranges === 0) firstCut = extent.offset
      cuts.add(extent)
    },
  })
  const shifts: CheckpointShift[] = []
  if (cuts.ranges > 0) {
    subscribers.forEach(({ file, id }, i) => {
      const marker = Math.min(read[i]!, records)
      if (marker !== id.marker) shifts.push({ file, from: id, to: { log, marker } })
    })
  }
  // An index that says "finished" would keep readers from what is appended to the segment being written.
  const unfit = summary.index === 'unsound' || (options.live === true && summary.indexClosed)
  const name = segmentFile(log)
  const report: SegmentReport = {
    file: name,
    log,
    changed: cuts.ranges > 0 || unfit,
    resumed: false,
    bytesBefore: size,
    bytesAfter: size - cuts.bytes,
    records,
    cut: cuts.listed,
    omitted: cuts.omitted,
    cutRanges: cuts.ranges,
    cutBytes: cuts.bytes,
    uncertain: cuts.uncertain,
    cutFile: cuts.ranges > 0 ? await freeAsideName(dir, name) : null,
    index: unfit ? 'moved-aside' : summary.index === 'absent' ? 'absent' : 'sound',
    indexFile: unfit ? await freeAsideName(dir, indexFile(log)) : null,
    checkpoints: shifts.map(({ file, from, to }) => shiftReport(file, from, to)),
  }
  return { report, firstCut, tailOnly: firstCut + cuts.bytes === size && end === size, shifts }
}

function planFor(log: number, found: Examined, options: RepairSegmentOptions): RepairPlan {
  const { report, firstCut, tailOnly, shifts } = found
  return {
    version: 1,
    log,
    // A finished segment is never made shorter in place: a writer that missed the roll would find room in it again.
    mode: !options.live ? 'replace' : tailOnly ? 'truncate' : 'rewrite',
    size: report.bytesBefore,
    newSize: report.bytesAfter,
    firstCut,
    dropIndex: report.index === 'moved-aside',
    checkpoints: shifts,
  }
}

/** The cut bytes, and the segment without them, as synced files of their own. The scan finds the same extents again. */
async function writeCopies(
  dir: string,
  plan: RepairPlan,
  segment: JournalFile,
  options: RepairSegmentOptions,
  mode: number,
): Promise<void> {
  const names = repairFiles(plan.log)
  const cut = await JournalFile.open(join(dir, names.cut), { create: mode, exclusive: true })
  const fresh = await JournalFile.open(join(dir, names.fresh), { create: mode, exclusive: true })
  const sums = await ChecksumAppender.openPath(join(dir, names.sums), 0, mode)
  try {
    if (plan.mode === 'truncate') {
      await copyBytes(segment, plan.newSize, plan.size, cut, 0)
    } else {
      let cutAt = 0
      let freshAt = 0
      let recordAt = 0
      await scan(dir, plan.log, segment, plan.size, options, {
        record: (offset, end, _ordinal, checksums) => {
          if (checksums?.last) sums.noteEntry({ ...checksums.last, offset: recordAt })
          recordAt += end - offset
        },
        extent: async ({ kind, offset, end }) => {
          await sums.flush()
          const bytes = end - offset
          if (kind === 'kept') await copyBytes(segment, offset, end, fresh, freshAt)
          else await copyBytes(segment, offset, end, cut, cutAt)
          if (kind === 'kept') freshAt += bytes
          else cutAt += bytes
        },
      })
      if (freshAt !== plan.newSize || freshAt + cutAt !== plan.size) {
        throw new JlogError('JLOG_ERR_FILE_CORRUPT', 'the segment changed while it was repaired', {
          file: segment.path,
          segment: plan.log,
          advice: 'see which program writes to it without taking its lock, and repair again',
        })
      }
    }
    for (const file of [cut, fresh, sums]) await file.sync()
    await syncDirectory(dir)
  } finally {
    for (const file of [cut, fresh, sums]) await file.close()
  }
}

interface ScanVisitor {
  readonly record?: (
    offset: number,
    end: number,
    ordinal: number,
    checksums: SegmentChecksums | null,
  ) => void
  readonly extent: (extent: Extent) => void | Promise<void>
}

async function scan(
  dir: string,
  log: number,
  segment: JournalFile,
  size: number,
  options: RepairSegmentOptions,
  visitor: ScanVisitor,
) {
  const index = await openIfThere(join(dir, indexFile(log)))
  const checksums = await SegmentChecksums.open(dir, log, segment, headerBytes(options.hdrMagic))
  try {
    const bytes = new DamageBytes(segment.fd, size, segment.path)
    const walk = scanSegment(
      bytes,
      options.hdrMagic,
      {
        index: index === null ? undefined : new DamageBytes(index.fd, index.size(), index.path),
        checksums: checksums ?? undefined,
      },
      (offset, end, ordinal) => visitor.record?.(offset, end, ordinal, checksums),
      checksums === null ? undefined : CHECKED_EXTENT_BYTES,
    )
    for (;;) {
      options.signal?.throwIfAborted()
      const step = await walk.next()
      if (step.done) return step.value
      await visitor.extent(step.value)
      options.onProgress?.(step.value.end)
    }
  } finally {
    await index?.close()
    await checksums?.close()
  }
}

/** Opens and locks the file of that name: not one that was replaced while its lock was waited for. */
async function openLocked(path: string, timeout: number): Promise<JournalFile> {
  for (;;) {
    const file = await JournalFile.open(path, { write: true })
    try {
      await file.lock({ timeout })
      const there = await stat(path)
      if (there.ino === fstatSync(file.fd).ino) return file
    } catch (error) {
      await file.close()
      throw error
    }
    await file.close()
  }
}

/**
 * A size at which no append is under way: what lies before it changes no more, and needs no lock to be looked at.
 * Where the lock cannot be had (no right to write, somebody holds it), the size as it is.
 */
async function settledSize(path: string, segment: JournalFile): Promise<number> {
  const file = await JournalFile.open(path, { write: true }).catch(() => null)
  if (file === null) return segment.size()
  try {
    await file.lock({ timeout: 1000 }).catch(() => {})
    return segment.size()
  } finally {
    await file.close()
  }
}
