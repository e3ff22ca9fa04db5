/**
 * Going to a place in a large segment by its index, instead of walking there. The index is believed only as far as the segment bears it
 * out: where two of its entries hold exactly one record between them. Writes and locks nothing. A small segment is always walked:
 * that is as fast, and certain.
 */
import { join } from 'node:path'
import { errnoOf, INDEX_FILE_ERRORS, JournalFile } from './file.js'
import { headerBytes, INDEX_ENTRY_BYTES, indexFile } from './format.js'
import { walkSegment } from './segment.js'
import type { OpenSegment, SegmentPlace } from './segment-reader.js'

/** Segments up to this size are walked. */
const WALKED_BYTES = 8 * 1024 * 1024

/** As `placeByIndex`, with the segment's index as it lies in the directory, if it does. */
export async function findPlace(
  dir: string,
  log: number,
  data: JournalFile,
  size: number,
  hdrMagic: number,
  passed: number,
): Promise<SegmentPlace | null> {
  const index = size <= WALKED_BYTES ? null : await openIndexFile(dir, log)
  if (index === null) return null
  try {
    return await placeByIndex(index, data, size, hdrMagic, passed)
  } finally {
    await index.close()
  }
}

/**
 * The place after as many of the first `passed` records as the index knows.
 * @param size of the segment, or as much of it as is looked at
 * @returns null when the segment is small, or the index knows nothing that can be believed
 */
export async function placeByIndex(
  index: JournalFile,
  data: JournalFile,
  size: number,
  hdrMagic: number,
  passed: number,
): Promise<SegmentPlace | null> {
  if (size <= WALKED_BYTES) return null
  const last = Math.min(passed, Math.floor(index.size() / INDEX_ENTRY_BYTES) - 1)
  // The last entry may be the closing 0, which is no record's.
  for (let ordinal = last; ordinal >= Math.max(1, last - 1); ordinal--) {
    const position = await confirmedEntry(index, ordinal, data, size, hdrMagic)
    if (position !== null) return { position, marker: ordinal + 1 }
  }
  return null
}

/**
 * Passes over the segment's first `count` records, or all of them if there are fewer, from its beginning.
 * @param size how much of the segment is looked at
 */
export async function passOver(
  dir: string,
  { file, reader, hdrMagic }: OpenSegment,
  count: number,
  size: number,
): Promise<void> {
  const place = await findPlace(dir, reader.log, file, size, hdrMagic, count)
  if (place !== null) await reader.seek(place)
  await reader.skip(count - (place === null ? 0 : place.marker - 1), size)
}

/** Where the record with this ordinal (from 0) begins, if the one before it ends there. */
export async function confirmedEntry(
  index: JournalFile,
  ordinal: number,
  data: JournalFile,
  size: number,
  hdrMagic: number,
): Promise<number | null> {
  const pair = await index.read((ordinal - 1) * INDEX_ENTRY_BYTES, 2 * INDEX_ENTRY_BYTES)
  if (pair.length < 2 * INDEX_ENTRY_BYTES) return null
  const before = Number(pair.readBigUInt64LE(0))
  const at = Number(pair.readBigUInt64LE(INDEX_ENTRY_BYTES))
  if (before >= at || at + headerBytes(hdrMagic) > size) return null
  const walk = await walkSegment(data, before, at, hdrMagic)
  return walk.stop === 'end' && walk.records === 1 ? at : null
}

/** For reading only. @returns null when there is none */
export async function openIndexFile(dir: string, log: number): Promise<JournalFile | null> {
  try {
    return await JournalFile.open(join(dir, indexFile(log)), { errors: INDEX_FILE_ERRORS })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}
