/**
 * A journal as a whole: what it is like now, and the operations on its directory that are neither writing nor
 * reading. Describing writes nothing.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type CleanOptions,
  readCheckpoints,
  removeConsumedSegments,
  removeUnfinishedCheckpoints,
} from './checkpoints.js'
import type { Compression } from './create.js'
import { errnoOf, JournalFile, PRE_COMMIT_FILE_ERRORS } from './file.js'
import {
  COMPRESSION_PROVIDERS,
  compressionProvider,
  isCompressed,
  METASTORE_FILE,
  PRE_COMMIT_FILE,
  PRE_COMMIT_HEADER_BYTES,
  type Safety,
  segmentFile,
} from './format.js'
import { type JournalListing, listJournal } from './journal-directory.js'
import { countRecords } from './journal-end.js'
import { compareLogIds, type LogId } from './log-id.js'
import { PreCommit } from './pre-commit.js'
import { readIndexDetails, segmentStart } from './segment-index.js'
import { type JournalSettings, readSettings } from './settings.js'

export interface SegmentInfo {
  readonly log: number
  readonly bytes: number
  /** Complete records up to its end or the first damage. */
  readonly records: number
  /** Whether its index is there and closed. */
  readonly indexClosed: boolean
}

export interface SubscriberInfo {
  readonly name: string
  readonly nameBytes: Buffer
  readonly checkpoint: LogId
  /** What it has not read yet. Bytes are those on disk; of the segment it is in, in proportion to the records. */
  readonly lag: { readonly records: number; readonly bytes: number }
}

export interface JournalInfo {
  readonly dir: string
  /** Bytes after which a segment is finished. */
  readonly unitLimit: number
  readonly safety: Safety
  readonly compression: Compression
  /** The magic of every record. */
  readonly hdrMagic: number
  /** False when the metastore is missing or damaged, and the rest was found from the segments. */
  readonly metastoreSound: boolean
  /** The segment being written. */
  readonly storageLog: number
  /** The first and the last record there is; null when there is none. */
  readonly first: LogId | null
  readonly last: LogId | null
  readonly records: number
  /** Bytes of all segments. */
  readonly bytes: number
  /** Bytes of all files. */
  readonly rawBytes: number
  readonly segments: readonly SegmentInfo[]
  readonly subscribers: readonly SubscriberInfo[]
  /** Null when there is no pre-commit file. Sizes in bytes, without its count word. */
  readonly preCommit: { readonly size: number; readonly pending: number } | null
}

/** @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN */
export async function describeJournal(dir: string): Promise<JournalInfo> {
  const listing = await listJournal(dir)
  const settings = await readSettings(dir, listing)
  const segments = await describeSegments(dir, listing, settings)
  const filled = segments.filter(({ records }) => records > 0)
  const [first, last] = [filled[0], filled.at(-1)]
  return {
    dir,
    unitLimit: settings.unitLimit,
    safety: settings.safety,
    compression: compressionOf(settings.hdrMagic),
    hdrMagic: settings.hdrMagic,
    metastoreSound: settings.metastore !== null,
    storageLog: settings.storageLog,
    first: first === undefined ? null : { log: first.log, marker: 1 },
    last: last === undefined ? null : { log: last.log, marker: last.records },
    records: sum(segments, ({ records }) => records),
    bytes: sum(segments, ({ bytes }) => bytes),
    rawBytes: await rawSize(dir, listing),
    segments,
    subscribers: (await readCheckpoints(dir)).map(({ name, nameBytes, checkpoint }) => {
      const at = checkpoint ?? segmentStart(0)
      return { name, nameBytes, checkpoint: at, lag: lagAfter(at, segments) }
    }),
    preCommit: await describePreCommit(dir),
  }
}

/** Bytes of all files in the directory (libjlog's jlog_raw_size). */
export async function rawSize(dir: string, listing?: JournalListing): Promise<number> {
  const { names } = listing ?? (await listJournal(dir))
  let bytes = 0
  for (const name of names) {
    const found = await statIfThere(join(dir, name))
    if (found?.isFile()) bytes += found.size
  }
  return bytes
}

/**
 * Removes every segment that no subscriber is in or before, with its index; never the one being written, and, unless `options` say
 * otherwise, none when there is no subscriber.
 * @returns numbers of the segments removed
 */
export async function cleanJournal(dir: string, options: CleanOptions = {}): Promise<number[]> {
  await readSettings(dir)
  await removeUnfinishedCheckpoints(dir)
  return removeConsumedSegments(dir, options)
}

/**
 * The id after `current` in an interval, or, when `current` is its last, the place where reading goes on: the first record of
 * the next segment that exists when there is one, else the one after `current`.
 */
export async function advanceId(dir: string, current: LogId, last: LogId): Promise<LogId> {
  const following = { log: current.log, marker: current.marker + 1 }
  if (compareLogIds(current, last) < 0) return following
  const { segments } = await listJournal(dir)
  const next = segments.find((log) => log > current.log)
  if (next === undefined) return following
  const { hdrMagic } = await readSettings(dir)
  const there = await countRecords(dir, current.log, hdrMagic)
  return current.marker >= there ? { log: next, marker: 1 } : following
}

async function describeSegments(
  dir: string,
  { segments }: JournalListing,
  { hdrMagic }: JournalSettings,
): Promise<SegmentInfo[]> {
  const described: SegmentInfo[] = []
  for (const log of segments) {
    const found = await statIfThere(join(dir, segmentFile(log)))
    if (found === null) continue
    const index = await readIndexDetails(dir, log)
    // A closed index was made by a walk that ended well; without one the records are counted.
    const records = index?.closed ? index.records : await countRecords(dir, log, hdrMagic)
    described.push({ log, bytes: found.size, records, indexClosed: index?.closed ?? false })
  }
  return described
}

function lagAfter(at: LogId, segments: readonly SegmentInfo[]): { records: number; bytes: number } {
  let records = 0
  let bytes = 0
  for (const segment of segments) {
    if (segment.log < at.log) continue
    const left = segment.log === at.log ? Math.max(0, segment.records - at.marker) : segment.records
    records += left
    if (segment.records > 0) bytes += Math.round((segment.bytes * left) / segment.records)
  }
  return { records, bytes }
}

/** Null when the journal has no pre-commit file. */
export async function describePreCommit(dir: string): Promise<JournalInfo['preCommit']> {
  try {
    const file = await JournalFile.open(join(dir, PRE_COMMIT_FILE), {
      errors: PRE_COMMIT_FILE_ERRORS,
    })
    try {
      const count = await file.read(0, PRE_COMMIT_HEADER_BYTES)
      return {
        size: Math.max(0, file.size() - PRE_COMMIT_HEADER_BYTES),
        pending: count.length === PRE_COMMIT_HEADER_BYTES ? count.readUInt32LE(0) : 0,
      }
    } finally {
      await file.close()
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

/** Makes the file of the pre-commit buffer, without room in it, if there is none: each of libjlog's writers leaves one. */
export async function ensurePreCommit(dir: string): Promise<void> {
  if ((await describePreCommit(dir)) !== null) return
  const { hdrMagic } = await readSettings(dir)
  const { mode } = await stat(join(dir, METASTORE_FILE))
  await (await PreCommit.open(dir, hdrMagic, mode & 0o777)).close()
}

export function compressionOf(hdrMagic: number): Compression {
  if (!isCompressed(hdrMagic)) return 'off'
  return compressionProvider(hdrMagic) === COMPRESSION_PROVIDERS.lz4 ? 'lz4' : 'none'
}

async function statIfThere(path: string) {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}
