/**
 * Checkpoints (`cp.<hex of the name>`): how far each subscriber has read. Eight bytes, read and written in place under the
 * file's lock, because libjlog keeps such files open; a new one appears with its contents, never empty. Promises that a
 * segment is removed only when no checkpoint is at or before it, and that a checkpoint that cannot be read holds everything.
 */
import { link, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { JlogError } from './errors.js'
import { CHECKPOINT_FILE_ERRORS, errnoOf, JournalFile, syncDirectory } from './file.js'
import {
  CHECKPOINT_BYTES,
  checkpointFile,
  decodeCheckpoint,
  encodeCheckpoint,
  METASTORE_FILE,
  parseCheckpointFile,
  parseSegmentFile,
  SAFETY,
  type Safety,
  segmentFile,
} from './format.js'
import { type JournalListing, listJournal } from './journal-directory.js'
import type { LogId } from './log-id.js'
import { removeIfThere } from './segment-index.js'

const CHECKPOINT_MODE = 0o640
/** The longest name a file may have is 255 bytes: `cp.` and two digits a byte. */
const MAX_NAME_BYTES = 126

/** A subscriber's name: text (taken as UTF-8) or any bytes. */
export type SubscriberName = string | Uint8Array

export class CheckpointFile {
  readonly #dir: string
  readonly #name: SubscriberName
  #file: JournalFile
  /** Told when another file is found to bear the name: perhaps with a whole journal in the place of the old one. */
  onReplaced: () => Promise<void> = async () => {}

  private constructor(dir: string, name: SubscriberName, file: JournalFile) {
    this.#dir = dir
    this.#name = name
    this.#file = file
  }

  /** @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER when there is no such subscriber */
  static async open(dir: string, name: SubscriberName): Promise<CheckpointFile> {
    return new CheckpointFile(dir, name, await openCheckpoint(dir, name))
  }

  /**
   * @returns null when the file has the wrong size: then nothing may be taken as read
   * @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER when the subscriber was removed meanwhile
   */
  async read(): Promise<LogId | null> {
    return this.#locked(() => this.#readNow())
  }

  /**
   * Durable afterwards when the journal's safety is 2. When that fails, it says what it said before.
   * @param judge given what it says before anything is written: what it throws refuses the change
   * @returns what it said before
   * @throws JlogError as `read`
   */
  async write(
    id: LogId,
    safety: Safety,
    judge: (before: LogId | null) => void = () => {},
  ): Promise<LogId | null> {
    return this.#locked(async () => {
      const before = this.#readNow()
      judge(before)
      await this.#file.write(encodeCheckpoint(id), 0)
      if (this.#file.size() > CHECKPOINT_BYTES) await this.#file.truncate(CHECKPOINT_BYTES)
      if (safety === SAFETY.safe) await this.#sync(before)
      return before
    })
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  /** Who is told that it failed takes nothing as read: then the next interval must not begin after it. */
  async #sync(before: LogId | null): Promise<void> {
    try {
      await this.#file.sync()
    } catch (error) {
      if (before !== null) await this.#file.write(encodeCheckpoint(before), 0).catch(() => {})
      throw error
    }
  }

  /** Under the lock of the file that bears the name now, which may be another than was opened. */
  async #locked<T>(work: () => T | Promise<T>): Promise<T> {
    for (;;) {
      await this.#file.lock()
      try {
        if (this.#file.bearsItsName()) return await work()
      } finally {
        this.#file.unlock()
      }
      const replaced = this.#file
      this.#file = await openCheckpoint(this.#dir, this.#name)
      await replaced.close()
      await this.onReplaced()
    }
  }

  #readNow(): LogId | null {
    return decodeCheckpoint(this.#file.readNow(0, CHECKPOINT_BYTES + 1))
  }
}

async function openCheckpoint(dir: string, name: SubscriberName): Promise<JournalFile> {
  const path = join(dir, checkedFile(name))
  try {
    return await JournalFile.open(path, { write: true, errors: CHECKPOINT_FILE_ERRORS })
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    throw unknownSubscriber(dir, name, path)
  }
}

/**
 * Reads a checkpoint without changing anything: under its lock where the file may be opened for writing, plainly otherwise.
 * @returns null when the file has the wrong size
 * @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER
 */
export async function readCheckpoint(dir: string, name: SubscriberName): Promise<LogId | null> {
  const path = join(dir, checkedFile(name))
  let file: JournalFile
  let lockable = true
  try {
    file = await JournalFile.open(path, { write: true, errors: CHECKPOINT_FILE_ERRORS }).catch(
      (error: unknown) => {
        const errno = errnoOf(error)
        if (errno !== 'EACCES' && errno !== 'EROFS' && errno !== 'EPERM') throw error
        lockable = false
        return JournalFile.open(path, { errors: CHECKPOINT_FILE_ERRORS })
      },
    )
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw unknownSubscriber(dir, name, path)
    throw error
  }
  try {
    const read = () => decodeCheckpoint(file.readNow(0, CHECKPOINT_BYTES + 1))
    return lockable ? await file.withLock(read) : read()
  } finally {
    await file.close()
  }
}

