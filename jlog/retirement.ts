/**
 * Finished segments on their way out: each is synced, its name is synced, it is closed. In the background, and one
 * after the other, because syncs side by side would take the threads that writes need; and a moment after it was
 * finished, when the kernel has written most of it by itself.
 */
import { dirname } from 'node:path'
import { type JournalFile, syncDirectory } from './file.js'
import type { SegmentSums } from './segment-sums.js'

/** So many may wait, each an open file; with more of them, writing waits for the disk. */
const MOST_WAITING = 64
/** How long the first of those waiting does. */
const LINGER_MS = 500

export interface Retiree {
  readonly file: JournalFile
  readonly sums: SegmentSums | null
  /** Are there bytes that no sync has covered? */
  readonly dirty: boolean
  /** Is there a name in its directory that no sync has covered? */
  readonly unnamed: boolean
}

export class Retirement {
  readonly #waiting: Retiree[] = []
  #failure: unknown = null
  #timer: NodeJS.Timeout | null = null
  #work: Promise<void> | null = null

  /** The first sync that failed, or null. Nothing is synced after it: no later sync could be believed. */
  get failure(): unknown {
    return this.#failure
  }

  add(retiree: Retiree): void {
    this.#waiting.push(retiree)
    // A process that has nothing else to do may end; what it has written, it has written.
    this.#timer ??= setTimeout(() => void this.settled(), LINGER_MS).unref()
  }

  /** Settles when there is room for another. Never rejects. */
  async room(): Promise<void> {
    while (this.#waiting.length > MOST_WAITING) await this.#workThrough(MOST_WAITING)
  }

  /** Settles when all have gone. Never rejects. */
  async settled(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    while (this.#waiting.length > 0 || this.#work !== null) await this.#workThrough(0)
  }

  /** Works until no more than `most` wait, after what is being worked on already. */
  async #workThrough(most: number): Promise<void> {
    if (this.#work === null) {
      this.#work = this.#retireDownTo(most).finally(() => {
        this.#work = null
      })
    }
    await this.#work
  }

  async #retireDownTo(most: number): Promise<void> {
    while (this.#waiting.length > most) {
      await this.#retire(this.#waiting[0]!)
      this.#waiting.splice(0, 1)
    }
  }

  async #retire({ file, sums, dirty, unnamed }: Retiree): Promise<void> {
    try {
      if (dirty && this.#failure === null) await file.sync()
      if (unnamed && this.#failure === null) await syncDirectory(dirname(file.path))
    } catch (error) {
      this.#failure ??= error
    }
    await sums?.close()
    await file.close().catch(() => {})
  }
}
