// Ways to damage a sound spool of two messages that share a body and one more, row by row, and what a
// check finds then.
import type { Problem } from '../../spool/check.js'
import {
  chunkKey,
  encodeMeta,
  journalStateKey,
  type MessageRecord,
  outboxKey,
  pack,
  STATE_COUNTERS,
} from '../../spool/layout.js'
import type { Store } from '../../spool/store.js'

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
    ['message-without-queue'],
    ({ store, queue }) => void store.db('queue').remove(queue.key),
  ],
  [
    'an index row that says something else',
    ['queue-wrong'],
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
