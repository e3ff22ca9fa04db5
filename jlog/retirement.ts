/**
 * Finished segments on their way out: each is synced and closed, and its name is synced, together with those of some
 * others. In the background, and one after the other while the disk keeps up: syncs side by side take the threads
 * that others need, but a disk takes several sooner than one by one.
 */
import { dirname } from 'node:path'
import { type JournalFile, syncDirectory } from './file.js'
import type { SegmentSums } from './segment-sums.js'

/** So many may wait, each an open file; with more of them, writing waits for the disk. */
const MOST_WAITING = 64
/** For each so many that wait, one more is synced at a time. */
const WAITING_FOR_ONE_MORE = 8
/** So many are synced at a time: one of the threads, of which there are four, is left for others … */
const MOST_AT_ONCE = 3
/** … unless somebody waits for all. */
const MOST_AT_ONCE_AWAITED = 4
/** So many names, new in one directory, share its sync: ext4 without a journal makes no file there meanwhile. */
const NAMES_A_SYNC = 32

export interface Retiree {
  readonly file: JournalFile
  readonly sums: SegmentSums | null
  /** Are there bytes that no sync has covered? */
  readonly dirty: boolean
  /** Is there a name in its directory that no sync has covered? */
  readonly unnamed: boolean
}

export class Retirement {
  readonly #queued: Retiree[] = []
  #working = 0
  /** Callers that wait for all. */
  #awaiting = 0
  /** Called when something is done. */
  #wakers: (() => void)[] = []
  #failure: unknown = null
  /** Directory of the names that no sync has covered, and how many they are. */
  #directory = ''
  #names = 0

  /** The first sync that failed, or null. Nothing is synced after it: no later sync could be believed. */
  get failure(): unknown {
    return this.#failure
  }

  add(retiree: Retiree): void {
    this.#queued.push(retiree)
    this.#goOn()
  }

  /** Settles when there is room for another. Never rejects. */
  async room(): Promise<void> {
    while (this.#left > MOST_WAITING) await this.#change()
  }

  /** Settles when all have gone. Never rejects. */
  async settled(): Promise<void> {
    this.#awaiting++
    this.#goOn()
    while (this.#left > 0) await this.#change()
    this.#awaiting--
  }

  get #left(): number {
    return this.#queued.length + this.#working
  }

  get #atOnce(): number {
    if (this.#awaiting > 0) return MOST_AT_ONCE_AWAITED
    return Math.min(1 + Math.floor(this.#queued.length / WAITING_FOR_ONE_MORE), MOST_AT_ONCE)
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wakers.push(resolve))
  }

  /** Starts what can be started. */
  #goOn(): void {
    while (this.#working < this.#atOnce) {
      const next = this.#queued.shift()
      if (next === undefined) break
      void this.#work(this.#retire(next))
    }
    if (this.#names >= NAMES_A_SYNC || (this.#names > 0 && this.#left === 0)) {
      this.#names = 0
      void this.#work(this.#unlessFailed(() => syncDirectory(this.#directory)))
    }
  }

  async #work(task: Promise<void>): Promise<void> {
    this.#working++
    await task
    this.#working--
    this.#goOn()
    const wakers = this.#wakers
    this.#wakers = []
    for (const wake of wakers) wake()
  }

  async #retire({ file, sums, dirty, unnamed }: Retiree): Promise<void> {
    if (dirty) await this.#unlessFailed(() => file.sync())
    await sums?.close()
    await file.close().catch(() => {})
    if (!unnamed) return
    this.#directory = dirname(file.path)
    this.#names++
  }

  async #unlessFailed(sync: () => Promise<void>): Promise<void> {
    if (this.#failure !== null) return
    try {
      await sync()
    } catch (error) {
      this.#failure ??= error
    }
  }
}
