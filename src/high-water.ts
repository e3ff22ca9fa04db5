/**
 * A limit that does not flap: the water is high once it was over the mark in so many looks one after the other, and
 * until it has been at or below the lower mark for a while without a break.
 */
export interface WaterMarks {
  readonly high: number
  readonly low: number
  /** Milliseconds that it has to be low. */
  readonly hold: number
  /** Looks in a row that have to find it high; default 1. */
  readonly looks?: number
}

export class HighWater {
  readonly #marks: WaterMarks
  #isHigh = false
  #found = 0
  #lowSince: number | null = null

  constructor(marks: WaterMarks) {
    this.#marks = marks
  }

  get isHigh(): boolean {
    return this.#isHigh
  }

  /**
   * @param now milliseconds, of a clock that does not step
   * @returns whether it is high
   */
  look(level: number, now: number): boolean {
    const { high, low, hold, looks = 1 } = this.#marks
    this.#found = level > high ? this.#found + 1 : 0
    if (!this.#isHigh) {
      this.#isHigh = this.#found >= looks
      this.#lowSince = null
      return this.#isHigh
    }
    if (level > low) this.#lowSince = null
    else this.#lowSince ??= now
    if (this.#lowSince !== null && now - this.#lowSince >= hold) this.#isHigh = false
    return this.#isHigh
  }
}
