/**
 * Claims: due messages given to one of several front ends for a time. A claim is a row, and its token is
 * in the record of each of its messages, durable before the claim is answered, so that no message is
 * given twice while its lease holds, whatever happens to the process. In the index by due time a leased
 * message stands where its lease ends: then it is due again by itself. Claims are answered in the order
 * in which they come, and none takes more than its limit.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Due } from './activity.js'
import type { Bodies } from './bodies.js'
import type { Clock } from './clock.js'
import type { Committer, Transaction } from './committer.js'
import { assertVersion, invalid, SpoolError } from './errors.js'
import type { Lanes } from './lanes.js'
import {
  CLAIM_ENDS,
  type ClaimRow,
  claimEndKey,
  claimKey,
  decodeClaim,
  decodeMeta,
  encodeClaim,
  type MessageRecord,
  metaOf,
  queueKey,
  queueRow,
  splitClaimEnd,
  splitQueueKey,
} from './layout.js'
import type { MessageMeta, RemoveOptions } from './message.js'
import { formatId, ID_BYTES, type IdGenerator, parseId, parseToken } from './message-id.js'
import type { MetaWrites } from './meta-writes.js'
import { removeMessage } from './removal.js'
import type { RowStore } from './rows.js'
import { isCount } from './validate.js'

const MAX_LIMIT = 1000
const MAX_LEASE_SECONDS = 12 * 3600
const DEFAULT_LEASE_SECONDS = 300
const MAX_OWNER_BYTES = 255
/** Claims whose end has come, looked at in one operation, and messages of them, but for the last claim's. */
const GIVE_BACK = 16
const GIVE_BACK_MESSAGES = 250
/** After each operation as long a pause as it took, but no longer. */
const MAX_PAUSE_MS = 100
const TICK_MS = 1000
const FIRST_ID = Buffer.alloc(ID_BYTES)

export interface ClaimOptions {
  /** 1 to 1,000; 100 when not given. */
  limit?: number | undefined
  /** More than 0, up to 43,200 (12 hours); 300 when not given. */
  leaseSeconds?: number | undefined
  /** Recipient domain, in any case. */
  domain?: string | undefined
  binding?: string | undefined
  /** Who claims; kept with the claim for whoever looks into it. */
  owner?: string | undefined
}

export interface Claim {
  /** What extends, releases and proves the leases of all its messages; null when nothing was due. */
  lease: string | null
  /** When it ends, milliseconds since the epoch. */
  until: number
  /** In due order. */
  messages: MessageMeta[]
}

export interface ExtendedClaim {
  lease: string
  until: number
  /** Messages it still holds. */
  ids: string[]
}

/** What leases need of the spool. */
export interface LeaseParts {
  readonly store: RowStore
  readonly committer: () => Committer
  readonly ids: IdGenerator
  readonly metas: MetaWrites
  readonly bodies: () => Bodies
  readonly lanes: Lanes
  readonly clock: Clock
}

export class Leases {
  readonly #parts: LeaseParts
  /** How far the claims of a transaction have looked, by filter: what one took the next need not see. */
  readonly #looked = new WeakMap<Transaction, Map<string, Buffer>>()
  #timer: NodeJS.Timeout | undefined
  #givingBack = false
  readonly #stopping = new AbortController()

  constructor(parts: LeaseParts) {
    this.#parts = parts
  }

  /** Gives back what leases that ended hold, from time to time; a look-up each time when there is none. */
  start(): void {
    this.#timer = setInterval(() => void this.giveBack().catch(() => undefined), TICK_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#stopping.abort()
  }

  /** Rows of the queue that a claim would look at first, at most `limit`. Throws SPOOL_ERR_INVALID. */
  async firstDue(options: ClaimOptions, limit: number): Promise<Buffer[]> {
    const { domain, binding } = checkClaim(options)
    const isFiltered = domain !== undefined || binding !== undefined
    if (isFiltered) await this.#parts.lanes.readable()
    const now = this.#parts.clock.now()
    const rows = isFiltered
      ? this.#parts.lanes.due({ domain, binding }, now, undefined)
      : this.#due(now, undefined)
    const keys: Buffer[] = []
    for (const key of rows) if (keys.push(key) >= limit) break
    return keys
  }

