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

/** Complete records from the segment's beginning to its end or the first damage; 0 when it is not there. */
export async function countRecords(dir: string, log: number, hdrMagic: number): Promise<number> {
  const segment = await openSegment(dir, log, hdrMagic)
  if (segment === null) return 0
  try {
    const size = segment.file.size()
    if (size < headerBytes(hdrMagic)) return 0
    const all = Number.POSITIVE_INFINITY
    const known = await findPlace(dir, log, segment.file, size, hdrMagic, all)
    const { position, marker } = known ?? { position: 0, marker: 1 }
    return marker - 1 + (await walkSegment(segment.file, position, size, hdrMagic)).records
  } finally {
    await segment.close()
  }
}
