/**
 * When to leave a lock free for a moment. Nobody can queue for a file's lock, so a writer that takes it again the
 * instant it let go would keep all others out: it pauses when it met others, and now and then in case there are some.
 */
import { setTimeout as delay } from 'node:timers/promises'

/** After this long of taking the lock again and again it is left free once. */
const PAUSE_EVERY_MS = 200
/** Longer than those who wait for a lock wait between tries. */
const PAUSE_MS = 2

export class LockManners {
  #contended: boolean = false
  #lastPause = 0
  #releasedAt = 0

  /** Somebody else holds the lock, or held it since we did. */
  metOthers(): void {
    this.#contended = true
  }

  released(): void {
    this.#releasedAt = performance.now()
  }

  /** May the lock be taken without a pause? */
  mayTake(): boolean {
    if (this.#contended) return false
    const now = performance.now()
    if (now - this.#releasedAt >= PAUSE_MS) this.#lastPause = now
    return now - this.#lastPause <= PAUSE_EVERY_MS
  }

  /** Leaves the lock free, unless it was for long enough already. */
  async pause(): Promise<void> {
    if (performance.now() - this.#releasedAt < PAUSE_MS) await delay(PAUSE_MS)
    this.#lastPause = performance.now()
    this.#contended = false
  }
}
