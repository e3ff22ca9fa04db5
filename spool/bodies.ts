/**
 * Bodies, in chunks. A small one travels in memory and is written with its message. A large one is never
 * whole in memory: its chunks are written as they come, under a row in `staged` that says they belong to
 * no message yet; the message that takes the body removes the row in its own transaction. A body to be
 * deleted gets the same row, so what a crash leaves behind is found at the next open without a scan.
 */
import { createHash, hash } from 'node:crypto'
import type { ReadActivity } from './activity.js'
import { abortable, Intake } from './body-intake.js'
import { LargeRead, SmallRead } from './body-read.js'
import { packChunk, packChunkApart, unpackChunk } from './chunk-codec.js'
import type { Committer, Transaction } from './committer.js'
import { invalid, SpoolError } from './errors.js'
import { type BodyRef, CHUNK_BYTES, chunkCount, chunkKey, chunkLength } from './layout.js'
import type { ByteRange, StagedBody, StageOptions, SwappedBody } from './message.js'
import type { IdGenerator } from './message-id.js'
import type { RowStore } from './rows.js'

/** Chunks deleted in one operation. */
const DELETE_CHUNKS = 512

/** Bodies up to so many bytes are packed in this thread: 0.2 ms at most. */
const PACK_AT_ONCE = 4 * CHUNK_BYTES
/** Reads up to so many bytes are done at once, also when that means to unpack them. */
const READ_AT_ONCE = 17 * CHUNK_BYTES

const EMPTY = Buffer.alloc(0)
const END = Buffer.from([0xff, 0xff, 0xff, 0xff])

export interface BodiesOptions {
  largeMessageThreshold: number
  maxMessageSize: number
  /** Bodies of so many bytes, and the rest of those that come, are packed; infinite: none are. */
  packFrom: number
  /** Whose staged bodies are taken, too, when they are in memory. */
  takesFrom?: Bodies | undefined
}

/** Where a staged body is: in memory, as it is or in chunks that are packed, or stored. */
type Place =
  | { readonly buffer: Uint8Array }
  | { readonly rows: readonly Uint8Array[] }
  | { readonly stored: Buffer }

/** `free` may go into a message; `taken` is in one; `discarded` is nowhere. */
type StagedState = 'free' | 'taken' | 'discarded'

export class Staged implements StagedBody {
  readonly size: number
  readonly digest: Buffer
  readonly place: Place
  readonly owner: Bodies
  state: StagedState = 'free'

  constructor(owner: Bodies, size: number, digest: Buffer, place: Place) {
    this.owner = owner
    this.size = size
    this.digest = digest
    this.place = place
  }

  get sha256(): string {
    return this.digest.toString('hex')
  }

  /** Bytes that are written with its message. */
  get weight(): number {
    const { place } = this
    if ('buffer' in place) return this.size
    return 'rows' in place ? place.rows.reduce((sum, { length }) => sum + length, 0) : 0
  }

  async discard(): Promise<void> {
    if (this.state !== 'free') return
    this.state = 'discarded'
    if ('stored' in this.place) await this.owner.discard(this.place.stored)
  }
}

export class Bodies {
  readonly #store: RowStore
  readonly #committer: Committer
  readonly #ids: IdGenerator
  readonly #options: BodiesOptions
  /** Large bodies being read, by id, with their number of readers. */
  readonly #held = new Map<string, number>()
  /** Bodies whose chunks the transaction under way removes: until it is committed they can still be read, at once. */
  readonly #going = new Set<string>()
  #reads = 0
  #bytesRead = 0
  /** Bodies to delete once their readers have let go. */
  readonly #doomed = new Map<string, Buffer>()
  readonly #removals = new Set<Promise<void>>()
  /** Bodies that could not be deleted, the disk being full. */
  #left: Buffer[] = []
  #closing = false

  constructor(store: RowStore, committer: Committer, ids: IdGenerator, options: BodiesOptions) {
    this.#store = store
    this.#committer = committer
    this.#ids = ids
    this.#options = options
  }

