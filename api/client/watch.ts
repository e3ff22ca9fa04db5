/** Standstill: an attempt ends when nothing moves for a while, and when its caller ends it. */
import { setMaxListeners } from 'node:events'
import { ClientError } from './errors.js'

/** Over one attempt. `signal` aborts with a ClientError TIMEOUT, or with the caller's reason. */
export class Watch {
  readonly #controller = new AbortController()
  readonly #ms: number
  readonly #outer: AbortSignal | undefined
  readonly #onAbort = () => this.#controller.abort(this.#outer?.reason)
  #timer: NodeJS.Timeout | undefined

  constructor(ms: number, outer: AbortSignal | undefined) {
    this.#ms = ms
    this.#outer = outer
    // One signal for many calls is what it is for, and each call takes its listener away again.
    if (outer) setMaxListeners(0, outer)
    outer?.addEventListener('abort', this.#onAbort)
    this.moved()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  moved(): void {
    if (this.#timer) this.#timer.refresh()
    else if (Number.isFinite(this.#ms)) this.#timer = setTimeout(() => this.#expire(), this.#ms)
  }

  /** It is for the caller to move. */
  pause(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** All of it is done. */
  end(): void {
    this.pause()
    this.#outer?.removeEventListener('abort', this.#onAbort)
  }

  /** Ends what may still be under way, as a body that was answered before it was sent. */
  cut(): void {
    this.end()
    this.#controller.abort()
  }

  #expire(): void {
    this.#controller.abort(
      new ClientError(0, 'TIMEOUT', `nothing came or went for ${this.#ms / 1000} seconds`),
    )
  }
}
