/**
 * Appending by way of the pre-commit buffer: records are collected there, and go to the segment when the next ones do
 * not fit, on flush and on close. What is larger than the buffer goes to the segment directly, after what is pending.
 * Every call but `close` is made between the appender's `begin` and `release`, and leaves it so.
 */
import { Group, type Piece } from './append-queue.js'
import { SAFETY } from './format.js'
import type { LogId } from './log-id.js'
import { PreCommit } from './pre-commit.js'
import type { RecordEncoder } from './record-encoder.js'
import type { SegmentAppender } from './segment-appender.js'

export class PreCommitStage {
  readonly #appender: SegmentAppender
  readonly #encoder: RecordEncoder
  readonly #preCommit: PreCommit

  private constructor(appender: SegmentAppender, encoder: RecordEncoder, preCommit: PreCommit) {
    this.#appender = appender
    this.#encoder = encoder
    this.#preCommit = preCommit
  }

  /**
   * Moves to the segment what a dead writer left in the buffer, and gives the buffer the capacity asked for.
   * @returns null when the journal has no pre-commit buffer
   */
  static async open(
    appender: SegmentAppender,
    encoder: RecordEncoder,
    capacity?: number,
  ): Promise<PreCommitStage | null> {
    const { dir, hdrMagic, fileMode } = appender
    let preCommit = await PreCommit.open(dir, hdrMagic, fileMode)
    try {
      if (preCommit.records > 0) await recover(appender, preCommit)
      if (capacity !== undefined && capacity !== preCommit.capacity) {
        preCommit = await PreCommit.resize(dir, hdrMagic, preCommit, capacity)
      }
      if (preCommit.capacity === 0) {
        await preCommit.close()
        return null
      }
      if (appender.place.marker === 0) preCommit.segmentEndsWith(null)
      return new PreCommitStage(appender, encoder, preCommit)
    } catch (error) {
      await preCommit.close()
      throw error
    }
  }

  /** Records that wait in the buffer. */
  get records(): number {
    return this.#preCommit.records
  }

  /** Appends a group. @returns each append's first id, in order */
  async write(group: Group): Promise<LogId[]> {
    await this.forgetMoved()
    const ids: LogId[] = []
    for (const append of group.appends) {
      const alone = new Group(this.#encoder)
      alone.add(append)
      try {
        ids.push(await this.#writeAlone(alone))
      } finally {
        alone.done()
      }
    }
    await this.#preCommit.store(this.#durable)
    return ids
  }

  /** Moves what is pending to the segment, and on to the next segment when that one is full. */
  async flush(): Promise<void> {
    await this.forgetMoved()
    await this.#flush()
  }

  /** Pending records that another process has moved to the segment are pending no more, and durable: that process may not have seen to it. */
  async forgetMoved(): Promise<void> {
    if (this.#preCommit.forgetMoved()) await this.#appender.sync(true)
  }

  async #flush(): Promise<void> {
    const preCommit = this.#preCommit
    if (preCommit.records === 0) return
    // The file must hold all that is moved: whoever finds the move half done compares with the file.
    await preCommit.store(this.#durable)
    await this.#append([preCommit.pending], preCommit.pending.length, preCommit.records)
    preCommit.segmentEndsWith(preCommit.pending)
    if (this.#durable) await this.#appender.sync()
    await preCommit.clear(this.#durable)
    await this.#rollIfFull()
  }

  async sync(): Promise<void> {
    await this.forgetMoved()
    await this.#preCommit.sync()
  }

  async close(): Promise<void> {
    await this.#preCommit.close()
  }

  get #durable(): boolean {
    return this.#appender.meta.safety === SAFETY.safe
  }

  async #writeAlone(group: Group): Promise<LogId> {
    const preCommit = this.#preCommit
    group.encode(preCommit.capacity + 1)
    const piece = group.take()!
    const only = piece.bytes <= preCommit.capacity ? bytesOf(piece) : null
    if (only === null || !preCommit.mayHold(only)) await this.#flush()
    const { log, marker } = this.#appender.place
    const first = { log, marker: marker + preCommit.records + 1 }
    if (only !== null && preCommit.mayHold(only)) preCommit.put(only)
    else await this.#direct(piece, group)
    return first
  }

  /** To the segment, where nothing is pending before it. */
  async #direct(first: Piece, group: Group): Promise<void> {
    const place = this.#appender.place
    try {
      for (let piece: Piece | null = first; piece !== null; piece = group.take()) {
        await this.#appender.append(piece.buffers, piece.bytes, piece.records)
        this.#preCommit.segmentEndsWith(bytesOf(piece))
      }
    } catch (error) {
      await this.#appender.cutBack(place)
      throw error
    }
    await this.#rollIfFull()
  }

  async #append(buffers: Buffer[], bytes: number, records: number): Promise<void> {
    const place = this.#appender.place
    try {
      await this.#appender.append(buffers, bytes, records)
    } catch (error) {
      await this.#appender.cutBack(place)
      throw error
    }
  }

  async #rollIfFull(): Promise<void> {
    if (!this.#appender.full) return
    await this.#appender.roll()
    await this.#appender.begin()
    if (this.#appender.place.marker === 0) this.#preCommit.segmentEndsWith(null)
  }
}

async function recover(appender: SegmentAppender, preCommit: PreCommit): Promise<void> {
  const { pending, records } = preCommit
  const place = appender.place
  const there = await preCommit.alreadyInSegment(place.offset, (offset, length) =>
    appender.read(offset, length),
  )
  if (there.bytes < pending.length) {
    const rest = pending.subarray(there.bytes)
    try {
      await appender.append([rest], rest.length, records - there.records)
    } catch (error) {
      await appender.cutBack(place)
      throw error
    }
  }
  preCommit.segmentEndsWith(pending)
  // The bytes may be a dead writer's that no sync has covered: only when they are on the disk is the buffer emptied.
  await appender.sync(true)
  await preCommit.clear(true)
}

/** The piece as one buffer. */
function bytesOf({ buffers, bytes }: Piece): Buffer {
  const [only] = buffers
  if (buffers.length > 1 || only === undefined) return Buffer.concat(buffers, bytes)
  return Buffer.from(only.buffer, only.byteOffset, only.byteLength)
}
