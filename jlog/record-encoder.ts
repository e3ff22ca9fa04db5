/**
 * Records to bytes: headers and payloads, one after the other into chunks that are used again and again.
 * One pass a record, one copy of its payload, nothing allocated for it; a payload too large for that is written
 * from where it lies.
 */

import type { Compress } from './compression.js'
import { compressorFor, MAX_LZ4_PAYLOAD_BYTES, storedBound } from './compression.js'
import { JlogError } from './errors.js'
import {
  COMPRESSION_PROVIDERS,
  compressionProvider,
  headerBytes,
  isCompressed,
  PLAIN_HEADER_BYTES,
} from './format.js'

/** When a record was written: Unix seconds, and microseconds beyond them; each an unsigned 32-bit number. */
export interface RecordTime {
  readonly sec: number
  readonly usec: number
}

export interface TimedRecord extends RecordTime {
  readonly payload: Uint8Array | string
}

/** What can be appended: bytes, text (stored as UTF-8), or either with a time of its own. */
export type AppendRecord = Uint8Array | string | TimedRecord

/** Memory for a stretch of encoded records. */
export class Chunk {
  /** Small enough to stay in the processor's cache between encoding and writing. */
  static readonly BYTES = 576 * 1024
  static readonly #MOST_KEPT = 16
  static readonly #free: Chunk[] = []

  readonly bytes: Buffer = Buffer.allocUnsafeSlow(Chunk.BYTES)
  readonly words = new DataView(this.bytes.buffer)
  used = 0

  /** One that was given back, or a new one. All writers of the process share them: an idle one holds none. */
  static take(): Chunk {
    const chunk = Chunk.#free.pop() ?? new Chunk()
    chunk.used = 0
    return chunk
  }

  static give(chunk: Chunk): void {
    if (Chunk.#free.length < Chunk.#MOST_KEPT) Chunk.#free.push(chunk)
  }
}

const MAX_PAYLOAD_BYTES = 0xffffffff
/** Taken once: looking it up for each record takes a third of a small copy (Node 20, where that is not inlined). */
const setBytes = Uint8Array.prototype.set
/** From here on writing a payload from where it lies is cheaper than copying it. */
const UNCOPIED_BYTES = 256 * 1024

export class RecordEncoder {
  readonly #magic: number
  readonly #header: number
  readonly #compress: Compress | null
  readonly #mostPayload: number

  /** @throws JlogError JLOG_ERR_NOT_SUPPORTED when the magic names an unknown compression */
  constructor(hdrMagic: number) {
    const provider = isCompressed(hdrMagic) ? compressionProvider(hdrMagic) : null
    this.#magic = hdrMagic
    this.#header = headerBytes(hdrMagic)
    this.#compress = provider === null ? null : compressorFor(provider)
    this.#mostPayload =
      provider === COMPRESSION_PROVIDERS.lz4 ? MAX_LZ4_PAYLOAD_BYTES : MAX_PAYLOAD_BYTES
  }

  /**
   * Most bytes that the records can take on disk.
   * @throws JlogError JLOG_ERR_ILLEGAL_WRITE for what cannot be a record; nothing is encoded then
   */
  bound(records: readonly AppendRecord[]): number {
    const plain = this.#compress === null
    let bound = records.length * this.#header
    for (const record of records) {
      if (plain && record instanceof Uint8Array) {
        if (record.length > MAX_PAYLOAD_BYTES) throw tooLarge(record.length)
        bound += record.length
      } else {
        bound += this.#boundOf(record)
      }
    }
    return bound
  }

  #boundOf(record: AppendRecord): number {
    const isTimed = !(typeof record === 'string' || record instanceof Uint8Array)
    if (isTimed) assertTimedRecord(record)
    const payload = payloadOf(record)
    const length = typeof payload === 'string' ? utf8Bound(payload) : payload.length
    if (length > this.#mostPayload) throw tooLarge(length)
    return this.#payloadBound(payload)
  }

  /**
   * Encodes records from the `from`th on at the end of the chunk, as many as have room, until it holds `enough`.
   * @returns index of the first record not encoded
   */
  encode(
    chunk: Chunk,
    records: readonly AppendRecord[],
    from: number,
    time: RecordTime,
    enough = Chunk.BYTES,
  ): number {
    const { bytes, words } = chunk
    // As signed numbers, which the compiler keeps as small integers: measurably faster.
    const sec = time.sec | 0
    const usec = time.usec | 0
    const magic = this.#magic | 0
    const count = records.length
    const plain = this.#compress === null
    let at = chunk.used
    let i = from
    for (; i < count && at < enough; i++) {
      const record = records[i]!
      // `bound` has refused other views; asking for the class follows a chain of prototypes for each record.
      if (plain && ArrayBuffer.isView(record)) {
        const length = record.length
        const end = at + PLAIN_HEADER_BYTES + length
        if (end > Chunk.BYTES || length > UNCOPIED_BYTES) break
        words.setInt32(at, magic, true)
        words.setInt32(at + 4, sec, true)
        words.setInt32(at + 8, usec, true)
        words.setInt32(at + 12, length, true)
        setBytes.call(bytes, record, at + PLAIN_HEADER_BYTES)
        at = end
      } else {
        const end = this.#encodeOther(chunk, at, record, time)
        if (end < 0) break
        at = end
      }
    }
    chunk.used = at
    return i
  }

