/**
 * Records as they come from disk: one buffer of file bytes and the offsets of the records in it. A record's
 * payload is a view made when it is asked for, so reading a million records costs a million lengths, not a million objects.
 *
 * A batch holds records of one segment, contiguous and in order. Its bytes belong to it: they stay as they are for
 * as long as the batch or any payload of it is held, unless its holder gives them back with `release()`.
 */
import { decompressPayload } from './compression.js'
import { JlogError } from './errors.js'
import {
  COMPRESSED_HEADER_BYTES,
  compressionProvider,
  isCompressed,
  PLAIN_HEADER_BYTES,
} from './format.js'
import type { LogId } from './log-id.js'

/** One record. `payload` may be a view into its batch's bytes. */
export interface JournalRecord {
  readonly id: LogId
  /** Unix seconds. */
  readonly sec: number
  /** Microseconds of the second, as they stand in the record. */
  readonly usec: number
  readonly payload: Buffer
}

/** What one batch may hold; at least one record comes, however large it is. */
export interface BatchLimits {
  /** Most records. */
  readonly maxRecords?: number
  /** Most bytes on disk, headers included. */
  readonly maxBytes?: number
}

/** What a batch is made of. */
export interface RecordBatchParts {
  /** Segment number. */
  readonly log: number
  /** Marker of the first record. */
  readonly firstMarker: number
  /** The stretch of the segment that the records are in. */
  readonly bytes: Buffer
  /** Where in the segment `bytes` begins. */
  readonly position: number
  /** Offsets of the records in `bytes`, ascending. */
  readonly offsets: Uint32Array
  readonly hdrMagic: number
  /** Path of the segment, for errors. */
  readonly file?: string
  /** Takes the bytes back for reuse. */
  readonly recycle?: (bytes: Buffer) => void
}

export class RecordBatch implements Iterable<JournalRecord> {
  /** Segment number of all its records. */
  readonly log: number
  /** Records in the batch. */
  readonly length: number
  readonly #firstMarker: number
  readonly #position: number
  readonly #offsets: Uint32Array
  readonly #compressed: boolean
  readonly #hdrMagic: number
  readonly #file: string | undefined
  #recycle: ((bytes: Buffer) => void) | undefined
  #bytes: Buffer
  #words: DataView

  constructor(parts: RecordBatchParts) {
    this.log = parts.log
    this.length = parts.offsets.length
    this.#firstMarker = parts.firstMarker
    this.#position = parts.position
    this.#offsets = parts.offsets
    this.#hdrMagic = parts.hdrMagic
    this.#compressed = isCompressed(parts.hdrMagic)
    this.#file = parts.file
    this.#recycle = parts.recycle
    this.#bytes = parts.bytes
    this.#words = new DataView(parts.bytes.buffer, parts.bytes.byteOffset, parts.bytes.byteLength)
  }

  /** Id of the first record; of the place before it (a marker one less than a record's) in an empty batch. */
  get first(): LogId {
    return { log: this.log, marker: this.length === 0 ? this.#firstMarker - 1 : this.#firstMarker }
  }

  /** Id of the last record; as `first` in an empty batch. */
  get last(): LogId {
    return { log: this.log, marker: this.#firstMarker + this.length - 1 }
  }

  /** Bytes that the records take in the segment, headers included. */
  get storedBytes(): number {
    if (this.length === 0) return 0
    return this.endOffset(this.length - 1) - this.offset(0)
  }

  /** Id of record `i`, 0 ≤ i < length. */
  id(i: number): LogId {
    return { log: this.log, marker: this.#firstMarker + i }
  }

  /** Marker of record `i`. */
  marker(i: number): number {
    return this.#firstMarker + i
  }

  /** Unix seconds of record `i`. */
  sec(i: number): number {
    return this.#words.getUint32(this.#offsets[i]! + 4, true)
  }

  /** Microseconds of record `i`. */
  usec(i: number): number {
    return this.#words.getUint32(this.#offsets[i]! + 8, true)
  }

  /** Bytes of record `i`'s payload (in a compressed journal, as its header says). */
  size(i: number): number {
    return this.#words.getUint32(this.#offsets[i]! + 12, true)
  }

  /** Bytes of record `i`'s payload on disk. */
  storedSize(i: number): number {
    return this.#words.getUint32(this.#offsets[i]! + (this.#compressed ? 16 : 12), true)
  }

  /** Offset in the segment at which record `i` begins. */
  offset(i: number): number {
    return this.#position + this.#offsets[i]!
  }

  /** Offset in the segment just after record `i`. */
  endOffset(i: number): number {
    return this.offset(i) + this.#header + this.storedSize(i)
  }

  /**
   * Payload of record `i`: a view of the batch's bytes, or in a compressed journal bytes of its own.
   * @throws JlogError JLOG_ERR_FILE_CORRUPT when it does not decompress to what its header says
   */
  payload(i: number): Buffer {
    const at = this.#offsets[i]! + this.#header
    const stored = this.#bytes.subarray(at, at + this.storedSize(i))
    if (!this.#compressed) return stored
    try {
      return decompressPayload(stored, this.size(i), compressionProvider(this.#hdrMagic))
    } catch (cause) {
      throw new JlogError(
        'JLOG_ERR_FILE_CORRUPT',
        `record ${i + this.#firstMarker} does not decompress`,
        {
          segment: this.log,
          offset: this.offset(i),
          cause,
          ...(this.#file === undefined ? {} : { file: this.#file }),
          advice: 'its payload is damaged; run `bobbin jlog inspect`',
        },
      )
    }
  }

  record(i: number): JournalRecord {
    return { id: this.id(i), sec: this.sec(i), usec: this.usec(i), payload: this.payload(i) }
  }

  *[Symbol.iterator](): Generator<JournalRecord, void, undefined> {
    for (let i = 0; i < this.length; i++) yield this.record(i)
  }

  /** How many records from `from` on are within the limits; at least one, if there is one. */
  fitting(from: number, limits: BatchLimits): number {
    const most = Math.min(this.length - from, Math.max(1, limits.maxRecords ?? this.length))
    if (limits.maxBytes === undefined || most === 0) return most
    const full = this.offset(from) + limits.maxBytes
    if (this.endOffset(from + most - 1) <= full) return most
    let count = 1
    while (this.endOffset(from + count) <= full) count++
    return count
  }

  /** The records from `from` up to and without `to`, sharing the bytes. Releasing it releases nothing. */
  slice(from: number, to = this.length): RecordBatch {
    return new RecordBatch({
      log: this.log,
      firstMarker: this.#firstMarker + from,
      bytes: this.#bytes,
      position: this.#position,
      offsets: this.#offsets.subarray(from, to),
      hdrMagic: this.#hdrMagic,
      ...(this.#file === undefined ? {} : { file: this.#file }),
    })
  }

  /**
   * Gives the bytes back to the reader for its next read. Optional: it saves the reader from taking fresh memory.
   * No payload of this batch (nor of a slice of it) may be used afterwards, and the batch refuses to give any.
   */
  release(): void {
    const recycle = this.#recycle
    if (recycle === undefined) return
    this.#recycle = undefined
    recycle(this.#bytes)
    this.#bytes = RELEASED
    this.#words = RELEASED_WORDS
  }

  get #header(): number {
    return this.#compressed ? COMPRESSED_HEADER_BYTES : PLAIN_HEADER_BYTES
  }
}

const RELEASED = Buffer.alloc(0)
// Reading a word of it throws a RangeError: a use after release is a fault of the caller, and seen at once.
const RELEASED_WORDS = new DataView(new ArrayBuffer(0))