/**
 * A new subscriber with its checkpoint, durable with its directory entry.
 * @throws JlogError JLOG_ERR_SUBSCRIBER_EXISTS
 */
export async function createCheckpoint(
  dir: string,
  name: SubscriberName,
  id: LogId,
): Promise<void> {
  if (name.length === 0) throw impossibleName(0)
  const path = join(dir, checkedFile(name))
  const mode = await fileMode(dir)
  // Not beginning with `cp.`: libjlog takes every such file for a subscriber.
  const fresh = join(dir, `new-${process.pid}-${unique++}.${checkedFile(name).slice(0, 64)}`)
  const file = await JournalFile.open(fresh, {
    create: mode,
    exclusive: true,
    errors: CHECKPOINT_FILE_ERRORS,
  })
  try {
    await file.write(encodeCheckpoint(id), 0)
    await file.sync()
    await link(fresh, path)
  } catch (error) {
    if (error instanceof JlogError) throw error
    if (errnoOf(error) !== 'EEXIST') {
      throw new JlogError('JLOG_ERR_CHECKPOINT', 'cannot make the checkpoint', {
        file: path,
        cause: error,
      })
    }
    throw new JlogError('JLOG_ERR_SUBSCRIBER_EXISTS', 'there is such a subscriber already', {
      file: path,
      advice: 'set its checkpoint, or choose another name',
    })
  } finally {
    await file.close()
    await unlink(fresh)
  }
  await syncDirectory(dir)
}

let unique = 0

/** As `createCheckpoint` names a checkpoint before it appears under its name. */
const UNFINISHED = /^new-\d+-\d+\.cp\./
const UNFINISHED_MS = 60_000

/** Removes what processes have left that died while they added a subscriber. */
export async function removeUnfinishedCheckpoints(dir: string): Promise<void> {
  for (const name of (await listJournal(dir)).names) {
    if (!UNFINISHED.test(name)) continue
    const path = join(dir, name)
    const found = await stat(path).catch(() => null)
    if (found !== null && Date.now() - found.mtimeMs > UNFINISHED_MS) await removeIfThere(path)
  }
}

/** The mode that the journal's files have. */
async function fileMode(dir: string): Promise<number> {
  const metastore = await stat(join(dir, METASTORE_FILE)).catch(() => null)
  return metastore === null ? CHECKPOINT_MODE : metastore.mode & 0o777
}

/** @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER */
export async function removeCheckpoint(dir: string, name: SubscriberName): Promise<void> {
  const path = join(dir, checkedFile(name))
  if (!(await removeIfThere(path, 'JLOG_ERR_CHECKPOINT'))) throw unknownSubscriber(dir, name, path)
  await syncDirectory(dir)
}

export interface Subscriber {
  /** The name as UTF-8 text; bytes that are none are shown as U+FFFD. */
  readonly name: string
  readonly nameBytes: Buffer
  /** Null when the checkpoint file has the wrong size. */
  readonly checkpoint: LogId | null
}

/** All subscribers, sorted by the bytes of their names. */
export async function readCheckpoints(dir: string): Promise<Subscriber[]> {
  const all: Subscriber[] = []
  for await (const subscriber of eachCheckpoint(dir)) all.push(subscriber)
  return all
}

async function* eachCheckpoint(
  dir: string,
  names?: readonly string[],
): AsyncGenerator<Subscriber, void, undefined> {
  for (const name of names ?? (await listJournal(dir)).checkpoints) {
    const nameBytes = parseCheckpointFile(name)!
    try {
      const checkpoint = await readCheckpoint(dir, nameBytes)
      yield { name: nameBytes.toString('utf8'), nameBytes, checkpoint }
    } catch (error) {
      // Removed since it was listed.
      if (!(error instanceof JlogError) || error.code !== 'JLOG_ERR_INVALID_SUBSCRIBER') throw error
    }
  }
}

export interface PendingReaders {
  /** Subscribers whose checkpoint is in segment `log` or before it. */
  readonly readers: number
  /** The earliest segment that any checkpoint is in; null when there is no subscriber. */
  readonly earliest: number | null
}

/** Who still needs segment `log`. A checkpoint that cannot be read counts as needing everything. */
export async function pendingReaders(dir: string, log: number): Promise<PendingReaders> {
  const logs = (await readCheckpoints(dir)).map(({ checkpoint }) => checkpoint?.log ?? 0)
  return {
    readers: logs.filter((needed) => needed <= log).length,
    earliest: logs.length === 0 ? null : Math.min(...logs),
  }
}

