/**
 * Mends what a check has found, problem by problem, each in one transaction that looks again: what has
 * changed since is left for the next check. What leaves the store is in quarantine first, durably, so
 * being killed at any moment loses nothing and leaves work for the next repair, no more.
 */
import { createHash } from 'node:crypto'
import type { Bodies } from './bodies.js'
import { refCount, release } from './body-refs.js'
import { lanesOf, parseClaim, queueRowOfLane } from './check-indexes.js'
import { bodyRefOf, readMeta } from './check-messages.js'
import type { Finding } from './check-report.js'
import { isPacked, unpackAny, unpackChunk } from './chunk-codec.js'
import type { Committer, Transaction } from './committer.js'
import {
  type BodyRef,
  CHUNK_BYTES,
  CHUNK_KEY_BYTES,
  type Counters,
  chunkCount,
  chunkKey,
  chunkLength,
  claimEndKey,
  claimKey,
  decodeCounters,
  decodeExpiry,
  decodeGaps,
  decodeJournalState,
  decodeKept,
  encodeClaim,
  gapsKey,
  isKeptEndKey,
  isKeptKey,
  journalStateKey,
  keptEndKey,
  metaOf,
  pack,
  QUEUE_KEY_BYTES,
  queueRow,
  STATE_COUNTERS,
  splitChunkKey,
  splitKeptEnd,
  splitOutboxKey,
  splitQueueKey,
} from './layout.js'
import type { MetaWrites } from './meta-writes.js'
import { unpackRow } from './outbox-store.js'
import type { Quarantine } from './quarantine.js'
import { removeMessage } from './removal.js'
import type { Store } from './store.js'

export interface MendParts {
  readonly store: Store
  readonly committer: Committer
  readonly bodies: Bodies
  readonly metas: MetaWrites
  readonly quarantine: Quarantine
  /** Puts what the log of the lanes has into them. */
  readonly indexLanes: () => Promise<void>
}

interface BodyPiece {
  readonly at: number
  readonly bytes: Uint8Array
}

/** Chunks read, or removed, at a time. */
const CHUNKS_AT_ONCE = 64
const WEIGHT = 512

export class Mender {
  readonly #parts: MendParts
  /** Entries that this mender put into quarantine. */
  readonly kept: string[] = []

  constructor(parts: MendParts) {
    this.#parts = parts
  }

  /** True when it is mended now; false when it is for another call, or has changed. */
  async mend(finding: Finding): Promise<boolean> {
    const key = finding.key as Buffer
    switch (finding.problem) {
      case 'refs-wrong':
        return this.#submit((tx) => mendCount(tx, key, finding.delta as number))
      case 'staged-has-message':
        return this.#submit((tx) => tx.remove('staged', key))
      case 'message-without-queue':
      case 'queue-wrong':
        return this.#submit((tx) => mendQueue(tx, key))
      case 'queue-without-message':
        return this.#submit((tx) => removeStaleQueue(tx, key))
      case 'expiry-wrong':
        return this.#submit((tx) => mendExpiry(tx, key))
      case 'lease-wrong':
        return finding.db === 'messages'
          ? this.#submit((tx) => restoreClaim(tx, key))
          : this.#mendClaim(finding)
      case 'lane-wrong':
        return this.#submit((tx) => this.#mendLane(tx, finding))
      case 'idempotency-wrong':
        return this.#mendKept(finding)
      case 'outbox-relayed':
        return this.#submit((tx) => removeRelayed(tx, key))
      case 'outbox-gap':
        return this.#submit((tx) => noteGap(tx, finding.gap as NonNullable<Finding['gap']>))
      case 'counter-wrong':
        return this.#mendCounter(finding.counter as keyof Counters, finding.delta as number)
      case 'outbox-undecodable':
        return this.#takeRow(finding)
      case 'body-orphaned':
        return this.#takeBody(key)
      case 'meta-undecodable':
        return this.takeMessage(key, 'its meta cannot be read')
      default:
        return false
    }
  }

