/**
 * Moving checkpoints along when records before them are cut from their segment, so that each subscriber's next record
 * stays the same. They are moved before the segment changes, and stay locked until it has: a crash in between makes a
 * subscriber read something twice at worst, and never skip.
 */
import { join } from 'node:path'
import { CHECKPOINT_FILE_ERRORS, errnoOf, JournalFile } from './file.js'
import { CHECKPOINT_BYTES, decodeCheckpoint, encodeCheckpoint } from './format.js'
import { listJournal } from './journal-directory.js'
import { compareLogIds, type LogId } from './log-id.js'

/** Subscribers whose names begin with `~` are their owners' own business (see repair in the format). */
const LEFT_ALONE = 'cp.7e'

export interface CheckpointShift {
  /** Name of the checkpoint file. */
  readonly file: string
  readonly from: LogId
  readonly to: LogId
}

export function isLeftAlone(checkpointFile: string): boolean {
  return checkpointFile.startsWith(LEFT_ALONE)
}

/** Checkpoints that stand in segment `log`, past its beginning. */
export async function checkpointsIn(
  dir: string,
  log: number,
): Promise<{ file: string; id: LogId }[]> {
  const found: { file: string; id: LogId }[] = []
  for (const file of (await listJournal(dir)).checkpoints) {
    if (isLeftAlone(file)) continue
    const id = await readCheckpointFile(dir, file)
    if (id !== null && id.log === log && id.marker > 0) found.push({ file, id })
  }
  return found
}

/** @returns null when it is gone or has the wrong size */
export async function readCheckpointFile(dir: string, name: string): Promise<LogId | null> {
  const file = await JournalFile.open(join(dir, name), { errors: CHECKPOINT_FILE_ERRORS }).catch(
    (error) => {
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    },
  )
  if (file === null) return null
  try {
    return decodeCheckpoint(await file.read(0, CHECKPOINT_BYTES + 1))
  } finally {
    await file.close()
  }
}

/** Locked checkpoint files, to be closed when the segment has changed. */
export type HeldCheckpoints = readonly JournalFile[]

/**
 * Moves the checkpoints and keeps them locked. One that was moved already is left as it is.
 * @returns null, and nothing is held, when a subscriber has moved since the shifts were made out
 */
export async function applyShifts(
  dir: string,
  shifts: readonly CheckpointShift[],
): Promise<HeldCheckpoints | null> {
  const held: JournalFile[] = []
  try {
    for (const { file: name, from, to } of shifts) {
      const file = await JournalFile.open(join(dir, name), {
        write: true,
        errors: CHECKPOINT_FILE_ERRORS,
      }).catch((error) => {
        if (errnoOf(error) === 'ENOENT') return null
        throw error
      })
      if (file === null) continue
      held.push(file)
      await file.lock()
      const id = decodeCheckpoint(await file.read(0, CHECKPOINT_BYTES + 1))
      if (id !== null && compareLogIds(id, to) === 0) continue
      if (id === null || compareLogIds(id, from) !== 0) {
        await release(held)
        return null
      }
      await file.write(encodeCheckpoint(to), 0)
      await file.sync()
    }
  } catch (error) {
    await release(held)
    throw error
  }
  return held
}

export async function release(held: HeldCheckpoints): Promise<void> {
  for (const file of held) await file.close()
}

export function isCheckpointShift(value: unknown): value is CheckpointShift {
  if (typeof value !== 'object' || value === null) return false
  const { file, from, to } = value as Partial<Record<keyof CheckpointShift, unknown>>
  return typeof file === 'string' && /^cp\.[0-9a-f]+$/.test(file) && isLogId(from) && isLogId(to)
}

function isLogId(value: unknown): value is LogId {
  if (typeof value !== 'object' || value === null) return false
  const { log, marker } = value as Partial<Record<keyof LogId, unknown>>
  return isU32(log) && isU32(marker)
}

function isU32(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffffffff
}
