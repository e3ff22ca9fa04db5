/**
 * The segment that a subscriber is in: open with its index, which is brought up to date here; its records one after the other, and by
 * their markers. What was read to index it is kept for the subscriber, who is to get it next. Repairs nothing: it says
 * what it finds.
 */
import { KeptBatches } from './kept-batches.js'
import type { BatchLimits, JournalRecord, RecordBatch } from './record-batch.js'
import { type IndexState, SegmentIndex, type StorageLogSource } from './segment-index.js'
import { ChunkPool, corruptSegment, SegmentReader } from './segment-reader.js'

/** What is known of a segment before it is looked at. */
export interface KnownSegment {
  /** Nothing will be appended to it any more. */
  readonly finished: boolean
  /** So many of its records will not be asked for in turn. */
  readonly passed: number
}

const NOTHING_KNOWN: KnownSegment = { finished: false, passed: Number.POSITIVE_INFINITY }

interface Open {
  readonly index: SegmentIndex
  records: number
  dataEnd: number
}

export class SubscriberSegment {
  readonly #dir: string
  readonly #storageLog: StorageLogSource
  readonly #pool = new ChunkPool()
  #open: Open | null = null
  /** Records that were read to index the segment. */
  readonly #kept = new KeptBatches()
  /** Reads on behalf of `take`. */
  #taking: SegmentReader | null = null
  /** Reads on behalf of `record`, and what of it was read already. */
  #single: { readonly reader: SegmentReader; batch: RecordBatch | null } | null = null

  constructor(dir: string, storageLog: StorageLogSource) {
    this.#dir = dir
    this.#storageLog = storageLog
  }

  /** Number of the open segment, or null. */
  get log(): number | null {
    return this.#open?.index.log ?? null
  }

  get path(): string {
    return this.#open!.index.data.path
  }

  /** Complete records of the open segment, as `resync` found them. */
  get records(): number {
    return this.#open?.records ?? 0
  }

  /**
   * Makes this segment the open one, its index up to date.
   * @returns null when there is no such segment
   */
  async resync(
    log: number,
    hdrMagic: number,
    known: KnownSegment = NOTHING_KNOWN,
  ): Promise<IndexState | null> {
    const index = this.#open?.index
    if (index?.log !== log || index.hdrMagic !== hdrMagic || index.stale) {
      await this.close()
      const index = await SegmentIndex.open(this.#dir, log, hdrMagic, this.#pool)
      if (index === null) return null
      this.#open = { index, records: 0, dataEnd: 0 }
    }
    const open = this.#open!
    const { finished, passed } = known
    const keep = (batch: RecordBatch) => this.#kept.keep(batch, passed)
    const state = await open.index.resync(this.#storageLog, finished, keep, passed)
    if (state.kind === 'indexed') {
      open.records = state.records
      open.dataEnd = state.dataEnd
    }
    return state
  }

  /** What was kept of the records from this marker on, whichever segment is open by now; they are given away. */
  kept(marker: number, limits: BatchLimits): RecordBatch | null {
    return this.#kept.take(marker, limits)
  }

  /** The next records from this marker on, which is where the last ones ended, or where `rewind` was called. */
  async take(marker: number, limits: BatchLimits): Promise<RecordBatch> {
    this.#taking ??= await this.#readerAt(marker)
    return this.#next(this.#taking, limits)
  }

  /** What `take` gives next may be anywhere. */
  async rewind(): Promise<void> {
    const taking = this.#taking
    this.#taking = null
    await taking?.settle()
  }

  /** A record, if it was read already for an earlier one. */
  held(marker: number): JournalRecord | null {
    const batch = this.#single?.batch ?? null
    const i = batch === null ? -1 : marker - batch.first.marker
    return batch !== null && i >= 0 && i < batch.length ? batch.record(i) : null
  }

  /** A record of the open segment. One after the other is fast; each other order costs a read. */
  async record(marker: number): Promise<JournalRecord> {
    const held = this.held(marker)
    if (held !== null) return held
    if (this.#single === null || this.#single.batch?.last.marker !== marker - 1) {
      await this.#dropSingle()
      this.#single = { reader: await this.#readerAt(marker), batch: null }
    }
    const batch = await this.#next(this.#single.reader)
    this.#single.batch = batch
    return batch.record(0)
  }

  async close(): Promise<void> {
    this.#kept.clear()
    await this.rewind()
    await this.#dropSingle()
    const open = this.#open
    this.#open = null
    await open?.index.close()
  }

  async #next(reader: SegmentReader, limits?: BatchLimits): Promise<RecordBatch> {
    const { dataEnd, index } = this.#open!
    const step = await reader.next(dataEnd, limits)
    if (step.batch !== null) return step.batch
    throw corruptSegment(index.data.path, index.log, reader.place.position, step.stop)
  }

  async #readerAt(marker: number): Promise<SegmentReader> {
    const { index } = this.#open!
    const { log, data, hdrMagic } = index
    const place = { position: await index.offsetOf(marker), marker }
    return new SegmentReader(data, { log, path: data.path, hdrMagic, ...place }, this.#pool)
  }

  async #dropSingle(): Promise<void> {
    const single = this.#single
    this.#single = null
    await single?.reader.settle()
  }
}
