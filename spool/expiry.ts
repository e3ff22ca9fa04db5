/**
 * Retention: a message that outlives its own, or the spool's, is logged as expired and removed, in one
 * transaction. A retention of its own has a row in an index by the time it ends, kept from the records as
 * they are written; the spool's needs none, for ids sort by creation: it is looked for from the oldest
 * message on. A leased message waits until its lease ends. What has expired goes in small transactions, with as
 * long a pause after each as it took, so that others' commits wait for one of them at most.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from './clock.js'
import type { Committer, Transaction } from './committer.js'
import type { Dispositions } from './dispositions.js'
import { decodeExpiry, decodeMeta, type MessageRecord, queueKey, splitQueueKey } from './layout.js'
import { ID_BYTES } from './message-id.js'
import type { MetaWrites } from './meta-writes.js'
import type { RowStore } from './rows.js'

const TICK_MS = 1000
/** Removed in one transaction. */
const BATCH = 100
/** Looked at in a tick, at most, without finding one that goes. */
const VAIN_LOOKS = 2000
const MAX_PAUSE_MS = 100
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

/** Messages that may have expired, and how many were looked at for them; `isLast`: there are no more now. */
interface Found {
  readonly ids: readonly Buffer[]
  readonly looks: number
  readonly isLast: boolean
}

export class Expiry {
  readonly #parts: ExpiryParts
  readonly #stopping = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #busy: Promise<void> | null = null
  /** The index up to it was looked at: what stays there, being leased, does not hide what comes after. */
  #ownFrom: Buffer | null = null
  /** Messages before it were looked at for the spool's retention. */
  #from: Buffer = FIRST_ID
  /** The first of those that has to be looked at again. */
  #again: Buffer | null = null
  /** The first that the transaction under way has to be looked at for. */
  #coming: Buffer | null = null

  constructor(parts: ExpiryParts) {
    this.#parts = parts
  }

  start(): void {
    this.#timer = setInterval(() => void this.tick().catch(() => undefined), TICK_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopping.abort()
    await this.#busy?.catch(() => undefined)
  }

  /** Called last in each transaction: keeps the index, and what has to be looked at, by what it writes. */
  include(tx: Transaction): void {
    const { store } = this.#parts
    const { writes } = tx
    const ends = new Map<string, number | null>()
    this.#coming = null
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
      if (value !== undefined && after === null) {
        if (this.#coming === null || key.compare(this.#coming) < 0) this.#coming = key
      }
      if (before === after) continue
      if (before !== null) tx.remove('expiry', queueKey(before, key))
      if (after !== null) tx.put('expiry', queueKey(after, key), Buffer.alloc(0))
    }
  }

  /** What was looked at before that was not there yet. */
  committed(): void {
    if (this.#coming !== null) this.#lookAgain(this.#coming)
    this.#coming = null
  }

  /** Removes what has expired; resolves when there is no more, or nothing but what cannot go yet. */
  tick(): Promise<void> {
    this.#busy ??= this.#tick().finally(() => {
      this.#busy = null
    })
    return this.#busy
  }

  async #tick(): Promise<void> {
    await this.#sweep((now) => this.#ended(now))
    const { maxRetention } = this.#parts
    if (maxRetention !== null) await this.#sweep((now) => this.#old(now, maxRetention))
  }

  async #sweep(find: (now: number) => Found): Promise<void> {
    const { signal } = this.#stopping
    for (let vain = 0; vain < VAIN_LOOKS && !signal.aborted; ) {
      const now = this.#parts.clock.now()
      const { ids, looks, isLast } = find(now)
      const begin = performance.now()
      const removed = ids.length === 0 ? 0 : await this.#expire(ids, now)
      if (isLast) return
      vain = removed === 0 ? vain + looks : 0
      const pause = Math.min(performance.now() - begin, MAX_PAUSE_MS)
      if (removed > 0) await delay(pause, undefined, { signal }).catch(() => undefined)
    }
  }

  /** In one transaction. Returns how many have gone. */
  async #expire(batch: readonly Buffer[], now: number): Promise<number> {
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
      return afterwards.length
    } catch (error) {
      this.#ownFrom = null
      for (const id of batch) this.#lookAgain(id)
      throw error
    } finally {
      for (const id of batch) metas.end(id)
    }
  }

  #isOver({ created, retention }: MessageRecord, now: number): boolean {
    const seconds = retention ?? this.#parts.maxRetention
    return seconds !== null && created + seconds * 1000 <= now
  }

  /** Messages whose own retention has ended. */
  #ended(now: number): Found {
    const ids: Buffer[] = []
    const range = {
      start: this.#ownFrom ?? queueKey(0, FIRST_ID),
      exclusiveStart: this.#ownFrom !== null,
      end: queueKey(now + 1, FIRST_ID),
      limit: BATCH,
    }
    let last: Buffer | null = null
    for (const key of this.#parts.store.db('expiry').getKeys(range)) {
      last = Buffer.from(key)
      ids.push(Buffer.from(splitQueueKey(last).id))
    }
    const isLast = ids.length < BATCH
    this.#ownFrom = isLast ? null : last
    return { ids, looks: ids.length, isLast }
  }

  /** Messages that the spool's retention may have ended for. */
  #old(now: number, maxRetention: number): Found {
    const ids: Buffer[] = []
    let looks = 0
    const range = { start: this.#from, limit: BATCH }
    for (const { key, value } of this.#parts.store.db('messages').getRange(range)) {
      const id = Buffer.from(key)
      looks++
      this.#from = Buffer.concat([id, Buffer.from([0])])
      if (decodeExpiry(value) !== null) continue
      let record: MessageRecord
      try {
        record = decodeMeta(id, value)
      } catch {
        continue
      }
      if (record.created + maxRetention * 1000 > now) {
        // Ids sort by creation, but imported ones need not: those are looked at when they are written.
        this.#restart(id)
        return { ids, looks, isLast: true }
      }
      if (record.state !== 'quarantined') ids.push(id)
    }
    const isLast = looks < BATCH
    if (isLast) this.#restart(FIRST_ID)
    return { ids, looks, isLast }
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