  /** Messages whose body was found wrong: those that can be read stay, the others go into quarantine. */
  async mendBodies(users: ReadonlyMap<string, { ids: Buffer[]; why: string }>): Promise<number> {
    let mended = 0
    for (const { ids, why } of users.values()) {
      let bodyOf: string | undefined
      for (const id of ids) {
        const value = this.#parts.store.db('messages').get(id)
        const ref = value && bodyRefOf(id, value)
        if (ref === undefined) continue
        if (await this.#isReadable(ref)) await this.#takeSurplus(ref)
        else {
          await this.takeMessage(id, why, bodyOf)
          bodyOf = this.kept.at(-1)
        }
        mended++
      }
    }
    return mended
  }

  /**
   * Moves a message into quarantine: its row and what there is of its body. False when it is gone.
   * `bodyOf`: an entry with the same body.
   */
  async takeMessage(id: Buffer, reason: string, bodyOf?: string): Promise<boolean> {
    const { store, quarantine, bodies, metas } = this.#parts
    for (;;) {
      const row = store.db('messages').get(id)
      if (row === undefined) return false
      const record = readMeta(id, row)
      const ref = bodyRefOf(id, row)
      if (bodyOf === undefined && ref !== undefined) await this.#keepUndecodable(ref.body, ref.size)
      const name = await quarantine.keep({
        kind: 'message',
        reason,
        db: 'messages',
        key: id,
        row,
        ...(record === undefined ? {} : { meta: metaOf(id, record) }),
        ...(bodyOf !== undefined ? { bodyOf } : ref && { body: this.#chunks(ref.body, ref.size) }),
      })
      const afterwards = await metas.during(id, () =>
        this.#parts.committer.submit((tx) => {
          const now = tx.get('messages', id)
          if (now === undefined || !now.equals(row)) return undefined
          if (record !== undefined) return removeMessage(tx, bodies, id, record)
          tx.remove('messages', id)
          return ref === undefined ? () => undefined : release(tx, bodies, ref)
        }, WEIGHT),
      )
      // Changed in between: what is in quarantine now is what it was; take it as it is.
      if (afterwards === undefined) continue
      metas.forget(id)
      afterwards()
      this.#note(name)
      return true
    }
  }

  /** A row of the lanes that stands for none of the queue, or a row of the queue without its lanes. */
  #mendLane(tx: Transaction, { db, key }: Finding): void {
    if (key === undefined) return
    const { store } = this.#parts
    if (db === 'queue') {
      const value = store.db('queue').get(key)
      if (value === undefined) return
      for (const lane of lanesOf(key, value)) tx.put('lanes', lane.key, lane.value)
      return
    }
    const value = store.db('lanes').get(key)
    const row = value && queueRowOfLane(key, value)
    if (row !== undefined && store.db('queue').get(row.key)?.equals(row.value)) return
    tx.remove('lanes', key)
  }