  /** `given`: the token of a larger claim that it is part of. Throws SPOOL_ERR_INVALID. */
  async claim(options: ClaimOptions = {}, given?: Buffer): Promise<Claim> {
    const token = given ?? this.#parts.ids.next()
    const { limit, seconds, domain, binding, owner } = checkClaim(options)
    const isFiltered = domain !== undefined || binding !== undefined
    if (isFiltered) await this.#parts.lanes.readable()
    return this.#write((tx, taken, afterwards) => {
      const now = this.#parts.clock.now()
      const part = given && this.#partOf(tx, given, now, taken, afterwards)
      const until = part?.until ?? now + Math.ceil(seconds * 1000)
      const messages: MessageMeta[] = []
      const looked = this.#lookedAt(tx)
      // A binding may be empty, and so may a domain.
      const filter = JSON.stringify([binding, domain])
      const after = looked.get(filter)
      const keys = isFiltered
        ? this.#parts.lanes.due({ domain, binding }, now, after)
        : this.#due(now, after)
      for (const key of keys) {
        looked.set(filter, key)
        const id = splitQueueKey(key).id
        const meta = this.#take(tx, key, Buffer.from(id), { token, until, now }, taken)
        if (meta !== null) messages.push(meta)
        if (messages.length === limit) break
      }
      if (messages.length === 0) return { lease: null, until, messages }
      const held = [...(part?.ids ?? []), ...messages.map(({ id }) => parseId(id))]
      tx.put('leases', claimKey(token), encodeClaim({ until, owner, ids: held }))
      tx.put('leases', claimEndKey(until, token), Buffer.alloc(0))
      return { lease: formatId(token), until, messages }
    }, limit * 256)
  }

  /** Makes the claim end `leaseSeconds` from now. Throws SPOOL_ERR_NOT_FOUND when it has ended. */
  async extend(
    lease: string,
    leaseSeconds: number = DEFAULT_LEASE_SECONDS,
  ): Promise<ExtendedClaim> {
    const token = parseToken(lease)
    checkSeconds(leaseSeconds)
    return this.#write((tx, taken) => {
      const now = this.#parts.clock.now()
      const claim = this.#claim(tx, token, lease, now)
      const until = now + Math.ceil(leaseSeconds * 1000)
      const held = claim.ids.filter((id) => {
        const record = this.#held(tx, token, id)
        if (record?.lease == null) return false
        this.#put(tx, id, { ...record, lease: { ...record.lease, until } }, taken)
        return true
      })
      tx.remove('leases', claimEndKey(claim.until, token))
      if (held.length === 0) {
        tx.remove('leases', claimKey(token))
      } else {
        tx.put('leases', claimKey(token), encodeClaim({ ...claim, until, ids: held }))
        tx.put('leases', claimEndKey(until, token), Buffer.alloc(0))
      }
      return { lease: formatId(token), until, ids: held.map(formatId) }
    }, 32 * 1024)
  }

  /** Gives the messages back at once. Throws SPOOL_ERR_NOT_FOUND when the claim has ended. */
  async release(lease: string): Promise<void> {
    const token = parseToken(lease)
    await this.#write((tx, taken, afterwards) => {
      const claim = this.#claim(tx, token, lease, this.#parts.clock.now())
      this.#end(tx, token, claim.until, taken, afterwards)
    }, 32 * 1024)
  }

  /** Removes a message now, or marks it to be removed when its lease lets go. Throws SPOOL_ERR_NOT_FOUND. */
  async unlinkOnFree(
    key: Buffer,
    id: string,
    { ifVersion }: RemoveOptions,
  ): Promise<'removed' | 'marked'> {
    return this.#write((tx, taken, afterwards) => {
      const record = this.#parts.metas.current(tx, key)
      const stored = tx.get('messages', key)
      if (record === undefined || stored === undefined) {
        throw new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
      }
      assertVersion(record, id, ifVersion)
      if (record.lease !== null && record.lease.until > this.#parts.clock.now()) {
        this.#put(tx, key, { ...record, lease: { ...record.lease, unlink: true } }, taken)
        return 'marked'
      }
      this.#parts.metas.begin(key)
      taken.push(key)
      afterwards.push(removeMessage(tx, this.#parts.bodies(), key, decodeMeta(key, stored)))
      return 'removed'
    }, 512)
  }

  /** Ends what has outlived its time, a bounded number of claims at once, until there is none. */
  async giveBack(): Promise<void> {
    if (this.#givingBack) return
    this.#givingBack = true
    try {
      while (!this.#stopping.signal.aborted && this.#ended().length > 0) {
        const begin = performance.now()
        await this.#write((tx, taken, afterwards) => {
          let messages = 0
          for (const { token, until } of this.#ended()) {
            if (messages >= GIVE_BACK_MESSAGES) break
            messages += this.#end(tx, token, until, taken, afterwards)
          }
        }, 32 * 1024)
        const pause = Math.min(performance.now() - begin, MAX_PAUSE_MS)
        await delay(pause, undefined, { signal: this.#stopping.signal }).catch(() => undefined)
      }
    } finally {
      this.#givingBack = false
    }
  }

  /** Within the transaction: the record without its lease, in the state that it has without one. */
  static letGo(record: MessageRecord): MessageRecord {
    return { ...record, state: record.retries > 0 ? 'deferred' : 'queued', lease: null }
  }

  /** Throws SPOOL_ERR_LEASE unless the lease is the message's and holds. */
  checkHeld(record: MessageRecord, id: string, lease: string): void {
    const token = parseToken(lease, 'lease')
    const held = record.lease
    if (held?.token.equals(token) && held.until > this.#parts.clock.now()) return
    throw new SpoolError('SPOOL_ERR_LEASE', `the lease on ${id} is lost`, {
      id,
      advice: 'claim the message again',
    })
  }

  #lookedAt(tx: Transaction): Map<string, Buffer> {
    let looked = this.#looked.get(tx)
    if (looked === undefined) {
      looked = new Map()
      this.#looked.set(tx, looked)
    }
    return looked
  }

  /** Messages that are due, counted up to `limit`. */
  due(limit: number): Due {
    const range = {
      start: queueKey(0, FIRST_ID),
      end: queueKey(this.#parts.clock.now() + 1, FIRST_ID),
    }
    const queue = this.#parts.store.db('queue')
    const [first] = queue.getKeys({ ...range, limit: 1 })
    if (first === undefined) return { count: 0, oldest: null }
    // Counting heeds no limit, so it is not begun where it would go beyond.
    const isMore = [...queue.getKeys({ ...range, offset: limit, limit: 1 })].length > 0
    const count = isMore ? limit : queue.getKeysCount(range)
    return { count, oldest: splitQueueKey(Buffer.from(first)).due }
  }

  *#due(now: number, after: Buffer | undefined): Generator<Buffer, void, void> {
    const range = {
      start: after ?? queueKey(0, FIRST_ID),
      exclusiveStart: after !== undefined,
      end: queueKey(now + 1, FIRST_ID),
    }
    for (const key of this.#parts.store.db('queue').getKeys(range)) yield Buffer.from(key)
  }

  /** Leases one message; null when it cannot be had after all. */
  #take(
    tx: Transaction,
    key: Buffer,
    id: Buffer,
    { token, until, now }: { token: Buffer; until: number; now: number },
    taken: Buffer[],
  ): MessageMeta | null {
    const stored = tx.get('messages', id)
    // Gone, or it stands elsewhere by now: an earlier operation of this group took it.
    if (stored === undefined) return null
    let committed: MessageRecord
    try {
      committed = decodeMeta(id, stored)
    } catch {
      // For the check to find; the others are not held up by it.
      return null
    }
    if (!queueRow(id, committed).key.equals(key)) return null
    const record = this.#parts.metas.current(tx, id) ?? committed
    if (record.state === 'quarantined') return null
    if (record.lease !== null && record.lease.until > now) return null
    if (record.lease?.unlink) return null
    if (record.nextAttempt === null || record.nextAttempt > now) {
      // Put off while it was leased.
      if (record.lease !== null) this.#put(tx, id, Leases.letGo(record), taken)
      return null
    }
    const lease = { token, until, unlink: false }
    return metaOf(id, this.#put(tx, id, { ...record, state: 'leased', lease }, taken))
  }

  #put(tx: Transaction, id: Buffer, record: MessageRecord, taken: Buffer[]): MessageRecord {
    const next = { ...record, version: record.version + 1 }
    this.#parts.metas.begin(id)
    taken.push(id)
    this.#parts.metas.write(tx, id, next)
    return next
  }

  /** The message's record, if this claim holds it. */
  #held(tx: Transaction, token: Buffer, id: Buffer): MessageRecord | undefined {
    const record = this.#parts.metas.current(tx, id)
    return record?.lease?.token.equals(token) ? record : undefined
  }

  #claim(tx: Transaction, token: Buffer, lease: string, now: number) {
    const row = tx.get('leases', claimKey(token))
    const claim = row === undefined ? undefined : decodeClaim(row)
    if (claim !== undefined && claim.until > now) return claim
    throw new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no claim ${lease}, or it has ended`, {
      id: lease,
    })
  }

  /** What the claim holds already: messages that were spooled since their part of it was made in memory. */
  #partOf(
    tx: Transaction,
    token: Buffer,
    now: number,
    taken: Buffer[],
    afterwards: (() => void)[],
  ): ClaimRow | undefined {
    const row = tx.get('leases', claimKey(token))
    const part = row && decodeClaim(row)
    if (part === undefined || part.until > now) return part
    this.#end(tx, token, part.until, taken, afterwards)
    return undefined
  }

  /** Returns how many messages it had. */
  #end(
    tx: Transaction,
    token: Buffer,
    until: number,
    taken: Buffer[],
    afterwards: (() => void)[],
  ): number {
    const row = tx.get('leases', claimKey(token))
    tx.remove('leases', claimEndKey(until, token))
    if (row === undefined) return 0
    const claim = decodeClaim(row)
    // Extended meanwhile.
    if (claim.until !== until) return 0
    tx.remove('leases', claimKey(token))
    for (const id of claim.ids) {
      const record = this.#held(tx, token, id)
      if (record === undefined) continue
      if (!record.lease?.unlink) {
        this.#put(tx, id, Leases.letGo(record), taken)
        continue
      }
      const stored = tx.get('messages', id)
      if (stored === undefined) continue
      afterwards.push(removeMessage(tx, this.#parts.bodies(), id, decodeMeta(id, stored)))
      this.#parts.metas.begin(id)
      taken.push(id)
    }
    return claim.ids.length
  }

  /** The first claims whose end has come, and those that end later than any can: the clock was wrong. */
  #ended(): { token: Buffer; until: number }[] {
    const now = this.#parts.clock.now()
    const ended: { token: Buffer; until: number }[] = []
    const db = this.#parts.store.db('leases')
    for (const key of db.getKeys({ ...CLAIM_ENDS, limit: GIVE_BACK })) {
      const end = splitClaimEnd(Buffer.from(key))
      if (end.until > now) break
      ended.push(end)
    }
    const last = { start: CLAIM_ENDS.end, end: CLAIM_ENDS.start, reverse: true, limit: 1 }
    for (const key of db.getKeys(last)) {
      const end = splitClaimEnd(Buffer.from(key))
      if (end.until > now + MAX_LEASE_SECONDS * 1000 + TICK_MS) ended.push(end)
    }
    return ended
  }

  /** An operation on messages that it finds itself: what it takes counts as being written meanwhile. */
  async #write<T>(
    operation: (tx: Transaction, taken: Buffer[], afterwards: (() => void)[]) => T,
    weight: number,
  ): Promise<T> {
    const taken: Buffer[] = []
    const afterwards: (() => void)[] = []
    try {
      const result = await this.#parts
        .committer()
        .submit((tx) => operation(tx, taken, afterwards), weight)
      for (const id of taken) this.#parts.metas.forget(id)
      for (const call of afterwards) call()
      return result
    } finally {
      for (const id of taken) this.#parts.metas.end(id)
    }
  }
}

/** Throws SPOOL_ERR_INVALID. */
export function checkClaim(options: ClaimOptions) {
  const { limit = 100, leaseSeconds = DEFAULT_LEASE_SECONDS, domain, binding, owner = '' } = options
  if (!isCount(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw invalid('limit', `not a number from 1 to ${MAX_LIMIT}`)
  }
  checkSeconds(leaseSeconds)
  for (const [field, value] of Object.entries({ domain, binding, owner })) {
    if (value === undefined) continue
    if (typeof value !== 'string' || value.includes('\0')) throw invalid(field, 'not a name')
    if (Buffer.byteLength(value) > (field === 'domain' ? 1024 : MAX_OWNER_BYTES)) {
      throw invalid(field, 'too long')
    }
  }
  return { limit, seconds: leaseSeconds, domain: domain?.toLowerCase(), binding, owner }
}

function checkSeconds(seconds: number): void {
  if (typeof seconds === 'number' && seconds > 0 && seconds <= MAX_LEASE_SECONDS) return
  throw invalid('leaseSeconds', `not a number of seconds up to ${MAX_LEASE_SECONDS}`)
}
