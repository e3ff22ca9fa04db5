/** Where a journal begins and ends now, found without writing, locking or indexing. */
import { headerBytes } from './format.js'
import { findPlace } from './index-seek.js'
import { listJournal } from './journal-directory.js'
import type { LogId } from './log-id.js'
import { walkSegment } from './segment.js'
import { openSegment } from './segment-reader.js'
import { readSettings } from './settings.js'

/** The place before the first record there can be: the earliest segment, marker 0; 0:0 when there is none. */
export async function firstId(dir: string): Promise<LogId> {
  return { log: (await listJournal(dir)).segments[0] ?? 0, marker: 0 }
}

/**
 * Id of the last complete record of the segment being written; marker 0 when that holds none.
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN
 */
export async function lastId(dir: string): Promise<LogId> {
  const listing = await listJournal(dir)
  const { hdrMagic, storageLog } = await readSettings(dir, listing)
  return { log: storageLog, marker: await countRecords(dir, storageLog, hdrMagic) }
}

/** The segment being written (libjlog's jlog_ctx_last_storage_log), also where the metastore is behind. */
export async function lastStorageLog(dir: string): Promise<number> {
  return (await readSettings(dir)).storageLog
}

/**
 * A checkpoint at `id`, told by ids that are there, as both are read ("Reading" of the format): in a segment that is gone, the
 * beginning of the next; past the end of a segment, or of the journal, that end. In a damaged segment it stays: its ids are the repair's.
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN
 */
export async function checkpointAt(dir: string, id: LogId): Promise<LogId> {
  const listing = await listJournal(dir)
  const { hdrMagic, storageLog } = await readSettings(dir, listing)
  const log = Math.min(id.log, storageLog)
  const there = listing.segments.find((one) => one >= log) ?? storageLog
  if (there > log) return { log: there, marker: 0 }
  const { records, whole } = await walkedRecords(dir, log, hdrMagic)
  if (log === id.log && (id.marker <= records || !(whole || log === storageLog))) return id
  return { log, marker: records }
}

/** Complete records from the segment's beginning to its end or the first damage; 0 when it is not there. */
export async function countRecords(dir: string, log: number, hdrMagic: number): Promise<number> {
  return (await walkedRecords(dir, log, hdrMagic)).records
}

async function walkedRecords(
  dir: string,
  log: number,
  hdrMagic: number,
): Promise<{ records: number; whole: boolean }> {
  const segment = await openSegment(dir, log, hdrMagic)
  if (segment === null) return { records: 0, whole: true }
  try {
    const size = segment.file.size()
    if (size < headerBytes(hdrMagic)) return { records: 0, whole: size === 0 }
    const all = Number.POSITIVE_INFINITY
    const known = await findPlace(dir, log, segment.file, size, hdrMagic, all)
    const { position, marker } = known ?? { position: 0, marker: 1 }
    const walk = await walkSegment(segment.file, position, size, hdrMagic)
    return { records: marker - 1 + walk.records, whole: walk.stop === 'end' }
  } finally {
    await segment.close()
  }
}