  /** Deletes, in the background, what a crash left without a message. */
  sweep(): void {
    for (const body of this.#store.db('staged').getKeys()) this.#removeLater(Buffer.from(body))
  }

  /** Throws SPOOL_ERR_TOO_LARGE, SPOOL_ERR_ABORTED, and what a write throws; then nothing is left. */
  async stage(
    source: Uint8Array | AsyncIterable<Uint8Array>,
    { maxBytes = Number.POSITIVE_INFINITY, signal }: StageOptions = {},
  ): Promise<Staged> {
    const limit = Math.min(maxBytes, this.#options.maxMessageSize)
    if (source instanceof Uint8Array) {
      if (source.length > limit) throw tooLarge(limit)
      if (source.length <= this.#options.largeMessageThreshold) return this.#inMemory(source)
    }
    const intake = new Intake(
      this.#store,
      this.#committer,
      this.#ids.next(),
      this.#options.packFrom,
    )
    const hashing = createHash('sha256')
    const small: Uint8Array[] = []
    let size = 0
    try {
      for await (const piece of source instanceof Uint8Array
        ? [source]
        : abortable(source, signal)) {
        if (!(piece instanceof Uint8Array)) throw invalid('body', 'the source gave no bytes')
        size += piece.length
        if (size > limit) throw tooLarge(limit)
        hashing.update(piece)
        if (size <= this.#options.largeMessageThreshold) {
          small.push(piece)
          continue
        }
        for (const kept of small.splice(0)) await intake.add(kept)
        await intake.add(piece)
      }
      const digest = hashing.digest()
      if (size <= this.#options.largeMessageThreshold) {
        return await this.#inMemory(Buffer.concat(small, size), digest)
      }
      await intake.finish()
      return new Staged(this, size, digest, { stored: intake.body })
    } catch (error) {
      await intake.settled()
      if (intake.started) await this.discard(intake.body)
      if (error instanceof SpoolError) throw error
      throw new SpoolError('SPOOL_ERR_ABORTED', 'the body broke off', { cause: error })
    }
  }

  /** Bytes that can be had as a body at once, to be written with its message; undefined: stage them. */
  inMemory(bytes: Uint8Array): Staged | undefined {
    const { packFrom } = this.#options
    const { length } = bytes
    if (!this.isSmall(bytes)) return undefined
    if (length < packFrom) return new Staged(this, length, digestOf(bytes), { buffer: bytes })
    if (length > PACK_AT_ONCE) return undefined
    return new Staged(this, length, digestOf(bytes), { rows: chunksOf(bytes).map(packChunk) })
  }

  /** Whether the bytes may be held in memory and are within the limit. */
  isSmall({ length }: Uint8Array): boolean {
    const { largeMessageThreshold, maxMessageSize } = this.#options
    return length <= largeMessageThreshold && length <= maxMessageSize
  }

  async #inMemory(bytes: Uint8Array, digest = digestOf(bytes)): Promise<Staged> {
    const { length } = bytes
    if (length < this.#options.packFrom) return new Staged(this, length, digest, { buffer: bytes })
    const chunks = chunksOf(bytes)
    const rows =
      length > PACK_AT_ONCE ? await Promise.all(chunks.map(packChunkApart)) : chunks.map(packChunk)
    return new Staged(this, length, digest, { rows })
  }

  /** Whether the body was staged here, or can be had from where it was. */
  takes({ owner, place }: Staged): boolean {
    return owner === this || (owner === this.#options.takesFrom && !('stored' in place))
  }

  /** Within the message's transaction: makes the body the message's. Returns its id. */
  take(tx: Transaction, staged: Staged, idForNew: Buffer): Buffer {
    const { place } = staged
    if ('stored' in place) {
      tx.remove('staged', place.stored)
      return place.stored
    }
    const rows = 'rows' in place ? place.rows : chunksOf(place.buffer)
    for (const [n, row] of rows.entries()) {
      tx.putNew('chunks', chunkKey(idForNew, n), row as Buffer)
    }
    return idForNew
  }

  /**
   * Within the removing transaction: the body's last message is gone. Returns what is to be called
   * when that is committed.
   */
  drop(tx: Transaction, { body, size }: BodyRef): () => void {
    if (size <= this.#options.largeMessageThreshold && !this.#held.has(keyOf(body))) {
      for (let n = chunkCount(size) - 1; n >= 0; n--) tx.remove('chunks', chunkKey(body, n))
      this.#going.add(keyOf(body))
      return () => undefined
    }
    tx.put('staged', body, EMPTY)
    return () => this.#removeLater(body)
  }

  /**
   * The committed body, or a range of it. A small one is read at once, a large one as it is taken.
   * `onCorrupt` is told when it cannot be read.
   */
  read(
    ref: BodyRef,
    { start, end }: ByteRange,
    onCorrupt: (error: unknown) => void = () => undefined,
  ): SwappedBody {
    this.#reads++
    if (end - start <= this.#readAtOnce) {
      return new SmallRead(ref, start, end, this.#told(ref, onCorrupt)(start, end))
    }
    return this.readInPieces(ref, { start, end }, onCorrupt)
  }

  /** As `read`, and a small one as it is taken, too. */
  readInPieces(
    ref: BodyRef,
    { start, end }: ByteRange,
    onCorrupt: (error: unknown) => void = () => undefined,
  ): SwappedBody {
    const slice = this.#told(ref, onCorrupt)
    const key = keyOf(ref.body)
    if (this.#going.has(key)) return new SmallRead(ref, start, end, slice(start, end))
    this.#held.set(key, (this.#held.get(key) ?? 0) + 1)
    return new LargeRead(ref, start, end, slice, () => this.#letGo(key))
  }

  get activity(): ReadActivity {
    return { reads: this.#reads, bytesRead: this.#bytesRead }
  }

  /**
   * Deletes a body that belongs to no message, and its row in `staged` last. When it cannot be deleted
   * now it keeps its row, and goes after a later commit or at the next open.
   */
  discard(body: Buffer): Promise<void> {
    const removal = this.#remove(body)
      .catch(() => void this.#left.push(body))
      .finally(() => this.#removals.delete(removal))
    this.#removals.add(removal)
    return removal
  }

  /** There is room again: deletes what could not be deleted. */
  committed(): void {
    this.#going.clear()
    for (const body of this.#left.splice(0)) this.#removeLater(body)
  }

  /** Stops deleting; the next open goes on. */
  async close(): Promise<void> {
    this.#closing = true
    await Promise.allSettled(this.#removals)
  }

  async #remove(body: Buffer): Promise<void> {
    const end = Buffer.concat([body, END, END])
    for (;;) {
      if (this.#closing) return
      const keys: Buffer[] = []
      for (const key of this.#store
        .db('chunks')
        .getKeys({ start: body, end, limit: DELETE_CHUNKS })) {
        keys.push(key)
      }
      this.#store.streamed(keys.length * CHUNK_BYTES)
      const last = keys.length < DELETE_CHUNKS
      await this.#committer.submit((tx) => {
        for (const key of keys) tx.remove('chunks', key)
        if (last) tx.remove('staged', body)
      }, keys.length * 64)
      if (last) return
    }
  }

  #removeLater(body: Buffer): void {
    const key = keyOf(body)
    if (this.#held.has(key)) this.#doomed.set(key, body)
    else void this.discard(body)
  }

  #letGo(key: string): void {
    const readers = (this.#held.get(key) ?? 1) - 1
    if (readers > 0) {
      this.#held.set(key, readers)
      return
    }
    this.#held.delete(key)
    const doomed = this.#doomed.get(key)
    if (doomed === undefined) return
    this.#doomed.delete(key)
    this.#removeLater(doomed)
  }

  /** Reads slices; `onCorrupt` is told when one cannot be read. */
  #told(ref: BodyRef, onCorrupt: (error: unknown) => void): (from: number, to: number) => Buffer {
    return (from, to) => {
      try {
        return this.#slice(ref, from, to)
      } catch (error) {
        onCorrupt(error)
        throw error
      }
    }
  }

  get #readAtOnce(): number {
    return Math.min(this.#options.largeMessageThreshold, READ_AT_ONCE)
  }

  #slice({ body, size }: BodyRef, start: number, end: number): Buffer {
    if (start >= end) return EMPTY
    this.#bytesRead += end - start
    const chunks = this.#store.db('chunks')
    const first = Math.floor(start / CHUNK_BYTES)
    const last = Math.floor((end - 1) / CHUNK_BYTES)
    const slice = Buffer.allocUnsafe(end - start)
    for (let n = first, at = 0; n <= last; n++) {
      const row = chunks.getBinaryFast(chunkKey(body, n))
      const expected = chunkLength(size, n)
      const chunk = row && unpackChunk(row, expected)
      if (chunk === undefined) throw corruptBody(body, n, row?.length, expected)
      const from = n === first ? start - n * CHUNK_BYTES : 0
      const to = n === last ? end - n * CHUNK_BYTES : CHUNK_BYTES
      slice.set(to - from === chunk.length ? chunk : chunk.subarray(from, to), at)
      at += to - from
    }
    if (size > this.#options.largeMessageThreshold) this.#store.streamed(end - start)
    else this.#store.touched(end - start)
    if (this.#store.wantsRemap) this.#committer.remapSoon()
    return slice
  }
}

function digestOf(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}

function chunksOf(bytes: Uint8Array): Uint8Array[] {
  if (bytes.length <= CHUNK_BYTES) return bytes.length === 0 ? [] : [bytes]
  const chunks: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    chunks.push(bytes.subarray(at, at + CHUNK_BYTES))
  }
  return chunks
}

function keyOf(body: Buffer): string {
  return body.toString('latin1')
}

function tooLarge(limit: number): SpoolError {
  return new SpoolError('SPOOL_ERR_TOO_LARGE', `the body is over the limit of ${limit} bytes`, {
    field: 'body',
  })
}

function corruptBody(
  body: Buffer,
  n: number,
  length: number | undefined,
  expected: number,
): SpoolError {
  const found =
    length === undefined ? 'is missing' : `has ${length} bytes that are not its ${expected}`
  return new SpoolError(
    'SPOOL_ERR_CORRUPT',
    `chunk ${n} of body ${body.toString('hex')} ${found}`,
    { advice: 'stop the service and run the spool check' },
  )
}
