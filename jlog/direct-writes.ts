/**
 * Whether to write on the calling thread. Handing a write to another thread takes longer than copying a megabyte into
 * the page cache, so that is where writes go while none of them has to wait; after one that did, they go to the
 * thread pool for a while, and nobody waits for more than that one.
 */

/** What is copied into the page cache takes no longer, unless the disk makes it wait. */
const STALL_MS = 10
const PAUSE_MS = 1000

export class DirectWrites {
  /** When the next may be made. */
  #from: number

  constructor(allowed: boolean) {
    this.#from = allowed ? 0 : Number.POSITIVE_INFINITY
  }

  get allowed(): boolean {
    return this.#from === 0 || performance.now() >= this.#from
  }

  /** Does `write`, and learns from how long it took. */
  run<T>(write: () => T): T {
    const start = performance.now()
    try {
      return write()
    } finally {
      const end = performance.now()
      this.#from = end - start > STALL_MS ? end + PAUSE_MS : 0
    }
  }
}
