/**
 * How much room there is for the spool, and when to take no more: below the low water mark messages are
 * refused until there is room above the high one again, so that what is there can still be delivered,
 * which takes a little room itself. Looked at from time to time, never by an injection.
 */
import { statfs } from 'node:fs/promises'

export interface SpoolSpace {
  /** Bytes of the file system. */
  readonly total: number
  /** Bytes that this process may still use. */
  readonly available: number
  /** Of what there is for this process, in percent, rounded up. */
  readonly usedPercent: number
}

/** Throws what the system call throws. */
export async function spoolSpace(path: string): Promise<SpoolSpace> {
  const { bsize, blocks, bfree, bavail } = await statfs(path)
  const used = blocks - bfree
  const usedPercent = used + bavail === 0 ? 100 : Math.ceil((used * 100) / (used + bavail))
  return { total: blocks * bsize, available: bavail * bsize, usedPercent }
}

export interface SpaceMarks {
  /** Bytes: with less available no messages are taken. */
  readonly low: number
  /** Bytes: with so much available they are taken again. */
  readonly high: number
}

const LOOK_MS = 1000

export class SpaceWatch {
  readonly #look: () => Promise<SpoolSpace>
  readonly #marks: SpaceMarks
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | undefined
  #isShort = false
  #space: SpoolSpace | undefined

  constructor(path: string, marks: SpaceMarks, look = () => spoolSpace(path)) {
    this.#look = look
    this.#marks = { low: marks.low, high: Math.max(marks.low, marks.high) }
  }

  /** Why no messages are taken; null when they are. No I/O. */
  get reason(): string | null {
    if (!this.#isShort || this.#space === undefined) return null
    const { low, high } = this.#marks
    return `${this.#space.available} bytes are free on the disk of the spool: below ${low}, and not yet ${high} again`
  }

  /** As it was last looked at. */
  get space(): SpoolSpace | undefined {
    return this.#space
  }

  /** Looks once, then from time to time. */
  async start(): Promise<void> {
    await this.look()
    this.#timer = setInterval(() => void this.look(), LOOK_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
  }

  look(): Promise<void> {
    this.#looking ??= this.#once().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #once(): Promise<void> {
    try {
      this.#space = await this.#look()
    } catch {
      // What cannot be told stays as it was; a disk that fails shows by its writes.
      return
    }
    const { available } = this.#space
    if (available < this.#marks.low) this.#isShort = true
    else if (available >= this.#marks.high) this.#isShort = false
  }
}
