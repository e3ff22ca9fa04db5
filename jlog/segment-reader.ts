/**
 * Reading one segment forward, in large positional reads, as batches. Holds at most two chunks (the one handed out
 * is the caller's) plus one record larger than a chunk; a length that leads past the stretch it may read is never
 * believed, so it never takes memory for one. Knows nothing of other segments, checkpoints or repair.
 */
import { constants } from 'node:buffer'
import { join } from 'node:path'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile } from './file.js'
import { segmentFile } from './format.js'
import { type BatchLimits, RecordBatch } from './record-batch.js'
import { type PositionalReader, RecordOffsets, type WalkStop, walkRecords } from './segment.js'

/** Larger reads are hardly faster, and a chunk is what a reader holds. */
export const READ_CHUNK_BYTES = 1024 * 1024

const LEAST_READ_BYTES = 64 * 1024
/** Chunks kept for reuse. */
const MOST_FREE_CHUNKS = 8
const MOST_BYTES_A_READ = 1024 * 1024 * 1024

/** Either records, or why there are none up to the end that was given. */
export type SegmentStep =
  | { readonly batch: RecordBatch }
  | { readonly batch: null; readonly stop: Exclude<WalkStop, 'limit'>; readonly needed: number }

/** Chunks given back by those who held them, for the next read. */
export class ChunkPool {
  readonly #free: Buffer[] = []
  readonly #most: number

  /** @param most chunks kept at once */
  constructor(most = MOST_FREE_CHUNKS) {
    this.#most = most
  }

  take(bytes: number): Buffer {
    if (bytes <= READ_CHUNK_BYTES / 4) return Buffer.allocUnsafeSlow(bytes)
    if (bytes > READ_CHUNK_BYTES) return Buffer.allocUnsafeSlow(bytes)
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(READ_CHUNK_BYTES)
  }

  readonly give = (chunk: Buffer): void => {
    if (chunk.length === READ_CHUNK_BYTES && this.#free.length < this.#most) this.#free.push(chunk)
  }
}

interface Chunk {
  readonly position: number
  readonly bytes: Buffer
  /** Bytes asked for; fewer came where the file is shorter. */
  readonly wanted: number
  readonly got: number
}

export interface SegmentPlace {
  /** Offset in the segment at which the next record begins. */
  readonly position: number
  /** Marker of the next record. */
  readonly marker: number
}

export class SegmentReader {
  readonly log: number
  readonly #file: PositionalReader
  readonly #path: string
  readonly #hdrMagic: number
  readonly #pool: ChunkPool
  readonly #offsets = new RecordOffsets()
  #position: number
  #marker: number
  /** Records walked but not handed out yet, because of the caller's limits. */
  #rest: RecordBatch | null = null
  #ahead: Promise<Chunk> | null = null

  constructor(
    file: PositionalReader,
    at: { log: number; path: string; hdrMagic: number } & SegmentPlace,
    pool = new ChunkPool(),
  ) {
    this.#file = file
    this.log = at.log
    this.#path = at.path
    this.#hdrMagic = at.hdrMagic
    this.#position = at.position
    this.#marker = at.marker
    this.#pool = pool
  }

