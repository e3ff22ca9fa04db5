/**
 * Where the segment being written ends, asked under its lock, when no append can be on its way: after how many bytes and
 * records. What stands behind the last complete record is the rest of an append whose writer died, which goes into
 * quarantine and is cut off; or damage with records behind it, which is left alone.
 */
import { join } from 'node:path'
import { INDEX_FILE_ERRORS, JournalFile } from './file.js'
import { headerBytes, INDEX_ENTRY_BYTES, indexFile } from './format.js'
import { quarantineRange } from './quarantine.js'
import { walkSegment } from './segment.js'

/** A segment larger than this is counted from its index, as far as that goes. */
const COUNT_FROM_INDEX_BYTES = 8 * 1024 * 1024

/** After `count` records, at byte `end`. */
export interface SegmentEnd {
  readonly end: number
  readonly count: number
}

/**
 * @param known where it ended when it was last looked at; zeros: never
 * @returns its end now; `damaged`: not all that follows is a torn append, and nothing may be appended here
 */
export async function findSegmentEnd(
  file: JournalFile,
  dir: string,
  log: number,
  hdrMagic: number,
  known: SegmentEnd,
): Promise<SegmentEnd & { readonly damaged: boolean }> {
  const size = file.size()
  let from = size < known.end ? { end: 0, count: 0 } : known
  if (from.count === 0 && size > COUNT_FROM_INDEX_BYTES) {
    from = (await lastIndexed(file, join(dir, indexFile(log)), size, hdrMagic)) ?? from
  }
  const walk = await walkSegment(file, from.end, size, hdrMagic)
  const end = walk.at
  const count = from.count + walk.records
  if (walk.stop === 'end') return { end, count, damaged: false }
  if (await recordsFollow(file, end, size, hdrMagic)) return { end, count, damaged: true }
  await quarantineRange(dir, log, end, size)
  await file.truncate(end)
  await file.sync()
  return { end, count, damaged: false }
}

/** The beginning of the last record that the index knows, if its last two entries hold a record between them. */
async function lastIndexed(
  file: JournalFile,
  indexPath: string,
  size: number,
  hdrMagic: number,
): Promise<SegmentEnd | null> {
  const index = await JournalFile.open(indexPath, { errors: INDEX_FILE_ERRORS }).catch(() => null)
  if (index === null) return null
  try {
    const entries = Math.floor(index.size() / INDEX_ENTRY_BYTES)
    if (entries < 2) return null
    const last = await index.read((entries - 2) * INDEX_ENTRY_BYTES, 2 * INDEX_ENTRY_BYTES)
    const before = Number(last.readBigUInt64LE(0))
    const at = Number(last.readBigUInt64LE(INDEX_ENTRY_BYTES))
    if (before >= at || at + headerBytes(hdrMagic) > size) return null
    const walk = await walkSegment(file, before, at, hdrMagic)
    return walk.stop === 'end' && walk.records === 1 ? { end: at, count: entries - 1 } : null
  } finally {
    await index.close()
  }
}

const SCAN_BYTES = 1024 * 1024
/** So many places that look like a header are tried; a tail with more of them is left to repair. */
const MOST_CANDIDATES = 10_000

/** True when records can be read again somewhere in `[at, size)`, so that it must not be cut. */
async function recordsFollow(
  file: JournalFile,
  at: number,
  size: number,
  hdrMagic: number,
): Promise<boolean> {
  // In a legacy journal any four zeros are a magic, so that nothing can be told from it.
  if (hdrMagic === 0) return false
  const magic = Buffer.alloc(4)
  magic.writeUInt32LE(hdrMagic)
  let candidates = 0
  for (let from = at + 1; from + headerBytes(hdrMagic) <= size; from += SCAN_BYTES) {
    // Three bytes more than the step, for a magic that lies across two of them.
    const piece = await file.read(from, Math.min(SCAN_BYTES + 3, size - from))
    for (let hit = piece.indexOf(magic); hit >= 0; hit = piece.indexOf(magic, hit + 1)) {
      if (++candidates > MOST_CANDIDATES) return true
      const { stop, records } = await walkSegment(file, from + hit, size, hdrMagic)
      if (records > 1 || (records === 1 && stop === 'end')) return true
    }
  }
  return false
}
