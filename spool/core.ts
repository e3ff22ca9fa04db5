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
import { DEFAULT_LARGE_THRESHOLD, packFrom, type SpoolOptions } from './options.js'
import { OutboxStore } from './outbox-store.js'
import type { RowStore } from './rows.js'
import { CONTEXT_LIMITS, type ContextLimits } from './validate.js'

export interface CoreParts {
  readonly store: RowStore
  readonly options: SpoolOptions
  /** Whether to delete what belongs to no message; repair leaves it alone. */
  readonly sweep: boolean
  /** Told when a message cannot be read. */
  readonly onUnreadable: (id: string, error: unknown) => void
  /** Of a core in memory. */
  readonly held?: Held | undefined
}

/** What makes the messages of a core in memory, and what is logged of them, durable. */
export interface Held {
  /** Where they are spooled to. */
  readonly under: Core
  /** Before a transaction is written in memory. */
  settle(tx: Transaction): Promise<void>
  /** Whether a message that the transaction removes goes on in `under`. */
  isMoved(tx: Transaction, key: Buffer): boolean
}

export class Core {
  readonly store: RowStore
  readonly events: EventOptions | undefined
  readonly hooks: Hooks
  readonly contextLimits: ContextLimits
  readonly ids: IdGenerator
  readonly outbox: OutboxStore
  readonly metas: MetaWrites
  readonly committer: Committer
  readonly bodies: Bodies
  readonly contents: Contents
  readonly delivery: Delivery
  readonly idempotency: IdempotencyKeys
  /** False in memory. */
  readonly isDurable: boolean
  readonly #onUnreadable: CoreParts['onUnreadable']
  #closing: Promise<void> | undefined

  /** Throws SPOOL_ERR_INVALID for a setting. */
  constructor({ store, options, sweep, onUnreadable, held }: CoreParts) {
    this.store = store
    this.isDurable = held === undefined
    this.#onUnreadable = onUnreadable
    this.hooks = held?.under.hooks ?? new Hooks(options.hooks)
    this.ids = held?.under.ids ?? new IdGenerator()
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
      ...(held === undefined ? {} : { settle: (tx: Transaction) => held.settle(tx) }),
      beforeCommit: (tx: Transaction) => this.#beforeCommit(tx),
      afterCommit: (tx: Transaction) => {
        this.hooks.committed(tx.writes, (key) => held?.isMoved(tx, key) ?? false)
        this.outbox.committed()
        this.metas.committed()
        this.bodies.committed()
        this.delivery.committed()
      },
    }
    // What happens in memory is told when it is settled.
    const observer = held === undefined ? options.observer : undefined
    this.committer = new Committer(store, counters, hooks, observer)
    this.bodies = new Bodies(store, this.committer, this.ids, {
      largeMessageThreshold: options.largeMessageThreshold ?? DEFAULT_LARGE_THRESHOLD,
      maxMessageSize: options.maxMessageSize ?? Number.POSITIVE_INFINITY,
      // In memory they are held as they come; they are packed when they are spooled.
      packFrom: held === undefined ? packFrom(options) : Number.POSITIVE_INFINITY,
      takesFrom: held?.under.bodies,
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
      if (this.isDurable) this.idempotency.start()
    }
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
      this.unreadable(id, error)
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

  unreadable(id: string, error: unknown): void {
    this.#onUnreadable(id, error)
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

  /**
   * Idempotent. What is under way is finished; whatever comes later is refused with SPOOL_ERR_CLOSED.
   * `first`: what others have to write.
   */
  close(first: () => Promise<void> = async () => undefined): Promise<void> {
    this.#closing ??= this.#close(first)
    return this.#closing
  }

  async #close(first: () => Promise<void>): Promise<void> {
    try {
      await first()
    } finally {
      await this.delivery.stop()
      await this.idempotency.stop()
      if (!this.store.readOnly) await this.metas.sync()
      this.metas.stop()
      this.committer.refuse(closed(this.store.path))
      await this.committer.idle()
      await this.bodies.close()
      await this.committer.idle()
    }
  }

  #beforeCommit(tx: Transaction): void {
    this.metas.include(tx)
    if (this.isDurable) this.outbox.pack(tx)
    this.delivery.include(tx)
    tx.put('state', STATE_COUNTERS, encodeCounters(tx.counters, this.ids.last))
  }
}

export function notFound(id: string): SpoolError {
  return new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
}

function readCounters(store: RowStore): ReturnType<typeof decodeCounters> {
  return decodeCounters(store.db('state').get(STATE_COUNTERS))
}

export function closed(file: string): SpoolError {
  return new SpoolError('SPOOL_ERR_CLOSED', 'the spool is closed', { file })
}
