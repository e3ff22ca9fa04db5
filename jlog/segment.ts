/**
 * Walking the records of a segment. This is the one loop that finds where records begin; writer, readers and
 * damage code all use it. It allocates nothing a record, never looks at a payload, and believes no length that
 * leads past the bytes it was given. Little-endian only (see endian for the other kind).
 */
import { COMPRESSED_HEADER_BYTES, headerBytes, isCompressed, PLAIN_HEADER_BYTES } from './format.js'

/**
 * Why a walk ended:
 * - `end`: exactly at the end of the bytes, after a whole record (or there were none)
 * - `incomplete-header`: fewer bytes are left than a header has
 * - `incomplete-payload`: a header of this journal whose payload ends past the bytes
 * - `bad-magic`: the bytes there are no header of this journal
 * - `limit`: as many records were found as were asked for, and bytes are left
 */
export type WalkStop = 'end' | 'incomplete-header' | 'incomplete-payload' | 'bad-magic' | 'limit'

export interface WalkResult {
  readonly stop: WalkStop
  /** Offset of the first byte that belongs to no record found; `end` of the walk when `stop` is `end`. */
  readonly at: number
  /**
   * Bytes that the record at `at` takes, header included: known for `incomplete-payload` (up to 4 GiB, and perhaps
   * a lie), the size of a header for `incomplete-header`, otherwise 0.
   */
  readonly needed: number
}

/** A growing list of offsets, kept between walks so that its memory is. Offsets are into the bytes walked. */
export class RecordOffsets {
  #array: Uint32Array
  #length = 0

  constructor(capacity = 1024) {
    this.#array = new Uint32Array(Math.max(1, capacity))
  }

  /** Offsets found so far. */
  get length(): number {
    return this.#length
  }

  /** Offset `i`, 0 ≤ i < length. */
  at(i: number): number {
    return this.#array[i]!
  }

  /** The offsets as they are now: a view that the next walk may overwrite. */
  view(): Uint32Array {
    return this.#array.subarray(0, this.#length)
  }

  /** A copy that no walk changes. */
  copy(): Uint32Array {
    return this.#array.slice(0, this.#length)
  }

  push(offset: number): void {
    if (this.#length === this.#array.length) this.grow()
    this.#array[this.#length++] = offset
  }

  /** Takes the last one away. @returns it, or undefined when there is none */
  pop(): number | undefined {
    return this.#length === 0 ? undefined : this.#array[--this.#length]
  }

  clear(): void {
    this.#length = 0
  }

  /** For the walker: the memory, of which `length` are used. */
  get memory(): Uint32Array {
    return this.#array
  }

  /** For the walker: says how much of the memory is used now. */
  set length(used: number) {
    this.#length = used
  }

  /** For the walker: more memory, same contents. */
  grow(): Uint32Array {
    const larger = new Uint32Array(this.#array.length * 2)
    larger.set(this.#array)
    this.#array = larger
    return larger
  }
}

/**
 * Appends to `into` the offset of each complete record in `bytes[start, end)`, and stops at the first thing that is not one.
 * @param bytes a stretch of a segment, less than 4 GiB; `start` must be where a record begins
 * @param hdrMagic the journal's magic; 0 for a legacy journal
 * @param limit most records to append in this call
 */
export function walkRecords(
  bytes: Uint8Array,
  start: number,
  end: number,
  hdrMagic: number,
  into: RecordOffsets,
  limit = Number.POSITIVE_INFINITY,
): WalkResult {
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const compressed = isCompressed(hdrMagic)
  const header = compressed ? COMPRESSED_HEADER_BYTES : PLAIN_HEADER_BYTES
  const lengthAt = compressed ? 16 : 12
  const lastHeader = end - header
  let offsets = into.memory
  let count = into.length
  const full = count + limit
  let at = start
  let stop: WalkStop = 'end'
  let needed = 0
  while (at < end) {
    if (count >= full) {
      stop = 'limit'
      break
    }
    if (at > lastHeader) {
      stop = 'incomplete-header'
      needed = header
      break
    }
    if (words.getUint32(at, true) !== hdrMagic) {
      stop = 'bad-magic'
      break
    }
    const next = at + header + words.getUint32(at + lengthAt, true)
    if (next > end) {
      stop = 'incomplete-payload'
      needed = next - at
      break
    }
    if (count === offsets.length) offsets = into.grow()
    offsets[count++] = at
    at = next
  }
  into.length = count
  return { stop, at, needed }
}

/** What a walk needs of a file (a JournalFile has it): fills `into` from `position`; fewer bytes only where the file ends. */
export interface PositionalReader {
  readAt(into: Uint8Array, position: number): Promise<number>
}

export interface SegmentWalkResult extends WalkResult {
  /** Complete records between the start of the walk and `at`. */
  readonly records: number
}

/** Bytes a walk over a file takes at a time: past this a larger read gains nothing. */
export const WALK_CHUNK_BYTES = 1024 * 1024

/**
 * Walks the records of a file from `from` to `to` with a bounded amount of memory (payloads larger than a chunk are
 * stepped over, not read). All offsets are of the file.
 * @param visit called with each chunk's record offsets, relative to `base`; the view is valid during the call only
 */
export async function walkSegment(
  file: PositionalReader,
  from: number,
  to: number,
  hdrMagic: number,
  visit?: (offsets: Uint32Array, base: number) => void | Promise<void>,
): Promise<SegmentWalkResult> {
  const header = headerBytes(hdrMagic)
  const chunk = Buffer.allocUnsafeSlow(Math.max(header, Math.min(WALK_CHUNK_BYTES, to - from)))
  const offsets = new RecordOffsets()
  let at = from
  let records = 0
  while (at < to) {
    const want = Math.min(chunk.length, to - at)
    const got = await file.readAt(want === chunk.length ? chunk : chunk.subarray(0, want), at)
    offsets.clear()
    let { stop, at: walked, needed } = walkRecords(chunk, 0, got, hdrMagic, offsets)
    // A record that goes on past the chunk but not past `to` is complete all the same: it is stepped over.
    if (stop === 'incomplete-payload' && at + walked + needed <= to && got === want) {
      offsets.push(walked)
      walked += needed
      stop = 'end'
    }
    records += offsets.length
    if (visit !== undefined && offsets.length > 0) await visit(offsets.view(), at)
    at += walked
    const torn = got < want || stop === 'bad-magic' || stop === 'incomplete-payload'
    if (torn || (stop === 'incomplete-header' && at + needed > to)) {
      // `end` here: the file was cut between records while it was walked.
      if (stop === 'end') return { stop: 'incomplete-header', at, needed: header, records }
      return { stop, at, needed, records }
    }
  }
  return { stop: 'end', at, needed: 0, records }
}
