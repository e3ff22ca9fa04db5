/**
 * What stands behind the last complete record of the segment being written: the rest of an append whose writer died,
 * or damage with records behind it. Only the first may be cut off; asked under the segment's lock, when no append
 * can be on its way.
 */
import type { JournalFile } from './file.js'
import { headerBytes } from './format.js'
import { walkSegment } from './segment.js'

const SCAN_BYTES = 1024 * 1024
/** So many places that look like a header are tried; a tail with more of them is left to repair. */
const MOST_CANDIDATES = 10_000

/** True when records can be read again somewhere in `[at, size)`, so that it must not be cut. */
export async function recordsFollow(
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