  async #mendClaim(finding: Finding): Promise<boolean> {
    const key = finding.key as Buffer
    const row = this.#parts.store.db('leases').get(key)
    const isClaim = key.length > 1 && claimKey(key.subarray(1)).equals(key)
    const claim = isClaim && row !== undefined ? parseClaim(row) : undefined
    if (claim !== undefined) {
      const end = claimEndKey(claim.until, key.subarray(1))
      return this.#submit((tx) => tx.put('leases', end, Buffer.alloc(0)))
    }
    // An end of no claim says nothing that is worth keeping.
    if (!isClaim && row?.length === 0) return this.#submit((tx) => tx.remove('leases', key))
    return this.#takeRow(finding)
  }

  async #mendKept(finding: Finding): Promise<boolean> {
    const key = finding.key as Buffer
    const row = this.#parts.store.db('idempotency').get(key)
    const kept = isKeptKey(key) && row !== undefined ? decodeKept(row) : undefined
    if (kept !== undefined) {
      const end = keptEndKey(kept.until, key)
      return this.#submit((tx) => tx.put('idempotency', end, Buffer.alloc(0)))
    }
    // An end of no answer says nothing that is worth keeping.
    if (isKeptEndKey(key)) return this.#submit((tx) => removeStaleEnd(tx, key))
    return this.#takeRow(finding)
  }

  /** Whether the whole body is there, with the content that its message says. */
  async #isReadable({ body, size, sha256 }: BodyRef): Promise<boolean> {
    const { store } = this.#parts
    const hashing = createHash('sha256')
    for (let n = 0; n < chunkCount(size); n++) {
      const row = store.db('chunks').get(chunkKey(body, n))
      const chunk = row && unpackChunk(row, chunkLength(size, n))
      if (chunk === undefined) return false
      hashing.update(chunk)
      if (n % CHUNKS_AT_ONCE === 0) await turn()
    }
    return hashing.digest().equals(sha256)
  }

  /** Chunks beyond the end of a body that is sound. */
  async #takeSurplus({ body, size }: BodyRef): Promise<void> {
    const { store } = this.#parts
    const start = chunkKey(body, chunkCount(size))
    for (const key of store.db('chunks').getKeys({ start, end: afterBody(body) })) {
      await this.#takeRow({
        problem: 'body-size-wrong',
        what: `chunk beyond the end of body ${body.toString('hex')}`,
        db: 'chunks',
        key: Buffer.from(key),
      })
    }
  }

  async #takeRow({ db, key, what, problem }: Finding): Promise<boolean> {
    if (db === undefined || key === undefined) return false
    const row = this.#parts.store.db(db).get(key)
    if (row === undefined) return false
    const reason = `${problem}: ${what}`
    const name = await this.#parts.quarantine.keep({ kind: 'row', reason, db, key, row })
    await this.#submit((tx) => tx.remove(db, key))
    this.#note(name)
    return true
  }

  /** A body that no message has. */
  async #takeBody(body: Buffer): Promise<boolean> {
    const { quarantine, store } = this.#parts
    await this.#keepUndecodable(body)
    const name = await quarantine.keep({
      kind: 'body',
      reason: 'no message has this body',
      db: 'chunks',
      key: body,
      body: this.#chunks(body),
    })
    // In `staged` first: should this end halfway, the rest is known to be deleted.
    await this.#submit((tx) => tx.put('staged', body, Buffer.alloc(0)))
    const range = { start: body, end: afterBody(body), limit: CHUNKS_AT_ONCE }
    for (;;) {
      const keys = [...store.db('chunks').getKeys(range)].map((key) => Buffer.from(key))
      await this.#submit((tx) => {
        for (const key of keys) tx.remove('chunks', key)
        if (keys.length < CHUNKS_AT_ONCE) tx.remove('staged', body)
      })
      if (keys.length < CHUNKS_AT_ONCE) break
    }
    this.#note(name)
    return true
  }

  /** What there is of a body, as it was before it was packed. */
  async *#chunks(body: Buffer, size?: number): AsyncGenerator<BodyPiece, void, void> {
    for await (const { key, value } of this.#rowsOf(body)) {
      const { n } = splitChunkKey(key)
      const bytes = plain(value, size, n)
      if (bytes !== undefined) yield { at: n * CHUNK_BYTES, bytes }
    }
  }

  /** Chunks that are packed and damaged tell nothing of the body: they are kept as the rows they are. */
  async #keepUndecodable(body: Buffer, size?: number): Promise<void> {
    for await (const { key, value } of this.#rowsOf(body)) {
      if (plain(value, size, splitChunkKey(key).n) !== undefined) continue
      const reason = 'body-chunk-undecodable: it is packed, and damaged'
      const kept = { kind: 'row', reason, db: 'chunks', key, row: value } as const
      this.#note(await this.#parts.quarantine.keep(kept))
    }
  }

  async *#rowsOf(body: Buffer): AsyncGenerator<{ key: Buffer; value: Buffer }, void, void> {
    const chunks = this.#parts.store.db('chunks')
    let start = body
    for (;;) {
      const range = { start, end: afterBody(body), limit: CHUNKS_AT_ONCE }
      const rows = [...chunks.getRange(range)].map(({ key, value }) => ({
        key: Buffer.from(key),
        value,
      }))
      for (const row of rows) if (row.key.length === CHUNK_KEY_BYTES) yield row
      const last = rows.at(-1)
      if (last === undefined || rows.length < CHUNKS_AT_ONCE) return
      start = Buffer.concat([last.key, Buffer.from([0])])
      this.#parts.store.streamed(rows.length * CHUNK_BYTES)
    }
  }

  /** The difference is added, not the sum set: others may be writing. */
  async #mendCounter(name: keyof Counters, delta: number): Promise<boolean> {
    const { store, committer } = this.#parts
    return this.#submit((tx) => {
      // What was read at the opening is what counts; a row that differs is written over by this commit.
      const row = store.db('state').get(STATE_COUNTERS)
      if (stored(row)?.[name] === committer.counters[name]) tx.add(name, delta)
      // The commit writes them; this makes it one.
      tx.put('state', STATE_COUNTERS, Buffer.alloc(0))
    })
  }

  async #submit(operation: (tx: Transaction) => void): Promise<boolean> {
    await this.#parts.committer.submit(operation, WEIGHT)
    return true
  }

  #note(name: string): void {
    if (this.kept.at(-1) !== name) this.kept.push(name)
  }
}

