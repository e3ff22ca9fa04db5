/**
 * Due messages, claimed as they are taken: a claim is extended for as long as one of its messages is being worked on, and
 * released when the work ends before they are done. So a message is with nobody else while it is worked on, and is due again
 * at once when it was not finished.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { ClientError } from './errors.js'
import { Backoff, ENDLESS, mayRetry } from './retry.js'
import type { CallOptions, ClientOptions } from './transport.js'
import type { ClaimedMessage, ClaimJson, ClaimRequest, ExtendedClaimJson } from './types.js'

export interface ClaimsOptions extends ClaimRequest {
  /** Stops the claiming; the iteration then ends. */
  readonly signal?: AbortSignal | undefined
  /** Milliseconds between two looks while nothing is due; default 1,000. */
  readonly poll?: number | undefined
}

export interface WorkOptions extends ClaimsOptions {
  /** Messages worked on at once; default 10. */
  readonly concurrency?: number | undefined
}

/** What is done with a message; the signal aborts when its lease is lost. */
export type Work = (message: ClaimedMessage, context: { signal: AbortSignal }) => Promise<void>

export interface ClaimCalls {
  claim(request: ClaimRequest, options: CallOptions): Promise<ClaimJson>
  extendClaim(lease: string, seconds: number, options: CallOptions): Promise<ExtendedClaimJson>
  releaseClaim(lease: string): Promise<void>
  readonly onRetry: ClientOptions['onRetry']
}

const DEFAULT_LEASE_SECONDS = 300
const MAX_LIMIT = 1000

/** A claim that is held. */
class Holding {
  readonly #lost = new AbortController()
  readonly #open: Set<string>
  readonly #timer: NodeJS.Timeout

  constructor(
    readonly lease: string,
    readonly messages: readonly ClaimedMessage[],
    extend: (signal: AbortSignal) => Promise<unknown>,
    leaseSeconds: number,
  ) {
    this.#open = new Set(messages.map(({ id }) => id))
    // Twice before it would end, so that one extension may fail.
    this.#timer = setInterval(
      () => {
        extend(this.#lost.signal).catch((error: unknown) => {
          if (!(error instanceof ClientError) || error.temporary) return
          this.end()
          this.#lost.abort(error)
        })
      },
      (leaseSeconds * 1000) / 3,
    )
  }

  /** Aborted when the service says that the lease is over. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Whether all of it is done now. */
  finish({ id }: ClaimedMessage): boolean {
    this.#open.delete(id)
    if (this.#open.size === 0) clearInterval(this.#timer)
    return this.#open.size === 0
  }

  end(): void {
    clearInterval(this.#timer)
  }
}

interface Taken {
  readonly message: ClaimedMessage
  readonly holding: Holding
}

/** Hands out messages one after the other, to as many as ask. */
class Feed {
  readonly #calls: ClaimCalls
  readonly #request: ClaimRequest
  readonly #signal: AbortSignal | undefined
  readonly #poll: number
  readonly #held = new Set<Holding>()
  readonly #ready: Taken[] = []
  #backoff = new Backoff(ENDLESS)
  #filling: Promise<void> | undefined
  #ended = false

  constructor(calls: ClaimCalls, { signal, poll = 1000, ...request }: ClaimsOptions) {
    this.#calls = calls
    this.#request = { lease_seconds: DEFAULT_LEASE_SECONDS, ...request }
    this.#signal = signal
    this.#poll = poll
  }

  /** The next one; null when there will be none. */
  async take(): Promise<Taken | null> {
    for (;;) {
      if (this.#ended || this.#signal?.aborted) return null
      const next = this.#ready.shift()
      if (next === undefined) {
        this.#filling ??= this.#fill().finally(() => {
          this.#filling = undefined
        })
        await this.#filling
      } else if (next.holding.lost.aborted) this.finish(next)
      else return next
    }
  }

  finish({ message, holding }: Taken): void {
    if (holding.finish(message)) this.#held.delete(holding)
  }

  /** Hands out nothing more. */
  stop(): void {
    this.#ended = true
  }

  /** Gives back what is held. Never fails: what could not be given back comes back by its expiry. */
  async release(): Promise<void> {
    this.stop()
    await this.#filling?.catch(() => undefined)
    await Promise.all(
      [...this.#held].map(async (holding) => {
        holding.end()
        await this.#calls.releaseClaim(holding.lease).catch(() => undefined)
      }),
    )
    this.#held.clear()
  }

  /** Claims once; waits before the next time when nothing was due, or nothing came of it. */
  async #fill(): Promise<void> {
    const seconds = this.#request.lease_seconds ?? DEFAULT_LEASE_SECONDS
    try {
      // Without the signal: an answer that nobody reads would be a claim that nobody releases.
      const { lease, messages } = await this.#calls.claim(this.#request, { retry: false })
      this.#backoff = new Backoff(ENDLESS)
      if (lease === null) return this.#pause(this.#poll * (0.75 + Math.random() / 2))
      const extend = (lost: AbortSignal) =>
        this.#calls.extendClaim(lease, seconds, {
          signal: lost,
          retry: { ...ENDLESS, deadline: seconds * 300 },
        })
      const holding = new Holding(lease, messages, extend, seconds)
      this.#held.add(holding)
      this.#ready.push(...messages.map((message) => ({ message, holding })))
    } catch (error) {
      if (!(error instanceof ClientError) || !mayRetry(error, true)) throw error
      const wait = this.#backoff.next(error.retryAfter) ?? 0
      this.#calls.onRetry?.(error, wait)
      await this.#pause(wait)
    }
  }

  async #pause(ms: number): Promise<void> {
    const signal = this.#signal
    await delay(ms, undefined, signal ? { signal } : {}).catch((error: unknown) => {
      if (!signal?.aborted) throw error
    })
  }
}

/** Messages one after the other. One is done with when the next is asked for. */
export async function* claims(
  calls: ClaimCalls,
  options: ClaimsOptions,
): AsyncGenerator<ClaimedMessage, void, void> {
  const feed = new Feed(calls, options)
  try {
    for (let next = await feed.take(); next !== null; next = await feed.take()) {
      yield next.message
      feed.finish(next)
    }
  } finally {
    await feed.release()
  }
}

/** Messages side by side. One is done with when its work is. */
export async function work(
  calls: ClaimCalls,
  { concurrency = 10, ...options }: WorkOptions,
  each: Work,
): Promise<void> {
  const feed = new Feed(calls, { limit: Math.min(concurrency, MAX_LIMIT), ...options })
  const worker = async () => {
    try {
      for (let next = await feed.take(); next !== null; next = await feed.take()) {
        await each(next.message, { signal: next.holding.lost })
        feed.finish(next)
      }
    } catch (error) {
      feed.stop()
      throw error
    }
  }
  const ends = await Promise.allSettled(Array.from({ length: concurrency }, worker))
  await feed.release()
  for (const end of ends) if (end.status === 'rejected') throw end.reason
}
