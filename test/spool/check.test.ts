// The check finds each kind of damage, done here to a sound spool row by row, and nothing besides.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkSpool, type Problem } from '../../spool/check.js'
import { chunkKey, decodeMeta, outboxKey, queueRow, STATE_COUNTERS } from '../../spool/layout.js'
import { Store } from '../../spool/store.js'
import { bytes, message, temporaryDirectory, temporarySpool } from './support.js'

interface Victim {
  store: Store
  id: Buffer
  body: Buffer
  queue: { key: Buffer; value: Buffer }
}

const damages: [string, Problem['problem'][], (victim: Victim) => void][] = [
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
    ['counter-wrong'],
    ({ store }) => void store.db('outbox').remove(outboxKey('mainlog', 1)),
  ],
  [
    'a cut row of the outbox',
    ['outbox-undecodable', 'counter-wrong'],
    ({ store }) => void store.db('outbox').put(outboxKey('mainlog', 1), Buffer.from('cut')),
  ],
]

test.each(damages)('finds %s', async (_, expected, damage) => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const { ids } = await spool.swapOut(message(bytes(50_000), { rcptto: ['a@b', 'c@d'] }))
  await spool.swapOut(message('another'))
  await spool.close()
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  const id = Buffer.from((ids[0] as string).replaceAll('-', ''), 'hex')
  const record = decodeMeta(id, store.db('messages').get(id)!)
  await store.write(() => damage({ store, id, body: record.body, queue: queueRow(id, record) }))
  await store.close()
  const { problems } = await checkSpool(path)
  expect([...new Set(problems.map(({ problem }) => problem))].toSorted()).toEqual(
    expected.toSorted(),
  )
})
