/**
 * Retention: a message that outlives its own, or the spool's, is logged as expired and removed, in one
 * transaction. A retention of its own has a row in an index by the time it ends, kept from the records as
 * they are written; the spool's needs none, for ids sort by creation: it is looked for from the oldest
 * message on. Each tick does a bounded amount of work, and a leased message waits until its lease ends.
 */
import type { Clock } from './clock.js'
import type { Committer, Transaction } from './committer.js'
import type { Dispositions } from './dispositions.js'
import { decodeExpiry, decodeMeta, type MessageRecord, queueKey, splitQueueKey } from './layout.js'
import { ID_BYTES } from './message-id.js'
import type { MetaWrites } from './meta-writes.js'
import type { RowStore } from './rows.js'

const TICK_MS = 1000
/** Messages looked at in a tick, at most, and removed in one transaction. */
const TICK_MESSAGES = 2000
const BATCH = 200
const FIRST_ID = Buffer.alloc(ID_BYTES)

export interface ExpiryParts {
  readonly store: RowStore
  readonly committer: () => Committer
  readonly metas: MetaWrites
  readonly dispositions: Dispositions
  readonly clock: Clock
  /** Seconds, for messages that have none of their own; null: for ever. */
  readonly maxRetention: number | null
}

export class Expiry {
  readonly #parts: ExpiryParts
  #timer: NodeJS.Timeout | undefined
  #busy: Promise<void> | null = null
  /** Messages before it were looked at for the spool's retention. */
  #from: Buffer = FIRST_ID
  /** The first of those that has to be looked at again. */
  #again: Buffer | null = null

  constructor(parts: ExpiryParts) {
    this.#parts = parts
  }

  start(): void {
    this.#timer = setInterval(() => void this.tick().catch(() => undefined), TICK_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#busy?.catch(() => undefined)
  }

  /** Called last in each transaction: keeps the index, and what has to be looked at, by what it writes. */
  include(tx: Transaction): void {
    const { store } = this.#parts
    const { writes } = tx
    const ends = new Map<string, number | null>()
    for (let i = 0, end = writes.length; i < end; i++) {
      const { db, key, value, track } = writes[i] as (typeof writes)[number]
      if (db !== 'messages') continue
      const name = key.toString('latin1')
      let before = ends.get(name)
      if (before === undefined) {
        const stored = track === undefined ? undefined : store.db(db).getBinaryFast(key)
        before = stored === undefined ? null : decodeExpiry(stored)
      }
      const after = value === undefined ? null : decodeExpiry(value)
      ends.set(name, after)
      if (value !== undefined && after === null) this.#lookAgain(key)
      if (before === after) continue
      if (before !== null) tx.remove('expiry', queueKey(before, key))
      if (after !== null) tx.put('expiry', queueKey(after, key), Buffer.alloc(0))
    }
  }

  /** Removes what has expired; resolves when there is no more, or the tick's work is done. */
  tick(): Promise<void> {
    this.#busy ??= this.#tick().finally(() => {
      this.#busy = null
    })
    return this.#busy
  }

  async #tick(): Promise<void> {
    const now = this.#parts.clock.now()
    await this.#expire(this.#ended(now), now)
    if (this.#parts.maxRetention !== null) await this.#expire(this.#old(now), now)
  }

  async #expire(ids: readonly Buffer[], now: number): Promise<void> {
    for (let at = 0; at < ids.length; at += BATCH) {
      const batch = ids.slice(at, at + BATCH)
      const { metas, dispositions, committer } = this.#parts
      for (const id of batch) metas.begin(id)
      try {
        const afterwards = await committer().submit((tx) => {
          const calls: (() => void)[] = []
          for (const id of batch) {
            const record = metas.current(tx, id)
            if (record === undefined || !this.#isOver(record, now)) continue
            if (record.lease !== null && record.lease.until > now) this.#lookAgain(id)
            else if (record.state === 'quarantined') continue
            else calls.push(dispositions.expire(tx, id, record))
          }
          return calls
        }, batch.length * 512)
        for (const call of afterwards) call()
      } catch (error) {
        for (const id of batch) this.#lookAgain(id)
        throw error
      } finally {
        for (const id of batch) metas.end(id)
      }
    }
  }

  #isOver({ created, retention }: MessageRecord, now: number): boolean {
    const seconds = retention ?? this.#parts.maxRetention
    return seconds !== null && created + seconds * 1000 <= now
  }

  /** Messages whose own retention has ended. */
  #ended(now: number): Buffer[] {
    const ids: Buffer[] = []
    const range = { end: queueKey(now + 1, FIRST_ID), limit: TICK_MESSAGES }
    for (const key of this.#parts.store.db('expiry').getKeys(range)) {
      ids.push(Buffer.from(splitQueueKey(Buffer.from(key)).id))
    }
    return ids
  }

  /** Messages that the spool's retention may have ended for. */
  #old(now: number): Buffer[] {
    const ids: Buffer[] = []
    let last: Buffer | null = null
    const { store, maxRetention } = this.#parts
    const range = { start: this.#from, limit: TICK_MESSAGES }
    for (const { key, value } of store.db('messages').getRange(range)) {
      const id = Buffer.from(key)
      last = id
      if (decodeExpiry(value) !== null) continue
      let record: MessageRecord
      try {
        record = decodeMeta(id, value)
      } catch {
        continue
      }
      if (record.created + (maxRetention as number) * 1000 > now) {
        // Ids sort by creation, but imported ones need not: those are looked at when they are written.
        this.#restart(id)
        return ids
      }
      if (record.state !== 'quarantined') ids.push(id)
    }
    if (last === null) this.#restart(FIRST_ID)
    else this.#from = Buffer.concat([last, Buffer.from([0])])
    return ids
  }

  /** The sweep has come to messages that are young: the next one begins here, or where something is left. */
  #restart(from: Buffer): void {
    this.#from = this.#again ?? from
    this.#again = null
  }

  #lookAgain(id: Buffer): void {
    if (id.compare(this.#from) >= 0) return
    if (this.#again === null || id.compare(this.#again) < 0) this.#again = Buffer.from(id)
  }
}
