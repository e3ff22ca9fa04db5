/**
 * The parts of an open spool, put together: what each commit includes, in which order, and in which order
 * they come to rest. The face (spool.ts) and what it is made of share it; it is nobody else's.
 */
import { Bodies } from './bodies.js'
import { contentDropped } from './body-refs.js'
import { Clock } from './clock.js'
import { Committer, type Transaction } from './committer.js'
import { Contents } from './contents.js'
import { Delivery } from './delivery.js'
import { SpoolError } from './errors.js'
import type { EventOptions } from './events.js'
import { Hooks } from './hooks.js'
import { IdempotencyKeys } from './idempotency.js'
import {
  type BodyRef,
  type Counters,
  decodeBodyRef,
  decodeCounters,
  decodeMeta,
  encodeCounters,
  isDropped,
  type MessageRecord,
  STATE_COUNTERS,
} from './layout.js'
import { IdGenerator, parseId } from './message-id.js'
import { MetaWrites } from './meta-writes.js'
import { DEFAULT_LARGE_THRESHOLD, DEFAULT_MODE, packFrom, type SpoolOptions } from './options.js'
import { OutboxStore } from './outbox-store.js'
import type { Ownership } from './owner.js'
import { Quarantine } from './quarantine.js'
import type { Store } from './store.js'
import { Upkeep, type UpkeepParts } from './upkeep.js'
import { CONTEXT_LIMITS, type ContextLimits } from './validate.js'

export interface CoreParts {
  readonly store: Store
  readonly owner: Ownership | null
  readonly options: SpoolOptions
  /** Whether to delete what belongs to no message; repair leaves it alone. */
  readonly sweep: boolean
  readonly restore: UpkeepParts['restore']
}

export class Core {
  readonly store: Store
  readonly events: EventOptions | undefined
  readonly hooks: Hooks
  readonly contextLimits: ContextLimits
  readonly ids = new IdGenerator()
  readonly outbox: OutboxStore
  readonly metas: MetaWrites
  readonly committer: Committer
  readonly bodies: Bodies
  readonly contents: Contents
  readonly delivery: Delivery
  readonly idempotency: IdempotencyKeys
  readonly upkeep: Upkeep
  readonly #owner: Ownership | null
  #closing: Promise<void> | undefined

  /** Throws SPOOL_ERR_INVALID for a setting. */
  constructor({ store, owner, options, sweep, restore }: CoreParts) {
    this.store = store
    this.#owner = owner
    this.hooks = new Hooks(options.hooks)
    this.events = options.events
    this.contextLimits = options.contextLimits ?? CONTEXT_LIMITS
    const { counters, lastId } = readCounters(store)
    if (lastId !== undefined) this.ids.startAfter(lastId)
    for (const key of store.db('messages').getKeys({ reverse: true, limit: 1 })) {
      this.ids.startAfter(Buffer.from(key))
    }
    this.outbox = new OutboxStore(store, () => this.committer)
    this.metas = new MetaWrites(() => this.committer, this.hooks)
    const hooks = {
      beforeCommit: (tx: Transaction) => this.#beforeCommit(tx),
      afterCommit: ({ writes }: Transaction) => {
        this.hooks.committed(writes)
        this.outbox.committed()
        this.metas.committed()
        this.bodies.committed()
        this.delivery.committed()
      },
    }
    this.committer = new Committer(store, counters, hooks, options.observer)
    this.bodies = new Bodies(store, this.committer, this.ids, {
      largeMessageThreshold: options.largeMessageThreshold ?? DEFAULT_LARGE_THRESHOLD,
      maxMessageSize: options.maxMessageSize ?? Number.POSITIVE_INFINITY,
      packFrom: packFrom(options),
    })
    const { committer, metas, bodies, ids } = this
    this.contents = new Contents({ committer, metas, bodies, ids })
    this.delivery = new Delivery(
      {
        store,
        committer: () => committer,
        ids,
        metas,
        bodies: () => bodies,
        events: options.events,
      },
      options,
    )
    this.idempotency = new IdempotencyKeys(
      {
        store,
        committer,
        bodies,
        // The last id given out says how late it had been before a restart.
        clock: new Clock(ids.last.readUIntBE(0, 6)),
        contextLimits: this.contextLimits,
      },
      options.idempotency,
    )
    if (store.readOnly) {
      committer.refuse(
        new SpoolError('SPOOL_ERR_READ_ONLY', 'the spool was opened for reading only', {
          file: store.path,
        }),
      )
    } else if (sweep) {
      bodies.sweep()
      this.delivery.start()
      this.idempotency.start()
    }
    this.upkeep = new Upkeep({
      store,
      committer,
      bodies,
      metas,
      quarantine: new Quarantine(store.path, options.mode ?? DEFAULT_MODE),
      leaveUnreadable: options.leaveUnreadable ?? false,
      indexLanes: () => this.delivery.lanes.index(),
      restore,
    })
  }

  /** As of the last commit. */
  get counters(): Counters {
    return this.store.readOnly ? readCounters(this.store).counters : this.committer.counters
  }

  /** A message's record, with what was written and not forced. Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_CORRUPT. */
  record(key: Buffer, id: string): MessageRecord {
    this.assertOpen()
    const waiting = this.metas.waiting(key)
    if (waiting !== undefined) return waiting
    const bytes = this.store.db('messages').get(key)
    if (bytes === undefined) throw notFound(id)
    try {
      return decodeMeta(key, bytes)
    } catch (error) {
      this.upkeep.unreadable(id, error)
      throw error
    }
  }

  /** A message's content. Throws SPOOL_ERR_NOT_FOUND, also when it was dropped; SPOOL_ERR_INVALID naming `field`. */
  contentOf(id: string, field?: string): { source: Buffer; ref: BodyRef } {
    const source = parseId(id, field)
    this.assertOpen()
    const bytes = this.store.db('messages').getBinaryFast(source)
    if (bytes === undefined) throw notFound(id)
    const ref = decodeBodyRef(source, bytes)
    if (isDropped(ref)) throw contentDropped(id)
    return { source, ref }
  }

  /** Throws SPOOL_ERR_CLOSED. */
  assertOpen(): void {
    if (this.#closing !== undefined) throw closed(this.store.path)
  }

  /** Throws SPOOL_ERR_CLOSED or SPOOL_ERR_READ_ONLY. */
  assertWritable(): void {
    this.assertOpen()
    if (this.committer.refusal !== null) throw this.committer.refusal
  }

  /** Idempotent. What is under way is finished; whatever comes later is refused with SPOOL_ERR_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await this.delivery.stop()
    await this.idempotency.stop()
    if (!this.store.readOnly) await this.metas.sync()
    this.metas.stop()
    await this.upkeep.idle()
    this.committer.refuse(closed(this.store.path))
    await this.committer.idle()
    await this.bodies.close()
    await this.committer.idle()
    await this.store.close()
    await this.#owner?.release()
  }

  #beforeCommit(tx: Transaction): void {
    this.metas.include(tx)
    this.outbox.pack(tx)
    this.delivery.include(tx)
    tx.put('state', STATE_COUNTERS, encodeCounters(tx.counters, this.ids.last))
  }
}

export function notFound(id: string): SpoolError {
  return new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
}

function readCounters(store: Store): ReturnType<typeof decodeCounters> {
  return decodeCounters(store.db('state').get(STATE_COUNTERS))
}

function closed(file: string): SpoolError {
  return new SpoolError('SPOOL_ERR_CLOSED', 'the spool is closed', { file })
}