/** The bytes of a chunk, of whatever length; undefined when it is packed and damaged. */
function plain(row: Buffer, size: number | undefined, n: number): Uint8Array | undefined {
  if (size === undefined) return unpackAny(row)
  const length = chunkLength(size, n)
  return isPacked(row, length) ? unpackChunk(row, length) : row
}

function mendCount(tx: Transaction, body: Buffer, delta: number): void {
  const row = tx.get('refs', body)
  const refs = (row?.length === 4 ? row.readUInt32BE() : 1) + delta
  if (refs > 1) tx.put('refs', body, refCount(refs))
  else if (row !== undefined) tx.remove('refs', body)
}

function mendQueue(tx: Transaction, id: Buffer): void {
  const value = tx.get('messages', id)
  const record = value && readMeta(id, value)
  if (record === undefined) return
  const row = queueRow(id, record)
  tx.put('queue', row.key, row.value)
}

function removeStaleQueue(tx: Transaction, key: Buffer): void {
  const id = Buffer.from(splitQueueKey(key).id)
  const value = tx.get('messages', id)
  const record = value && readMeta(id, value)
  if (record !== undefined && queueRow(id, record).key.equals(key)) return
  tx.remove('queue', key)
}

function mendExpiry(tx: Transaction, key: Buffer): void {
  const { due, id } = key.length === QUEUE_KEY_BYTES ? splitQueueKey(key) : NOTHING
  const value = tx.get('messages', Buffer.from(id))
  const isRight = value !== undefined && due !== null && decodeExpiry(value) === due
  if (isRight) tx.put('expiry', key, Buffer.alloc(0))
  else tx.remove('expiry', key)
}

function removeStaleEnd(tx: Transaction, end: Buffer): void {
  const { until, key } = splitKeptEnd(end)
  const row = tx.get('idempotency', key)
  if (row !== undefined && decodeKept(row)?.until === until) {
    tx.put('idempotency', end, Buffer.alloc(0))
  } else tx.remove('idempotency', end)
}

const NOTHING = { due: null, id: Buffer.alloc(0) }

/** A lease without its claim would not end in order. */
function restoreClaim(tx: Transaction, id: Buffer): void {
  const value = tx.get('messages', id)
  const lease = (value && readMeta(id, value))?.lease
  if (lease == null) return
  const row = tx.get('leases', claimKey(lease.token))
  const claim = (row && parseClaim(row)) ?? { until: lease.until, owner: '', ids: [] }
  if (claim.ids.some((held) => held.equals(id))) return
  tx.put('leases', claimKey(lease.token), encodeClaim({ ...claim, ids: [...claim.ids, id] }))
  tx.put('leases', claimEndKey(claim.until, lease.token), Buffer.alloc(0))
}

function removeRelayed(tx: Transaction, key: Buffer): void {
  const { journal, firstSeq } = splitOutboxKey(key)
  const row = tx.get('outbox', key)
  if (row === undefined) return
  const last = firstSeq + unpackRow(firstSeq, row).length - 1
  const [done] = decodeJournalState(tx.get('state', journalStateKey(journal)))
  if (last <= done) tx.remove('outbox', key)
}

/** Records that are gone cannot be mended; it is noted that they are known to be. */
function noteGap(tx: Transaction, { journal, from, to }: NonNullable<Finding['gap']>): void {
  const key = gapsKey(journal)
  const [done] = decodeJournalState(tx.get('state', journalStateKey(journal)))
  const gaps = decodeGaps(tx.get('state', key)).filter((gap) => gap[1] > done)
  tx.put('state', key, pack([...gaps, [from, to]]))
}

function stored(row: Buffer | undefined): Counters | undefined {
  try {
    return decodeCounters(row).counters
  } catch {
    return undefined
  }
}

function afterBody(body: Buffer): Buffer {
  return Buffer.concat([body, Buffer.alloc(16, 0xff)])
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
