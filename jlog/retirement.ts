/**
 * Finished segments on their way out: each is synced and closed, and its name is synced, together with those of some others.
 * In the background, and one after the other, because syncs side by side would take the threads that writes need (unless
 * everything waits for them anyway).
 */
import { dirname } from 'node:path'
import { type JournalFile, syncDirectory } from './file.js'
import type { SegmentSums } from './segment-sums.js'

/** So many may wait, each an open file; with more of them, writing waits for the disk. */
const MOST_WAITING = 64
/** So many are synced at a time when somebody waits for all: a disk takes several sooner than one by one. */
const MOST_AT_ONCE = 4
/** So many names, new in one directory, share its sync. */
const NAMES_A_SYNC = 8

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
  #work: Promise<void> | null = null
  /** Settles when those being worked on have left. */
  #left: Promise<unknown> = Promise.resolve()
  #atOnce = 1

  /** The first sync that failed, or null. Nothing is synced after it: no later sync could be believed. */
  get failure(): unknown {
    return this.#failure
  }

  add(retiree: Retiree): void {
    this.#waiting.push(retiree)
    this.#work ??= this.#workThrough()
  }

  /** Settles when there is room for another. Never rejects. */
  async room(): Promise<void> {
    while (this.#waiting.length > MOST_WAITING) await this.#left
  }

  /** Settles when all have gone. Never rejects. */
  async settled(): Promise<void> {
    this.#atOnce = MOST_AT_ONCE
    await this.#work
    this.#atOnce = 1
  }

  async #workThrough(): Promise<void> {
    let unnamed: Retiree[] = []
    while (this.#waiting.length > 0) {
      const some = this.#waiting.slice(0, this.#atOnce)
      this.#left = Promise.all(some.map((retiree) => this.#retire(retiree)))
      await this.#left
      this.#waiting.splice(0, some.length)
      unnamed.push(...some.filter((retiree) => retiree.unnamed))
      if (this.#waiting.length === 0 || unnamed.length >= NAMES_A_SYNC) {
        await this.#syncNames(unnamed)
        unnamed = []
      }
    }
    this.#work = null
  }

  async #retire({ file, sums, dirty }: Retiree): Promise<void> {
    if (dirty) await this.#unlessFailed(() => file.sync())
    await sums?.close()
    await file.close().catch(() => {})
  }

  async #syncNames(retirees: readonly Retiree[]): Promise<void> {
    const [first] = retirees
    if (first !== undefined) await this.#unlessFailed(() => syncDirectory(dirname(first.file.path)))
  }

  async #unlessFailed(sync: () => Promise<void>): Promise<void> {
    if (this.#failure !== null) return
    try {
      await sync()
    } catch (error) {
      this.#failure = error
    }
  }
}