  /** Must this record be written from where it lies? */
  isOutsize(record: AppendRecord): boolean {
    return this.#payloadBound(payloadOf(record)) > UNCOPIED_BYTES
  }

  /** Encodes the header of an outsize record at the end of the chunk. @returns its stored payload; null: no room */
  encodeOutsize(chunk: Chunk, record: AppendRecord, time: RecordTime): Uint8Array | null {
    if (chunk.used + this.#header > Chunk.BYTES) return null
    const payload = asBytes(payloadOf(record))
    const stored = this.#compress === null ? payload : this.#compress(payload)
    this.#putHeader(chunk, chunk.used, timeOf(record) ?? time, payload.length, stored.length)
    chunk.used += this.#header
    return stored
  }

  /** @returns where the record ends; -1 when there is no room for it, or it is outsize */
  #encodeOther(chunk: Chunk, at: number, record: AppendRecord, time: RecordTime): number {
    const payload = payloadOf(record)
    const start = at + this.#header
    const bound = this.#payloadBound(payload)
    if (start + bound > Chunk.BYTES || bound > UNCOPIED_BYTES) return -1
    let length: number
    let stored: number
    if (this.#compress !== null) {
      const bytes = asBytes(payload)
      const compressed = this.#compress(bytes)
      chunk.bytes.set(compressed, start)
      length = bytes.length
      stored = compressed.length
    } else if (typeof payload === 'string') {
      length = stored = chunk.bytes.write(payload, start)
    } else {
      chunk.bytes.set(payload, start)
      length = stored = payload.length
    }
    this.#putHeader(chunk, at, timeOf(record) ?? time, length, stored)
    return start + stored
  }

  #putHeader(chunk: Chunk, at: number, time: RecordTime, length: number, stored: number): void {
    const { words } = chunk
    words.setUint32(at, this.#magic, true)
    words.setUint32(at + 4, time.sec, true)
    words.setUint32(at + 8, time.usec, true)
    words.setUint32(at + 12, length, true)
    if (this.#compress !== null) words.setUint32(at + 16, stored, true)
  }

  /** Most bytes that a payload takes on disk. */
  #payloadBound(payload: Uint8Array | string): number {
    const length = typeof payload === 'string' ? utf8Bound(payload) : payload.length
    return this.#compress === null ? length : storedBound(length)
  }
}

function payloadOf(record: AppendRecord): Uint8Array | string {
  return typeof record === 'string' || record instanceof Uint8Array ? record : record.payload
}

function timeOf(record: AppendRecord): RecordTime | null {
  return typeof record === 'string' || record instanceof Uint8Array ? null : record
}

function asBytes(payload: Uint8Array | string): Uint8Array {
  return typeof payload === 'string' ? Buffer.from(payload) : payload
}

/** A UTF-16 unit makes at most three bytes; counting them exactly pays only where they are many. */
function utf8Bound(text: string): number {
  return text.length < 1024 ? text.length * 3 : Buffer.byteLength(text)
}

/** @throws JlogError JLOG_ERR_ILLEGAL_WRITE */
export function assertTime({ sec, usec }: RecordTime): void {
  if (sec >>> 0 === sec && usec >>> 0 === usec) return
  throw new JlogError('JLOG_ERR_ILLEGAL_WRITE', `not a record's time: ${sec} s, ${usec} µs`, {
    advice: 'give whole numbers from 0 to 4294967295',
  })
}

function tooLarge(bytes: number): JlogError {
  return new JlogError('JLOG_ERR_ILLEGAL_WRITE', `a record of ${bytes} bytes is too large`, {
    advice: 'a record holds at most 4294967295 bytes, in an LZ4 journal 2113929216',
  })
}

function assertTimedRecord(record: unknown): asserts record is TimedRecord {
  if (typeof record === 'object' && record !== null && 'payload' in record) {
    const { payload } = record
    if (typeof payload === 'string' || payload instanceof Uint8Array) {
      assertTime(record as TimedRecord)
      return
    }
  }
  throw new JlogError(
    'JLOG_ERR_ILLEGAL_WRITE',
    'not a record: give bytes, or text, or an object with either as its payload',
  )
}
