/**
 * What waits to be appended, in order, and how it is put together: the appends that are waiting form one group, and
 * share one write and one sync. While a group is written the next one fills and is encoded.
 */
import type { LogId } from './log-id.js'
import { type AppendRecord, Chunk, type RecordEncoder, type RecordTime } from './record-encoder.js'

/** Records of one call, which stay together; or work that has its turn among them. */
export type Queued = Append | Operation

export class Append {
  readonly records: readonly AppendRecord[]
  readonly time: RecordTime
  /** Most bytes that it takes on disk. */
  readonly bound: number
  /** Called with the id of the first record. */
  readonly resolve: (first: LogId) => void
  readonly reject: (error: unknown) => void

  constructor(
    records: readonly AppendRecord[],
    time: RecordTime,
    bound: number,
    resolve: (first: LogId) => void,
    reject: (error: unknown) => void,
  ) {
    this.records = records
    this.time = time
    this.bound = bound
    this.resolve = resolve
    this.reject = reject
  }
}

export interface Operation {
  readonly run: () => Promise<void>
  readonly reject: (error: unknown) => void
}

/** Whole records as they go to disk. */
export interface Piece {
  readonly buffers: Uint8Array[]
  readonly bytes: number
  readonly records: number
  /** Does the group have more after it? */
  readonly more: boolean
}

/** A group that holds so much takes no more appends. */
const MOST_GROUP_BYTES = 4 * 1024 * 1024

/** Where nothing is encoded yet, so much is before the first write: the rest is encoded while that is under way. */
const FIRST_PIECE_BYTES = 256 * 1024

/** Appends that are written together, and their bytes as far as they have been encoded. */
export class Group {
  readonly appends: Append[] = []
  /** Most bytes that it takes on disk. */
  bound = 0
  readonly #encoder: RecordEncoder
  /** What is encoded but has not been taken. */
  #buffers: Uint8Array[] = []
  #bytes = 0
  #records = 0
  #chunks: Chunk[] = []
  /** Where the stretch of the last chunk begins that is not in `#buffers` yet. */
  #from = 0
  /** Chunks of the piece that was taken last. */
  #taken: Chunk[] = []
  /** Encoding goes on at this append, at this record of it. */
  #append = 0
  #record = 0

  constructor(encoder: RecordEncoder) {
    this.#encoder = encoder
  }

  add(append: Append): void {
    this.appends.push(append)
    this.bound += append.bound
  }

