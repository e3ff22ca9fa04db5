/**
 * Where a message lies, in the store or in memory still (deferral.ts), and what is done on both as if they
 * were one: claims, lists, sums. Without deferred spooling there is but the store, and nothing to ask.
 */
import type { Activity, Due, ReadActivity } from './activity.js'
import { Changes } from './changes.js'
import type { AllCounters } from './committer.js'
import type { Core } from './core.js'
import type { Deferral } from './deferral.js'
import type { Disposed, Disposition } from './dispositions.js'
import { SpoolError } from './errors.js'
import { metaOf } from './layout.js'
import { type Claim, type ClaimOptions, checkClaim, type ExtendedClaim } from './leases.js'
import { type ListedMessage, list, pageOf } from './listing.js'
import type { MessagePage, MessageQuery } from './message.js'
import { parseId } from './message-id.js'
import type { SpoolStats } from './options.js'
import { SwapIns } from './swap-in.js'

export class Tier {
  readonly core: Core
  readonly swapIns: SwapIns
  readonly changes: Changes

  constructor(core: Core) {
    this.core = core
    this.swapIns = new SwapIns(core)
    this.changes = new Changes(core)
  }
}

export class Tiers {
  readonly stored: Tier
  readonly deferral: Deferral | null
  readonly #held: Tier | null

  constructor(core: Core, deferral: Deferral | null) {
    this.stored = new Tier(core)
    this.deferral = deferral
    this.#held = deferral && new Tier(deferral.core)
  }