/** The earliest segment that any checkpoint is in, or one that is at or before `enough`; null when there is no subscriber. */
async function earliestNeeded(
  dir: string,
  enough: number,
  names?: readonly string[],
): Promise<number | null> {
  let earliest: number | null = null
  for await (const { checkpoint } of eachCheckpoint(dir, names)) {
    const log = checkpoint?.log ?? 0
    if (earliest === null || log < earliest) earliest = log
    if (earliest <= enough) break
  }
  return earliest
}

export interface CleanOptions {
  /** What to do when nobody subscribes: remove nothing (default), or all but the segment being written. */
  readonly unsubscribed?: 'keep' | 'remove'
}

/**
 * Removes the segments that no checkpoint is at or before, with their indexes and the like; never the one being written, and no file
 * that holds quarantined bytes. When there is no subscriber (one whose name begins with a tilde only keeps its place), none; or all
 * finished ones, if the caller says so.
 * @param listed what a caller knows already, perhaps not the latest: it may save a listing
 * @returns numbers of the segments removed
 */
export async function removeConsumedSegments(
  dir: string,
  { unsubscribed = 'keep' }: CleanOptions = {},
  listed?: JournalListing,
): Promise<number[]> {
  // Mostly somebody needs the oldest segment, and that is that, however old the listing is that names them.
  if (listed !== undefined && (await isHeld(dir, listed))) return []
  // The listing comes first: a segment made after it is not in it, whatever the checkpoints say then.
  const { segments, names } = await listJournal(dir)
  const [oldest] = segments
  const newest = segments.at(-1)
  if (oldest === undefined || newest === undefined) return []
  if (unsubscribed === 'keep' && !names.some(isReadersCheckpoint)) return []
  const needed = await earliestNeeded(dir, oldest)
  const earliest = needed ?? (unsubscribed === 'remove' ? newest : null)
  if (earliest === null) return []
  const consumed = segments.filter((log) => log < earliest && log < newest)
  for (const log of consumed) await removeIfThere(join(dir, segmentFile(log)))
  // Also those whose segment went before them, in a process that died in between.
  const limit = Math.min(earliest, newest)
  for (const name of names) if (isBeside(name, limit)) await removeIfThere(join(dir, name))
  return consumed
}

/**
 * As `removeConsumedSegments`, after a checkpoint has moved: what cannot be removed is left for the next to try, because the one who moved
 * it must not be told that it was not moved.
 */
export async function tryToRemoveConsumed(dir: string, listed?: JournalListing): Promise<void> {
  try {
    await removeConsumedSegments(dir, {}, listed)
  } catch (error) {
    if (!(error instanceof JlogError)) throw error
  }
}

async function isHeld(dir: string, { segments, checkpoints }: JournalListing): Promise<boolean> {
  const [oldest] = segments
  const needed = oldest === undefined ? null : await earliestNeeded(dir, oldest, checkpoints)
  return needed !== null && needed <= oldest!
}

/** A checkpoint of somebody who reads; names with a tilde are for those who only keep a place. */
function isReadersCheckpoint(name: string): boolean {
  return name.startsWith('cp.') && !name.startsWith('cp.7e')
}

/** What stands beside a segment and is worth nothing without it: its index, its checksums. */
const BESIDE = /^[0-9a-f]{8}\.(?:idx|sum)$/

/** Does this stand beside a segment before `limit`? */
function isBeside(name: string, limit: number): boolean {
  return BESIDE.test(name) && parseSegmentFile(name.slice(0, 8))! < limit
}

/** Also of the name without a byte: ours is never made, but libjlog's may be there, and holds segments as any. */
function checkedFile(name: SubscriberName): string {
  const bytes = typeof name === 'string' ? Buffer.byteLength(name) : name.length
  if (bytes <= MAX_NAME_BYTES) return checkpointFile(name)
  throw impossibleName(bytes)
}

function impossibleName(bytes: number): JlogError {
  return new JlogError(
    'JLOG_ERR_INVALID_SUBSCRIBER',
    `a subscriber's name has 1 to ${MAX_NAME_BYTES} bytes, this one has ${bytes}`,
  )
}

function unknownSubscriber(dir: string, name: SubscriberName, file: string): JlogError {
  const shown = typeof name === 'string' ? name : Buffer.from(name).toString('utf8')
  return new JlogError(
    'JLOG_ERR_INVALID_SUBSCRIBER',
    `there is no subscriber ${JSON.stringify(shown)} in ${dir}`,
    {
      file,
      advice: 'add it first, or look at the list of subscribers',
    },
  )
}
