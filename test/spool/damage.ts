// Ways to damage a sound spool row by row, and what a check finds then.
import { expect } from 'vitest'
import type { Problem } from '../../spool/check.js'
import {
  CLAIM_ENDS,
  chunkKey,
  decodeMeta,
  encodeMeta,
  isKeptEndKey,
  isKeptKey,
  journalStateKey,
  type MessageRecord,
  outboxKey,
  pack,
  queueRow,
  STATE_COUNTERS,
} from '../../spool/layout.js'
import { Store } from '../../spool/store.js'
import { bytes, message, temporarySpool } from './support.js'

export const SHARED = bytes(50_000)

/**
 * A spool at `path` with two messages that share a body, another, and a fourth that is claimed and has a
 * retention of its own; the second under an idempotency key; then the damage. Returns the ids.
 */
export async function damagedSpool(
  path: string,
  damage: (victim: Victim) => void,
): Promise<string[]> {
  const spool = await temporarySpool({ path })
  const { ids } = await spool.swapOut(message(SHARED, { rcptto: ['a@b', 'c@d'] }))
  const another = await spool.swapOut(message('another'), { idempotencyKey: 'key' })
  await spool.indexQueue()
  const rcptto = ['claimed@example.net']
  const claimed = await spool.swapOut(message('claimed', { rcptto, retention: 3600 }))
  expect((await spool.claim({ domain: 'example.net' })).messages).toHaveLength(1)
  await spool.close()
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  const id = Buffer.from((ids[0] as string).replaceAll('-', ''), 'hex')
  const record = decodeMeta(id, store.db('messages').get(id)!)
  await store.write(() =>
    damage({ store, id, record, body: record.body, queue: queueRow(id, record) }),
  )
  await store.close()
  return [...ids, ...another.ids, ...claimed.ids]
}

export interface Victim {
  store: Store
  id: Buffer
  record: MessageRecord
  body: Buffer
  queue: { key: Buffer; value: Buffer }
}

