/**
 * Finished segments on their way out: each is synced, its name is synced, it is closed. In the background, and one
 * after the other, because syncs side by side would take the threads that writes need.
 */
import { dirname } from 'node:path'
import { type JournalFile, syncDirectory } from './file.js'
import type { SegmentSums } from './segment-sums.js'

/** So many may wait, each an open file; with more of them, writing waits for the disk. */
const MOST_WAITING = 64

export interface Retiree {
  readonly file: JournalFile
  readonly sums: SegmentSums | null
  /** Are there bytes that no sync has covered? */
  readonly dirty: boolean
  /** Is there a name in its directory that no sync has covered? */
  readonly unnamed: boolean
}

export class Retirement {
  readonly #waiting: Promise<void>[] = []
  #failure: unknown = null

  /** The first sync that failed, or null. Nothing is synced after it: no later sync could be believed. */
  get failure(): unknown {
    return this.#failure
  }

  add(retiree: Retiree): void {
    const before = this.#waiting.at(-1)
    this.#waiting.push(this.#retire(retiree, before))
  }

  /** Settles when there is room for another. Never rejects. */
  async room(): Promise<void> {
    if (this.#waiting.length > MOST_WAITING) await this.#waiting[0]
  }

  /** Settles when all have gone. Never rejects. */
  async settled(): Promise<void> {
    await this.#waiting.at(-1)
  }

  async #retire({ file, sums, dirty, unnamed }: Retiree, before?: Promise<void>): Promise<void> {
    await before
    try {
      if (dirty && this.#failure === null) await file.sync()
      if (unnamed && this.#failure === null) await syncDirectory(dirname(file.path))
    } catch (error) {
      this.#failure ??= error
    }
    await sums?.close()
    await file.close().catch(() => {})
    this.#waiting.splice(0, 1)
  }
}
