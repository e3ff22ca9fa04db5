/**
 * The time by which messages are due and leases end: the wall clock while that goes forward, and when it
 * steps back, the time it had, going on at the speed of the monotonic clock. So nothing that was due
 * stops being due, and no lease is lengthened or lost by the step. What is logged carries the wall clock.
 */

/** A clock that was further ahead than this before a restart was plainly wrong, and is not followed. */
const MAX_AHEAD_MS = 86_400_000

export class Clock {
  #time: number
  #monotonic = performance.now()

  /** `last`: a time that had come before the restart. */
  constructor(last = 0) {
    const now = Date.now()
    this.#time = last > now && last - now <= MAX_AHEAD_MS ? last : now
  }

  /** Milliseconds since the epoch; never less than before. */
  now(): number {
    const monotonic = performance.now()
    const gone = Math.max(0, monotonic - this.#monotonic)
    this.#monotonic = monotonic
    this.#time = Math.max(Date.now(), this.#time + gone)
    return Math.floor(this.#time)
  }
}
