/** A body on its way out: a small one read already, a large one read as it is taken and held meanwhile. */
import { invalid } from './errors.js'
import { type BodyRef, CHUNK_BYTES } from './layout.js'
import type { SwappedBody } from './message.js'

/** Chunks read in one piece. */
const READ_CHUNKS = 4

export class SmallRead implements SwappedBody {
  readonly size: number
  readonly start: number
  readonly end: number
  readonly #digest: Buffer
  readonly #bytes: Buffer

  constructor({ size, sha256 }: BodyRef, start: number, end: number, bytes: Buffer) {
    this.size = size
    this.#digest = sha256
    this.start = start
    this.end = end
    this.#bytes = bytes
  }

  get sha256(): string {
    return this.#digest.toString('hex')
  }

  get stream(): AsyncIterable<Uint8Array> {
    return once(this.#bytes)
  }

  buffer(): Promise<Buffer> {
    return Promise.resolve(this.#bytes)
  }

  release(): void {}

  /** The beginning of what was read, when that is the whole. */
  upTo(ref: BodyRef, end: number): SmallRead {
    return new SmallRead(ref, 0, end, this.#bytes.subarray(0, end))
  }
}

export class LargeRead implements SwappedBody {
  readonly size: number
  readonly start: number
  readonly end: number
  readonly #digest: Buffer
  readonly #slice: (from: number, to: number) => Buffer
  readonly #letGo: () => void
  #state: 'unread' | 'reading' | 'released' = 'unread'

  constructor(
    { size, sha256 }: BodyRef,
    start: number,
    end: number,
    slice: (from: number, to: number) => Buffer,
    letGo: () => void,
  ) {
    this.size = size
    this.#digest = sha256
    this.start = start
    this.end = end
    this.#slice = slice
    this.#letGo = letGo
  }

  get sha256(): string {
    return this.#digest.toString('hex')
  }

  get stream(): AsyncIterable<Uint8Array> {
    return this.#read()
  }

  async buffer(): Promise<Buffer> {
    const parts: Uint8Array[] = []
    for await (const part of this.#read()) parts.push(part)
    return Buffer.concat(parts, this.end - this.start)
  }

  release(): void {
    if (this.#state === 'released') return
    this.#state = 'released'
    this.#letGo()
  }

  async *#read(): AsyncGenerator<Uint8Array, void, void> {
    if (this.#state !== 'unread') throw invalid('stream', 'the body was read already')
    this.#state = 'reading'
    const step = READ_CHUNKS * CHUNK_BYTES
    try {
      for (let at = this.start; at < this.end; ) {
        const to = Math.min(this.end, at - (at % step) + step)
        yield this.#slice(at, to)
        at = to
        // A reader that takes everything at once must not hold up the others.
        await turn()
      }
    } finally {
      this.release()
    }
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Uint8Array, void, void> {
  if (bytes.length > 0) yield bytes
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