export const damages: [string, Problem['problem'][], (victim: Victim) => void][] = [
  ['nothing', [], () => undefined],
  [
    'a missing chunk',
    ['body-chunk-missing'],
    ({ store, body }) => void store.db('chunks').remove(chunkKey(body, 1)),
  ],
  [
    'a short chunk',
    ['body-size-wrong'],
    ({ store, body }) => void store.db('chunks').put(chunkKey(body, 0), Buffer.from('x')),
  ],
  [
    'a chunk too many',
    ['body-size-wrong'],
    ({ store, body }) => void store.db('chunks').put(chunkKey(body, 9), Buffer.from('x')),
  ],
  [
    'a changed chunk',
    ['body-hash-wrong'],
    ({ store, body }) => void store.db('chunks').put(chunkKey(body, 0), Buffer.alloc(16_000)),
  ],
  [
    'a body of nobody',
    ['body-orphaned'],
    ({ store }) => void store.db('chunks').put(chunkKey(Buffer.alloc(16, 7), 0), Buffer.from('x')),
  ],
  ['a lost count', ['refs-wrong'], ({ store, body }) => void store.db('refs').remove(body)],
  [
    'a count of nobody',
    ['refs-wrong'],
    ({ store }) => void store.db('refs').put(Buffer.alloc(16, 7), Buffer.from([0, 0, 0, 2])),
  ],
  [
    'a message without its index row',
    ['message-without-queue', 'lane-wrong'],
    ({ store, queue }) => void store.db('queue').remove(queue.key),
  ],
  [
    'an index row that says something else',
    ['queue-wrong', 'lane-wrong'],
    ({ store, queue }) => void store.db('queue').put(queue.key, Buffer.from('a\0b')),
  ],
  [
    'a removed message whose rows stayed',
    ['queue-without-message', 'refs-wrong', 'counter-wrong'],
    ({ store, id }) => void store.db('messages').remove(id),
  ],
  [
    'a meta record that is none',
    ['meta-undecodable', 'queue-without-message', 'refs-wrong', 'counter-wrong'],
    ({ store, id }) => void store.db('messages').put(id, Buffer.from('nonsense')),
  ],
  [
    'a stored body that is staged',
    ['staged-has-message'],
    ({ store, body }) => void store.db('staged').put(body, Buffer.alloc(0)),
  ],
  [
    'a lost end of a claim',
    ['lease-wrong'],
    ({ store }) => {
      for (const key of store.db('leases').getKeys(CLAIM_ENDS)) void store.db('leases').remove(key)
    },
  ],
  [
    'a lost claim',
    ['lease-wrong'],
    ({ store }) => {
      for (const key of store.db('leases').getKeys({ end: CLAIM_ENDS.start }))
        void store.db('leases').remove(key)
    },
  ],
  [
    'a claim that is none',
    ['lease-wrong'],
    ({ store }) => {
      for (const key of store.db('leases').getKeys({ end: CLAIM_ENDS.start }))
        void store.db('leases').put(key, Buffer.from([0xc1]))
    },
  ],
  [
    'lost retentions',
    ['expiry-wrong'],
    ({ store }) => {
      for (const key of store.db('expiry').getKeys()) void store.db('expiry').remove(key)
    },
  ],
  [
    'a retention of nobody',
    ['expiry-wrong'],
    ({ store }) => void store.db('expiry').put(Buffer.alloc(22, 7), Buffer.alloc(0)),
  ],
  [
    'a lost end of a kept answer',
    ['idempotency-wrong'],
    ({ store }) => {
      for (const key of store.db('idempotency').getKeys())
        if (isKeptEndKey(key)) void store.db('idempotency').remove(key)
    },
  ],
  [
    'a lost answer',
    ['idempotency-wrong'],
    ({ store }) => {
      for (const key of store.db('idempotency').getKeys())
        if (isKeptKey(key)) void store.db('idempotency').remove(key)
    },
  ],
  [
    'an answer with a changed bit, and rows that are none',
    ['idempotency-wrong'],
    ({ store }) => {
      for (const { key, value } of store.db('idempotency').getRange()) {
        if (!isKeptKey(key)) continue
        const changed = Buffer.from(value)
        changed[20]! ^= 1
        void store.db('idempotency').put(key, changed)
      }
      void store.db('idempotency').put(Buffer.from('y'), Buffer.from('x'))
      void store.db('idempotency').put(Buffer.alloc(23, 'z'), Buffer.from('x'))
    },
  ],
  [
    'lost lanes',
    ['lane-wrong'],
    ({ store }) => {
      for (const key of store.db('lanes').getKeys()) void store.db('lanes').remove(key)
    },
  ],
  [
    'a lane of nobody',
    ['lane-wrong'],
    ({ store }) => void store.db('lanes').put(Buffer.alloc(40, 1), Buffer.alloc(0)),
  ],
  [
    'a log of the lanes that is none',
    ['lane-wrong', 'row-malformed'],
    ({ store }) => {
      for (const key of store.db('lanelog').getKeys())
        void store.db('lanelog').put(key, Buffer.from([1]))
    },
  ],
  [
    'lost counters',
    ['counter-wrong'],
    ({ store }) => void store.db('state').remove(STATE_COUNTERS),
  ],
  [
    'a lost row of the outbox',
    ['counter-wrong', 'outbox-gap'],
    ({ store }) => void store.db('outbox').remove(outboxKey('mainlog', 1)),
  ],
  [
    'a cut row of the outbox',
    ['outbox-undecodable', 'counter-wrong'],
    ({ store }) => void store.db('outbox').put(outboxKey('mainlog', 1), Buffer.from('cut')),
  ],
  [
    'a record longer than its row',
    ['outbox-undecodable', 'counter-wrong'],
    ({ store }) => void store.db('outbox').put(outboxKey('mainlog', 1), Buffer.alloc(20, 1)),
  ],
  [
    'records that were relayed already',
    ['outbox-relayed', 'counter-wrong'],
    ({ store }) => void store.db('state').put(journalStateKey('mainlog'), pack([2, null, 0])),
  ],
  [
    'a relay whose place is not known',
    ['state-undecodable'],
    ({ store }) => void store.db('state').put(journalStateKey('mainlog'), Buffer.from([0xc1])),
  ],
  [
    'counters that are none',
    ['state-undecodable', 'counter-wrong'],
    ({ store }) => void store.db('state').put(STATE_COUNTERS, Buffer.from([0xc1])),
  ],
  [
    'rows under keys of a wrong length',
    ['row-malformed'],
    ({ store }) => {
      for (const name of ['messages', 'chunks', 'refs', 'queue', 'outbox'] as const)
        void store.db(name).put(Buffer.from('short'), Buffer.from('x'))
    },
  ],
  [
    'meta fields of a wrong type',
    ['meta-undecodable', 'queue-without-message', 'counter-wrong'],
    ({ store, id, record }) =>
      void store.db('messages').put(id, encodeMeta({ ...record, rcptto: 7 as never })),
  ],
  [
    'messages that disagree about their body',
    ['body-hash-wrong'],
    ({ store, id, record }) =>
      void store.db('messages').put(id, encodeMeta({ ...record, sha256: Buffer.alloc(32) })),
  ],
]
