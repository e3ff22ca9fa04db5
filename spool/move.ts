/** Messages on their way from memory into the store: what they become there, with bodies and claims. */
import { refCount } from './body-refs.js'
import { packChunkApart } from './chunk-codec.js'
import type { Transaction } from './committer.js'
import {
  type ClaimRow,
  COUNTED_STATES,
  chunkKey,
  claimEndKey,
  claimKey,
  decodeClaim,
  encodeClaim,
  encodeMeta,
  type MessageRecord,
  queueRow,
} from './layout.js'
import { Leases } from './leases.js'

interface MovedBody {
  readonly body: Buffer
  readonly size: number
  rows: readonly Uint8Array[]
  users: number
}

export class Move {
  readonly ids = new Set<string>()
  readonly #messages: { id: Buffer; record: MessageRecord }[] = []
  readonly #bodies = new Map<string, MovedBody>()
  readonly #claims = new Map<string, ClaimRow>()

  /** `claim`: of the message's lease. `rows`: the body's, asked for once. */
  add(
    id: Buffer,
    record: MessageRecord,
    claim: ClaimRow | null,
    rows: () => readonly Uint8Array[],
  ): void {
    this.ids.add(id.toString('latin1'))
    this.#messages.push({ id, record: claim === null ? Leases.letGo(record) : record })
    const name = record.body.toString('latin1')
    const body = this.#bodies.get(name)
    if (body === undefined) {
      const { body, size } = record
      this.#bodies.set(name, { body, size, rows: rows(), users: 1 })
    } else body.users++
    if (record.lease === null || claim === null) return
    const token = record.lease.token.toString('latin1')
    const ids = this.#claims.get(token)?.ids ?? []
    this.#claims.set(token, { ...claim, ids: [...ids, id] })
  }

  /** Bytes to be written. */
  get weight(): number {
    let bytes = this.#messages.length * 512
    for (const { rows } of this.#bodies.values()) for (const row of rows) bytes += row.length
    return bytes
  }

  /** Bodies of so many bytes, and more, are packed. */
  async pack(from: number): Promise<void> {
    for (const body of this.#bodies.values()) {
      if (body.size < from) continue
      body.rows = await Promise.all(body.rows.map(packChunkApart))
    }
  }

  /** Within the transaction of the store. */
  write(tx: Transaction): void {
    for (const { body, size, rows, users } of this.#bodies.values()) {
      for (const [n, row] of rows.entries()) tx.putNew('chunks', chunkKey(body, n), row as Buffer)
      if (users > 1) tx.putNew('refs', body, refCount(users))
      tx.add('bodies', 1)
      tx.add('bytes', size)
    }
    const untils = this.#writeClaims(tx)
    for (const { id, record: held } of this.#messages) {
      const record = withEnd(held, untils)
      tx.putNew('messages', id, encodeMeta(record))
      const queue = queueRow(id, record)
      tx.putNew('queue', queue.key, queue.value)
      if (record.nextAttempt !== null) tx.add('scheduled', 1)
      for (const state of COUNTED_STATES) if (record.state === state) tx.add(state, 1)
    }
  }

  /** A claim may hold messages of the store, too: then it ends when it ends there. */
  #writeClaims(tx: Transaction): Map<string, number> {
    const untils = new Map<string, number>()
    for (const [name, claim] of this.#claims) {
      const token = Buffer.from(name, 'latin1')
      const row = tx.get('leases', claimKey(token))
      const there = row && decodeClaim(row)
      const { until, owner } = there ?? claim
      const ids = [...(there?.ids ?? []), ...claim.ids]
      tx.put('leases', claimKey(token), encodeClaim({ until, owner, ids }))
      tx.put('leases', claimEndKey(until, token), Buffer.alloc(0))
      untils.set(name, until)
    }
    return untils
  }
}

function withEnd(record: MessageRecord, untils: ReadonlyMap<string, number>): MessageRecord {
  const { lease } = record
  const until = lease === null ? undefined : untils.get(lease.token.toString('latin1'))
  return lease === null || until === undefined ? record : { ...record, lease: { ...lease, until } }
}
