/**
 * What waits to be appended, in order, and how it is put together: the appends that are waiting form one group, are
 * encoded into one chunk, and share one write and one sync. While a group is written the next one fills.
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
  /** Bytes it takes in its group's chunk. */
  bytes = 0

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

/** Appends that are written together. `chunk` null: one append too large for a chunk, to be written in pieces. */
export interface Group {
  readonly appends: Append[]
  readonly chunk: Chunk | null
}

/** What a pending append takes besides its bytes, about. */
const PENDING_OVERHEAD_BYTES = 256

export class AppendQueue {
  readonly #encoder: RecordEncoder
  #waiting: Queued[] = []
  /** First of `#waiting` that has not been taken. */
  #head = 0
  #filling: Group | null = null
  #mostGroupBytes = Chunk.BYTES
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

  /** Groups grow no larger than this, a single append apart. */
  limitGroups(bytes: number): void {
    this.#mostGroupBytes = Math.min(bytes, Chunk.BYTES)
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
    this.refill()
    const group = this.#filling
    if (group !== null) {
      this.#filling = null
      return group
    }
    return this.#shift() as Operation | undefined
  }

  /** Encodes what waits into the next group, as far as it goes. */
  refill(): void {
    for (;;) {
      const next = this.#waiting[this.#head]
      if (!(next instanceof Append) || !this.#fill(next)) return
      this.#shift()
    }
  }

  /** A group is done with: its memory is for others. */
  done(group: Group): void {
    if (group.chunk !== null) Chunk.give(group.chunk)
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

  /** Puts the append into the group being filled, if it fits. */
  #fill(append: Append): boolean {
    let group = this.#filling
    if (group === null) {
      const chunk = append.bound > Chunk.BYTES ? null : Chunk.take()
      group = { appends: [], chunk }
      this.#filling = group
    } else if (group.chunk === null || group.chunk.used + append.bound > this.#mostGroupBytes) {
      return false
    }
    group.appends.push(append)
    if (group.chunk !== null) {
      const before = group.chunk.used
      this.#encoder.encode(group.chunk, append.records, append.time)
      append.bytes = group.chunk.used - before
    }
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