  /** Where the message is now, or would be. Throws SPOOL_ERR_INVALID. */
  of(id: string): Tier {
    if (this.#held === null) return this.stored
    return this.deferral?.has(parseId(id)) ? this.#held : this.stored
  }

  /** As `of`, for work that takes time: when the message is spooled meanwhile, it is done there. */
  async on<T>(id: string, work: (tier: Tier) => Promise<T>): Promise<T> {
    const tier = this.of(id)
    if (tier === this.stored) return work(tier)
    try {
      return await work(tier)
    } catch (error) {
      if (!isNotFound(error) || this.of(id) !== this.stored) throw error
      return work(this.stored)
    }
  }

  /** The store, once the message is there. */
  async settled(id: string): Promise<Tier> {
    if (this.deferral !== null) await this.deferral.spool([parseId(id)])
    return this.stored
  }

  async dispose(id: string, disposition: Disposition): Promise<Disposed> {
    const disposed = await this.on(id, ({ core }) =>
      core.delivery.dispositions.dispose(id, disposition),
    )
    if (disposed.outcome !== 'deferred' || this.of(id) === this.stored) return disposed
    const { retries } = (this.#held as Tier).core.record(parseId(id), id)
    if (retries < (this.deferral as Deferral).retries) return { ...disposed, result: 'deferred' }
    await this.settled(id)
    return disposed
  }

  async claim(options: ClaimOptions): Promise<Claim> {
    const { leases } = this.stored.core.delivery
    if (this.deferral === null || this.deferral.size.messages === 0) return leases.claim(options)
    const held = this.deferral.core.delivery.leases
    const { limit } = checkClaim(options)
    const [there, here] = [
      await leases.firstDue(options, limit),
      await held.firstDue(options, limit),
    ]
    const inMemory = new Set(here)
    const first = [...there, ...here].sort(Buffer.compare).slice(0, limit)
    const share = first.filter((key) => inMemory.has(key)).length
    if (share === 0) return leases.claim(options)
    const token = this.stored.core.ids.next()
    const ours = await held.claim({ ...options, limit: share }, token)
    const rest = limit - ours.messages.length
    if (rest === 0) return ours
    try {
      const theirs = await leases.claim({ ...options, limit: rest }, token)
      const messages = [...ours.messages, ...theirs.messages]
      messages.sort((a, b) => (a.nextAttempt as number) - (b.nextAttempt as number))
      return {
        lease: ours.lease ?? theirs.lease,
        until: Math.min(ours.until, theirs.until),
        messages,
      }
    } catch (error) {
      if (ours.lease !== null) await held.release(ours.lease)
      throw error
    }
  }

  async extendClaim(lease: string, seconds: number | undefined): Promise<ExtendedClaim> {
    const parts = await this.#onClaim((core) => core.delivery.leases.extend(lease, seconds))
    return {
      lease: parts[0]?.lease ?? lease,
      until: Math.min(...parts.map(({ until }) => until)),
      ids: parts.flatMap(({ ids }) => ids),
    }
  }

  async releaseClaim(lease: string): Promise<void> {
    await this.#onClaim((core) => core.delivery.leases.release(lease))
  }

  async expire(): Promise<void> {
    for (const { core } of this.#all) await core.delivery.expire()
    await this.stored.core.idempotency.expire()
  }

  async list(query: MessageQuery): Promise<MessagePage> {
    for (const { core } of this.#all) await core.metas.sync()
    const pages = this.#all.map(({ core: { store, metas }, core }) => {
      const page = list(store, query, (id, error) => core.unreadable(id, error))
      const now = (found: ListedMessage) => {
        return { ...found, record: metas.waiting(found.id) ?? found.record }
      }
      return { ...page, found: page.found.map(now) }
    })
    const { found, cursor } = pageOf(pages, query)
    return { messages: found.map(({ id, record }) => metaOf(id, record)), cursor }
  }

  get stats(): SpoolStats {
    const { core } = this.stored
    const counters = this.#counters
    return {
      messages: counters.messages,
      unspooled: this.deferral?.size.messages ?? 0,
      bodies: counters.bodies,
      bytes: counters.bytes,
      outbox: {
        ...core.outbox.size(),
        records: counters.outboxRecords,
        bytes: counters.outboxBytes,
      },
      due: counters.scheduled,
      idempotencyKeys: core.idempotency.size,
      deferred: counters.deferred,
      leased: counters.leased,
      claims: counters.claims,
      readOnly: core.committer.refusal?.message ?? null,
    }
  }

  get activity(): Activity & ReadActivity {
    const { messagesStored, messagesRemoved, bytesStored, bytesRemoved, reads, bytesRead } =
      this.#counters
    return { messagesStored, messagesRemoved, bytesStored, bytesRemoved, reads, bytesRead }
  }

  due(limit: number): Due {
    const parts = this.#all.map(({ core }) => core.delivery.leases.due(limit))
    const times = parts.flatMap(({ oldest }) => oldest ?? [])
    return {
      count: Math.min(
        limit,
        parts.reduce((sum, { count }) => sum + count, 0),
      ),
      oldest: times.length === 0 ? null : Math.min(...times),
    }
  }

  /** Sums over both, as of the last commits. */
  get #counters(): AllCounters & ReadActivity & { messages: number; claims: number } {
    const parts = this.#all.map(({ core }) => ({
      ...core.committer.counters,
      ...core.counters,
      ...core.bodies.activity,
      messages: core.store.count('messages'),
      // Of each claim there are two rows.
      claims: Math.ceil(core.store.count('leases') / 2),
    }))
    const sums = parts[0] as (typeof parts)[0]
    for (const part of parts.slice(1)) {
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += part[name]
    }
    return sums
  }

  get #all(): Tier[] {
    return this.#held === null ? [this.stored] : [this.#held, this.stored]
  }

  /** A claim may have messages in both, and those in memory may be spooled meanwhile. */
  async #onClaim<T>(work: (core: Core) => Promise<T>): Promise<T[]> {
    const done: T[] = []
    let missing: unknown
    for (const { core } of this.#all) {
      try {
        done.push(await work(core))
      } catch (error) {
        if (!isNotFound(error)) throw error
        missing = error
      }
    }
    if (done.length === 0) throw missing
    return done
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof SpoolError && error.code === 'SPOOL_ERR_NOT_FOUND'
}
