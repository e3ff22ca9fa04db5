/**
 * Journals of either byte order, for the two tools that know of it (`endian`, `sanity`): the words of the files, and a walk over a
 * segment's headers that does not care how they are stored. Everything else is little-endian.
 */
import {
  COMPRESSED_HEADER_BYTES,
  isCompressed,
  LEGACY_METASTORE_BYTES,
  METASTORE_BYTES,
  type Metastore,
  PLAIN_HEADER_BYTES,
} from './format.js'
import type { PositionalReader } from './segment.js'
import { soundMetastore } from './settings.js'

export type ByteOrder = 'little' | 'big'

const WORD_BYTES = 4
const CHUNK_BYTES = 1024 * 1024

export function otherOrder(order: ByteOrder): ByteOrder {
  return order === 'little' ? 'big' : 'little'
}

export function wordAt(bytes: Buffer, at: number, order: ByteOrder): number {
  return order === 'little' ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at)
}

/** Turns the u32 words in `bytes[at, end)` round, in place. */
export function swapWords(bytes: Buffer, at: number, end: number): void {
  for (let word = at; word + WORD_BYTES <= end; word += WORD_BYTES) {
    bytes.writeUInt32LE(bytes.readUInt32BE(word), word)
  }
}

/** What a metastore stored in this order says; null when no journal has such a one. */
export function metastoreIn(bytes: Buffer, order: ByteOrder): Metastore | null {
  if (bytes.length !== METASTORE_BYTES && bytes.length !== LEGACY_METASTORE_BYTES) return null
  if (order === 'little') return soundMetastore(bytes)
  const turned = Buffer.from(bytes)
  swapWords(turned, 0, turned.length)
  return soundMetastore(turned)
}

export interface HeaderSeen {
  readonly offset: number
  readonly magic: number
  readonly sec: number
  readonly usec: number
  /** Offset just after the record, by its own length; perhaps past the file. */
  readonly end: number
}

/**
 * Calls `visit` for the header of each record, one after the other by their lengths, until the end, the first record that does not fit, or until it returns false.
 * @param turn changes each stretch of the file that was walked, and may write it elsewhere
 * @returns where it stopped: the file's size when all of it was records
 */
export async function walkHeaders(
  file: PositionalReader,
  size: number,
  hdrMagic: number,
  order: ByteOrder,
  visit: (seen: HeaderSeen) => boolean,
  turn?: (bytes: Buffer, at: number, headers: readonly number[]) => Promise<void>,
): Promise<number> {
  const compressed = isCompressed(hdrMagic)
  const header = compressed ? COMPRESSED_HEADER_BYTES : PLAIN_HEADER_BYTES
  const chunk = Buffer.allocUnsafeSlow(Math.max(header, Math.min(CHUNK_BYTES, size)))
  let next = 0
  for (let at = 0; at < size; ) {
    // Without `turn` nobody wants the payloads, and a long one is stepped over.
    if (turn === undefined) at = Math.max(at, next)
    const got = await file.readAt(chunk.subarray(0, Math.min(chunk.length, size - at)), at)
    const headers: number[] = []
    while (next + header <= at + got) {
      const place = next - at
      const end = next + header + wordAt(chunk, place + (compressed ? 16 : 12), order)
      const seen = {
        offset: next,
        magic: wordAt(chunk, place, order),
        sec: wordAt(chunk, place + 4, order),
        usec: wordAt(chunk, place + 8, order),
        end,
      }
      if (end > size || !visit(seen)) return next
      headers.push(place)
      next = end
    }
    // A header that is cut in two by the chunk's end is for the next one.
    const whole = Math.min(got, next - at)
    if (turn !== undefined && whole > 0) await turn(chunk.subarray(0, whole), at, headers)
    at += whole
    if (whole === 0) return next
  }
  return next
}
