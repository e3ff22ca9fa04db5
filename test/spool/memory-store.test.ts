// Rows in memory come back as LMDB gives them: the same operations on both, the same answers.
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemoryStore } from '../../spool/memory-store.js'
import type { RowRange, RowStore } from '../../spool/rows.js'
import { Store } from '../../spool/store.js'
import { temporaryDirectory } from './support.js'

const key = fc.uint8Array({ minLength: 1, maxLength: 3 }).map((bytes) => Buffer.from(bytes))
const range = fc.record(
  {
    start: key,
    end: key,
    limit: fc.integer({ min: 1, max: 20 }),
    reverse: fc.boolean(),
    exclusiveStart: fc.boolean(),
  },
  { requiredKeys: [] },
)
const write = fc.record({ key, value: fc.option(fc.uint8Array({ maxLength: 8 })) })

/** A row at the very beginning, where lmdb-js has ranges without bounds begin or end. */
const first = { key: Buffer.from([0]), value: Uint8Array.from([]) }
const unbounded = [{ exclusiveStart: true }, { reverse: true }, {}]

function rows(store: RowStore, range: RowRange): string[] {
  return [...store.db('queue').getRange(range)].map(
    ({ key, value }) => `${key.toString('hex')} ${value.toString('hex')}`,
  )
}

test('ranges are those of LMDB', { timeout: 30_000 }, async () => {
  const path = join(await temporaryDirectory(), 'spool')
  await Store.makeDirectory({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  const real = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  const rounds = fc.array(
    fc.tuple(fc.array(write, { maxLength: 200 }), fc.array(range, { maxLength: 20 })),
    { maxLength: 4 },
  )
  await fc.assert(
    fc.asyncProperty(rounds, async (rounds) => {
      await real.write(() => void real.db('queue').clearAsync())
      const memory = new MemoryStore(path)
      for (const [writes, ranges] of rounds) {
        for (const store of [real, memory] as RowStore[]) {
          await store.write(() => {
            for (const { key, value } of writes) {
              if (value === null) store.db('queue').remove(key)
              else store.db('queue').put(key, Buffer.from(value))
            }
          })
        }
        expect(memory.count('queue')).toBe(real.count('queue'))
        for (const range of ranges) expect(rows(memory, range)).toEqual(rows(real, range))
      }
    }),
    { numRuns: 30, examples: [[[[[first], unbounded]]]] },
  )
  await real.close()
})

test('many rows, put in and taken out in any order, and what they take', async () => {
  const store = new MemoryStore('')
  const db = store.db('queue')
  const keys = Array.from({ length: 5000 }, (_, i) => Buffer.from([(i * 7919) % 251, i >> 8, i]))
  for (const key of keys) db.put(key, key)
  const sorted = keys.toSorted(Buffer.compare)
  expect([...db.getKeys()].every((key, i) => key.equals(sorted[i] as Buffer))).toBe(true)
  const all = store.bytes
  for (const key of keys) db.put(key, Buffer.alloc(100))
  expect(store.bytes).toBe(all + 5000 * 97)
  for (const key of keys) db.remove(key)
  expect([store.bytes, store.count('queue'), [...db.getKeys()]]).toEqual([0, 0, []])
})
