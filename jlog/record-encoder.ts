/**
 * Records to bytes: headers and payloads, one after the other into chunks that are used again and again.
 * One pass a record, one copy of its payload, nothing allocated for it; a payload too large for that is written
 * from where it lies.
 */

import type { Compress } from './compression.js'
import { compressorFor, MAX_LZ4_PAYLOAD_BYTES, storedBound } from './compression.js'
import { JlogError } from './errors.js'
import { COMPRESSION_PROVIDERS, compressionProvider, headerBytes, isCompressed } from './format.js'

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
  static readonly BYTES = 2 * 1024 * 1024
  static readonly #MOST_KEPT = 4
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

  get room(): number {
    return Chunk.BYTES - this.used
  }
}

/** Whole records, as buffers to be written one after the other. */
export interface Piece {
  readonly buffers: readonly Uint8Array[]
  readonly bytes: number
  readonly records: number
}

const MAX_PAYLOAD_BYTES = 0xffffffff
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
    let bound = records.length * this.#header
    for (const record of records) {
      if (record instanceof Uint8Array) {
        if (record.length > this.#mostPayload) throw tooLarge(record.length)
        bound += this.#compress === null ? record.length : storedBound(record.length)
      } else {
        bound += this.#boundOf(record)
      }
    }
    return bound
  }

  #boundOf(record: string | TimedRecord): number {
    let payload: Uint8Array | string
    if (typeof record === 'string') {
      payload = record
    } else {
      assertTime(record)
      payload = record.payload
    }
    // A UTF-16 unit makes at most three bytes; counting them exactly pays only when there are many.
    let length: number
    if (typeof payload === 'string') {
      length = payload.length < 1024 ? payload.length * 3 : Buffer.byteLength(payload)
    } else if (payload instanceof Uint8Array) length = payload.length
    else throw notARecord()
    if (length > this.#mostPayload) throw tooLarge(length)
    return this.#compress === null ? length : storedBound(length)
  }

  /** Encodes the records at the end of a chunk that has room for their `bound`. */
  encode(chunk: Chunk, records: readonly AppendRecord[], time: RecordTime): void {
    const { bytes, words } = chunk
    const { sec, usec } = time
    const magic = this.#magic
    let at = chunk.used
    for (const record of records) {
      if (this.#compress === null && record instanceof Uint8Array) {
        const length = record.length
        words.setUint32(at, magic, true)
        words.setUint32(at + 4, sec, true)
        words.setUint32(at + 8, usec, true)
        words.setUint32(at + 12, length, true)
        bytes.set(record, at + 16)
        at += 16 + length
      } else {
        at = this.#encodeOther(chunk, at, record, time)
      }
    }
    chunk.used = at
  }

  #encodeOther(chunk: Chunk, at: number, record: AppendRecord, time: RecordTime): number {
    const timed = typeof record === 'string' || record instanceof Uint8Array ? null : record
    const payload = timed === null ? (record as string | Uint8Array) : timed.payload
    if (this.#compress !== null) {
      const plain = typeof payload === 'string' ? Buffer.from(payload) : payload
      const stored = this.#compress(plain)
      this.#putHeader(chunk, at, timed ?? time, plain.length, stored.length)
      chunk.bytes.set(stored, at + this.#header)
      return at + this.#header + stored.length
    }
    let length: number
    if (typeof payload === 'string') {
      length = chunk.bytes.write(payload, at + this.#header)
    } else {
      length = payload.length
      chunk.bytes.set(payload, at + this.#header)
    }
    this.#putHeader(chunk, at, timed ?? time, length, length)
    return at + this.#header + length
  }

  #putHeader(chunk: Chunk, at: number, time: RecordTime, length: number, stored: number): void {
    const { words } = chunk
    words.setUint32(at, this.#magic, true)
    words.setUint32(at + 4, time.sec, true)
    words.setUint32(at + 8, time.usec, true)
    words.setUint32(at + 12, length, true)
    if (this.#compress !== null) words.setUint32(at + 16, stored, true)
  }

  /**
   * Encodes any number of records of any size piece by piece into two chunks by turns: a piece may be written while
   * the next is made, and must have been when the one after that is asked for.
   */
  *pieces(records: readonly AppendRecord[], time: RecordTime): Generator<Piece, void> {
    const chunks = [Chunk.take(), Chunk.take()] as const
    try {
      let turn = 0
      let chunk = chunks[0]
      let from = 0
      let one: AppendRecord[] = []
      for (const record of records) {
        one = [record]
        const bound = this.bound(one)
        if (bound > chunk.room || bound > UNCOPIED_BYTES) {
          if (chunk.used > 0) {
            yield {
              buffers: [chunk.bytes.subarray(0, chunk.used)],
              bytes: chunk.used,
              records: from,
            }
            turn ^= 1
            chunk = chunks[turn]!
            chunk.used = 0
            from = 0
          }
        }
        if (bound > UNCOPIED_BYTES) {
          yield this.#uncopied(chunk, record, time)
          turn ^= 1
          chunk = chunks[turn]!
          chunk.used = 0
        } else {
          this.encode(chunk, one, time)
          from++
        }
      }
      if (chunk.used > 0) {
        yield { buffers: [chunk.bytes.subarray(0, chunk.used)], bytes: chunk.used, records: from }
      }
    } finally {
      for (const chunk of chunks) Chunk.give(chunk)
    }
  }

  #uncopied(chunk: Chunk, record: AppendRecord, time: RecordTime): Piece {
    const timed = typeof record === 'string' || record instanceof Uint8Array ? null : record
    const given = timed === null ? (record as string | Uint8Array) : timed.payload
    const payload = typeof given === 'string' ? Buffer.from(given) : given
    const stored = this.#compress === null ? payload : this.#compress(payload)
    if (stored.length > MAX_PAYLOAD_BYTES) throw tooLarge(stored.length)
    this.#putHeader(chunk, 0, timed ?? time, payload.length, stored.length)
    return {
      buffers: [chunk.bytes.subarray(0, this.#header), stored],
      bytes: this.#header + stored.length,
      records: 1,
    }
  }
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

function notARecord(): JlogError {
  return new JlogError(
    'JLOG_ERR_ILLEGAL_WRITE',
    'a record is bytes, or text, or has either as payload',
  )
}
