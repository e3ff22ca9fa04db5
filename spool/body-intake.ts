/** A large body on its way in: its chunks written as they come, and a source that can be broken off. */

import { packChunkApart } from './chunk-codec.js'
import type { Committer } from './committer.js'
import { SpoolError } from './errors.js'
import { CHUNK_BYTES, chunkKey } from './layout.js'
import type { RowStore } from './rows.js'

/** Chunks written in one operation. */
const SLAB_CHUNKS = 16

const EMPTY = Buffer.alloc(0)

/** Writes a large body's chunks, with no more than two slabs in memory. */
export class Intake {
  readonly body: Buffer
  started = false
  readonly #store: RowStore
  readonly #committer: Committer
  readonly #packFrom: number
  #slab = EMPTY
  #filled = 0
  /** The slab written before, to be filled again once it is on the disk. */
  #spare = EMPTY
  #nextChunk = 0
  #writing: Promise<void> = Promise.resolve()
  #underWay = EMPTY

  /** `packFrom`: chunks are packed once so many bytes have come. */
  constructor(store: RowStore, committer: Committer, body: Buffer, packFrom: number) {
    this.#store = store
    this.#committer = committer
    this.body = body
    this.#packFrom = packFrom
  }

  async add(bytes: Uint8Array): Promise<void> {
    let at = 0
    while (at < bytes.length) {
      if (this.#slab.length === 0) this.#takeSlab()
      const part = bytes.subarray(at, at + this.#slab.length - this.#filled)
      this.#slab.set(part, this.#filled)
      this.#filled += part.length
      at += part.length
      if (this.#filled === this.#slab.length) await this.#write()
    }
  }

  async finish(): Promise<void> {
    await this.#write()
    await this.#writing
  }

  /** Waits for what is under way, whatever comes of it. */
  async settled(): Promise<void> {
    await this.#writing.catch(() => undefined)
  }

  #takeSlab(): void {
    this.#slab =
      this.#spare.length > 0 ? this.#spare : Buffer.allocUnsafeSlow(SLAB_CHUNKS * CHUNK_BYTES)
    this.#spare = EMPTY
  }

  async #write(): Promise<void> {
    const whole = this.#slab
    const slab = whole.subarray(0, this.#filled)
    this.#slab = EMPTY
    this.#filled = 0
    // While the slab before it is being written.
    const rows = await this.#rowsOf(slab)
    await this.#writing
    this.#spare = this.#underWay
    this.#underWay = whole
    if (rows.length === 0) return
    const isFirst = !this.started
    const firstChunk = this.#nextChunk
    this.started = true
    this.#nextChunk += rows.length
    const weight = rows.reduce((sum, { length }) => sum + length, 0)
    this.#store.streamed(weight >> 4)
    this.#writing = this.#committer.submit((tx) => {
      if (isFirst) tx.put('staged', this.body, EMPTY)
      for (const [i, row] of rows.entries()) {
        tx.put('chunks', chunkKey(this.body, firstChunk + i), row as Buffer)
      }
    }, weight)
    // Awaited with the next slab; until then a failure is nobody's unhandled rejection.
    this.#writing.catch(() => undefined)
  }

  async #rowsOf(slab: Buffer): Promise<Uint8Array[]> {
    const chunks: Uint8Array[] = []
    for (let at = 0; at < slab.length; at += CHUNK_BYTES) {
      chunks.push(slab.subarray(at, at + CHUNK_BYTES))
    }
    const size = this.#nextChunk * CHUNK_BYTES + slab.length
    return size < this.#packFrom ? chunks : Promise.all(chunks.map(packChunkApart))
  }
}

/** The source, broken off with SPOOL_ERR_ABORTED when the signal fires, even while it gives nothing. */
export async function* abortable(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  if (signal === undefined) {
    yield* source
    return
  }
  const iterator = source[Symbol.asyncIterator]()
  // One promise a piece: racing each against one promise for all would have that one keep every piece.
  let giveUp: (error: SpoolError) => void = () => undefined
  const fire = () =>
    giveUp(new SpoolError('SPOOL_ERR_ABORTED', 'given up', { cause: signal.reason }))
  signal.addEventListener('abort', fire, { once: true })
  let ended = false
  try {
    for (;;) {
      const next = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
        giveUp = reject
        if (signal.aborted) fire()
        else iterator.next().then(resolve, reject)
      })
      if (next.done === true) {
        ended = true
        return
      }
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', fire)
    // Not awaited: a source that hangs would hang here too.
    if (!ended) iterator.return?.()?.then(undefined, () => undefined)
  }
}