  /** Encodes until `enough` bytes are ready to be taken, or all is encoded. */
  encode(enough: number): void {
    for (;;) {
      const append = this.appends[this.#append]
      if (append === undefined || this.#bytes >= enough) return
      this.#encodeFrom(append, enough)
      if (this.#record === append.records.length) {
        this.#append++
        this.#record = 0
      }
    }
  }

  /**
   * What is encoded, and `enough` bytes or somewhat more of it unless that is all; it must be written before the next
   * is taken. Null: nothing is left.
   */
  take(enough = FIRST_PIECE_BYTES): Piece | null {
    // Given back first: the same memory is in the processor's cache still.
    for (const chunk of this.#taken) Chunk.give(chunk)
    if (this.#bytes === 0) this.encode(enough)
    this.#taken = this.#chunks
    this.#closeStretch()
    const piece = {
      buffers: this.#buffers,
      bytes: this.#bytes,
      records: this.#records,
      more: this.#append < this.appends.length,
    }
    this.#chunks = []
    this.#buffers = []
    this.#bytes = 0
    this.#records = 0
    this.#from = 0
    return piece.records === 0 ? null : piece
  }

  /** Gives back the memory. No piece of it may be on its way to the disk. */
  done(): void {
    for (const chunk of this.#taken) Chunk.give(chunk)
    for (const chunk of this.#chunks) Chunk.give(chunk)
    this.#taken = []
    this.#chunks = []
  }

  /** Encodes records of one append until a chunk is full, there is enough, or the append has no more. */
  #encodeFrom(append: Append, enough: number): void {
    const { records, time } = append
    let chunk = this.#chunks.at(-1) ?? this.#newChunk()
    const before = chunk.used
    const until = before + enough - this.#bytes
    const next = this.#encoder.encode(chunk, records, this.#record, time, until)
    this.#bytes += chunk.used - before
    this.#records += next - this.#record
    this.#record = next
    if (next === records.length || this.#bytes >= enough) return
    const record = records[next]!
    if (!this.#encoder.isOutsize(record)) {
      this.#newChunk()
      return
    }
    let used = chunk.used
    let payload = this.#encoder.encodeOutsize(chunk, record, time)
    if (payload === null) {
      chunk = this.#newChunk()
      used = 0
      payload = this.#encoder.encodeOutsize(chunk, record, time)!
    }
    this.#bytes += chunk.used - used + payload.length
    this.#closeStretch()
    this.#buffers.push(payload)
    this.#records++
    this.#record++
  }

  #newChunk(): Chunk {
    this.#closeStretch()
    const chunk = Chunk.take()
    this.#chunks.push(chunk)
    this.#from = 0
    return chunk
  }

  #closeStretch(): void {
    const chunk = this.#chunks.at(-1)
    if (chunk === undefined || chunk.used === this.#from) return
    this.#buffers.push(chunk.bytes.subarray(this.#from, chunk.used))
    this.#from = chunk.used
  }
}

/** What a pending append takes besides its bytes, about. */
const PENDING_OVERHEAD_BYTES = 256

export class AppendQueue {
  readonly #encoder: RecordEncoder
  #waiting: Queued[] = []
  /** First of `#waiting` that has not been taken. */
  #head = 0
  #filling: Group | null = null
  #mostGroupBytes = MOST_GROUP_BYTES
  #pending = 0

  constructor(encoder: RecordEncoder) {
    this.#encoder = encoder
  }

  /** Bytes that what is pending holds, about: records on disk, and what each append takes besides. */
  get pendingBytes(): number {
    return this.#pending
  }

  /** Is there nothing that could be taken? */
  get empty(): boolean {
    return this.#filling === null && this.#head === this.#waiting.length
  }

  /** Is there so much that waiting for more would gain nothing? */
  get pressing(): boolean {
    return this.#head < this.#waiting.length
  }

  /** A group that holds so much takes no more appends from now on. */
  limitGroups(bytes: number): void {
    this.#mostGroupBytes = Math.min(bytes, MOST_GROUP_BYTES)
  }

  push(item: Queued): void {
    if (item instanceof Append) {
      this.#pending += pendingBytesOf(item)
      if (this.#head === this.#waiting.length && this.#fill(item)) return
    }
    this.#waiting.push(item)
  }

  /** The next group to write or operation to run, in order. */
  take(): Group | Operation | undefined {
    this.#refill()
    const group = this.#filling
    if (group !== null) {
      this.#filling = null
      return group
    }
    return this.#shift() as Operation | undefined
  }

  /** Encodes what will be written next; for while something else is being written. */
  encodeAhead(): void {
    this.#refill()
    this.#filling?.encode(MOST_GROUP_BYTES)
  }

  /** A group is done with: its memory is for others. */
  done(group: Group): void {
    group.done()
    for (const append of group.appends) this.#pending -= pendingBytesOf(append)
  }

  /** Everything that is pending, taken out. */
  drain(): Queued[] {
    const all: Queued[] = []
    if (this.#filling !== null) {
      all.push(...this.#filling.appends)
      this.done(this.#filling)
      this.#filling = null
    }
    for (let item = this.#shift(); item !== undefined; item = this.#shift()) {
      all.push(item)
      if (item instanceof Append) this.#pending -= pendingBytesOf(item)
    }
    return all
  }

  /** Moves what waits into the group being filled, as far as it goes. */
  #refill(): void {
    for (;;) {
      const next = this.#waiting[this.#head]
      if (!(next instanceof Append) || !this.#fill(next)) return
      this.#shift()
    }
  }

  /** Puts the append into the group being filled, if it fits. */
  #fill(append: Append): boolean {
    const group = this.#filling
    if (group === null) this.#filling = new Group(this.#encoder)
    else if (group.bound >= this.#mostGroupBytes) return false
    this.#filling!.add(append)
    return true
  }

  #shift(): Queued | undefined {
    const item = this.#waiting[this.#head]
    if (item === undefined) return undefined
    this.#head++
    if (this.#head === this.#waiting.length || this.#head > 4096) {
      this.#waiting = this.#waiting.slice(this.#head)
      this.#head = 0
    }
    return item
  }
}

function pendingBytesOf(append: Append): number {
  return append.bound + PENDING_OVERHEAD_BYTES
}