  /** Where the next record to be handed out begins. */
  get place(): SegmentPlace {
    return this.#rest === null
      ? { position: this.#position, marker: this.#marker }
      : { position: this.#rest.offset(0), marker: this.#rest.marker(0) }
  }

  /**
   * The next records before `end`.
   * @param end how far to look: the file's size, or less; a record that ends after it is incomplete
   */
  async next(end: number, limits: BatchLimits = {}): Promise<SegmentStep> {
    if (this.#rest !== null) return { batch: this.#limited(this.#rest, limits) }
    // Who wants little is not read much for, nor ahead.
    let want = Math.min(READ_CHUNK_BYTES, Math.max(LEAST_READ_BYTES, limits.maxBytes ?? Infinity))
    for (;;) {
      const chunk = await this.#chunk(Math.min(want, Math.max(0, end - this.#position)))
      this.#offsets.clear()
      const { stop, at, needed } = walkRecords(
        chunk.bytes,
        0,
        chunk.got,
        this.#hdrMagic,
        this.#offsets,
      )
      // Where no header follows, the damage may be the last record's own length: nothing confirms it.
      const unconfirmed = stop === 'bad-magic' ? this.#offsets.pop() : undefined
      if (this.#offsets.length > 0) {
        return { batch: this.#handOut(chunk, unconfirmed ?? at, end, limits) }
      }
      this.#pool.give(chunk.bytes)
      const short = chunk.got < chunk.wanted || chunk.position + chunk.got >= end
      if (stop === 'end' || stop === 'limit') return { batch: null, stop: 'end', needed: 0 }
      if (stop === 'bad-magic' || short || chunk.position + needed > end)
        return { batch: null, stop, needed }
      if (needed > constants.MAX_LENGTH) {
        throw new JlogError(
          'JLOG_ERR_FILE_READ',
          `a record of ${needed} bytes is larger than one buffer can be`,
          {
            file: this.#path,
            segment: this.log,
            offset: chunk.position,
          },
        )
      }
      want = needed
    }
  }

  /**
   * Passes over up to `count` records before `end`.
   * @returns those passed over; fewer than `count` when there are no more
   */
  async skip(count: number, end: number): Promise<number> {
    let skipped = 0
    while (skipped < count) {
      const { batch } = await this.next(end, { maxRecords: count - skipped })
      if (batch === null) break
      skipped += batch.length
      batch.release()
    }
    return skipped
  }

  /** Goes to another place of the same segment; what was read ahead is dropped. */
  async seek(place: SegmentPlace): Promise<void> {
    this.#rest = null
    await this.settle()
    this.#position = place.position
    this.#marker = place.marker
  }

  /** Waits for a read that is under way; to be called before the file is closed. */
  async settle(): Promise<void> {
    const ahead = this.#ahead
    this.#ahead = null
    if (ahead !== null) this.#pool.give((await ahead.catch(() => NOTHING)).bytes)
  }

  #handOut(chunk: Chunk, walked: number, end: number, limits: BatchLimits): RecordBatch {
    const batch = new RecordBatch({
      log: this.log,
      firstMarker: this.#marker,
      bytes: chunk.bytes,
      position: chunk.position,
      offsets: this.#offsets.copy(),
      hdrMagic: this.#hdrMagic,
      file: this.#path,
      recycle: this.#pool.give,
    })
    this.#position += walked
    this.#marker += batch.length
    // Read on while the caller works, when there is a good piece left to read.
    if (chunk.wanted === READ_CHUNK_BYTES && this.#position < end) {
      const position = this.#position
      const ahead = this.#read(position, Math.min(READ_CHUNK_BYTES, end - position))
      ahead.catch(() => undefined)
      this.#ahead = ahead
    }
    return this.#limited(batch, limits)
  }

  #limited(batch: RecordBatch, limits: BatchLimits): RecordBatch {
    const count = batch.fitting(0, limits)
    if (count === batch.length) {
      this.#rest = null
      return batch
    }
    this.#rest = batch.slice(count)
    return batch.slice(0, count)
  }

  async #chunk(wanted: number): Promise<Chunk> {
    const ahead = this.#ahead
    if (ahead !== null) {
      this.#ahead = null
      const chunk = await ahead
      const serves = chunk.position === this.#position && wanted <= READ_CHUNK_BYTES
      if (serves) return { ...chunk, got: Math.min(chunk.got, wanted) }
      this.#pool.give(chunk.bytes)
    }
    return this.#read(this.#position, wanted)
  }

  async #read(position: number, wanted: number): Promise<Chunk> {
    const bytes = this.#pool.take(wanted)
    let got = 0
    // One read takes at most 2 GiB less one byte.
    while (got < wanted) {
      const part = Math.min(wanted - got, MOST_BYTES_A_READ)
      const n = await this.#file.readAt(bytes.subarray(got, got + part), position + got)
      got += n
      if (n < part) break
    }
    return { position, bytes, wanted, got }
  }
}

const NOTHING = { bytes: Buffer.alloc(0) }

/** A segment open for reading forward. */
export interface OpenSegment {
  readonly file: JournalFile
  readonly reader: SegmentReader
  readonly hdrMagic: number
  /** Waits for a read under way, then closes the file. */
  close(): Promise<void>
}

/** @returns null when there is no such segment (any more) */
export async function openSegment(
  dir: string,
  log: number,
  hdrMagic: number,
  pool?: ChunkPool,
  through: (file: JournalFile) => PositionalReader = (file) => file,
): Promise<OpenSegment | null> {
  const path = join(dir, segmentFile(log))
  let file: JournalFile
  try {
    file = await JournalFile.open(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
  const start = { log, path, hdrMagic, position: 0, marker: 1 }
  const reader = new SegmentReader(through(file), start, pool)
  return {
    file,
    reader,
    hdrMagic,
    close: async () => {
      await reader.settle()
      await file.close()
    },
  }
}

/** The error for a stretch of a segment that is no record, and should be one. */
export function corruptSegment(
  path: string,
  log: number,
  offset: number,
  stop: WalkStop,
): JlogError {
  const what: Record<WalkStop, string> = {
    end: 'the segment ends before its records do',
    limit: 'the segment ends before its records do',
    'bad-magic': 'what stands here is no record header of this journal',
    'incomplete-header': 'the segment ends within a record header',
    'incomplete-payload': 'a record ends past the end of its segment',
  }
  return new JlogError('JLOG_ERR_FILE_CORRUPT', `the segment is damaged: ${what[stop]}`, {
    file: path,
    segment: log,
    offset,
    advice: 'run `bobbin jlog inspect`, then `bobbin jlog repair`',
  })
}
