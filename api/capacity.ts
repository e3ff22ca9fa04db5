/** A bound on how many of something there may be: asked and made one after the other, so that two cannot pass at the last place. */
import { HttpError } from './problem.js'

export class Capacity {
  readonly #max: number
  readonly #code: string
  readonly #what: string
  #last: Promise<unknown> = Promise.resolve()

  /** @param what what to call too many of them, as in `journals (limits.journals)` */
  constructor(max: number, code: string, what: string) {
    this.#max = max
    this.#code = code
    this.#what = what
  }

  /**
   * @param count how many there are
   * @throws HttpError 422 when there are as many as there may be
   */
  make<T>(count: () => Promise<number>, make: () => Promise<T>): Promise<T> {
    const made = this.#last.then(async () => {
      if ((await count()) >= this.#max) {
        throw new HttpError(
          422,
          this.#code,
          `there are ${this.#max} ${this.#what} already; remove one, or raise the limit`,
        )
      }
      return make()
    })
    this.#last = made.catch(() => undefined)
    return made
  }
}
