// The check finds each kind of damage, done here to a sound spool row by row, and nothing besides.
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BodyUsers } from '../../spool/body-users.js'
import { checkSpool, checkStore } from '../../spool/check.js'
import { chunkKey } from '../../spool/layout.js'
import { Store } from '../../spool/store.js'
import { damagedSpool, damages } from './damage.js'
import { bytes, message, temporaryDirectory, temporarySpool } from './support.js'

test.each(damages)('finds %s', async (_, expected, damage) => {
  const path = join(await temporaryDirectory(), 'spool')
  await damagedSpool(path, damage)
  const { problems } = await checkSpool(path)
  expect([...new Set(problems.map(({ problem }) => problem))].toSorted()).toEqual(
    expected.toSorted(),
  )
})

test('without contents, finds what all rows but those say', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  await damagedSpool(path, ({ store, id, body }) => {
    void store.db('chunks').put(chunkKey(body, 0), Buffer.from('short'))
    void store.db('chunks').remove(chunkKey(body, 3))
    void store.db('messages').put(id, Buffer.from('nonsense'))
  })
  const { bodies, counts } = await checkSpool(path, { deep: false })
  expect(bodies).toBe(3)
  expect(Object.keys(counts)).toContain('meta-undecodable')
  expect(Object.keys(counts)).toContain('body-chunk-missing')
  const deep = await checkSpool(path)
  expect(deep.counts).toMatchObject({ 'body-size-wrong': 1 })
})

test('works beside a writer, in one consistent look, and tells its progress', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const ids: string[] = []
  let writing = true
  const write = async (seed: number) => {
    while (writing) {
      const rcptto = ['a@b', 'c@d'].slice(seed % 2)
      ids.push(...(await spool.swapOut(message(bytes(40_000, seed), { rcptto }))).ids)
      if (ids.length > 100) await spool.swapRemove(ids.shift() as string)
    }
  }
  const writers = Array.from({ length: 8 }, (_, i) => write(i))
  const phases = new Set<string>()
  try {
    for (let i = 0; i < 5; i++) {
      await spool.swapOut(message('one more'))
      const report = await checkSpool(path, { onProgress: ({ phase }) => phases.add(phase) })
      expect(report.problems).toEqual([])
      expect(report.messages).toBeGreaterThan(i)
    }
  } finally {
    writing = false
    await Promise.all(writers)
  }
  expect([...phases]).toEqual(['messages', 'queue', 'indexes', 'bodies', 'outbox'])
})

test('ends when it is told to', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  await spool.swapOut(message(bytes(3_000_000), { rcptto: ['a@b'] }))
  const stop = new AbortController()
  const checking = checkSpool(path, { signal: stop.signal, onProgress: () => stop.abort() })
  await expect(checking).rejects.toMatchObject({ code: 'SPOOL_ERR_ABORTED' })
})

test('many bodies are counted in several passes, the same as in one', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  for (let i = 0; i < 40; i++) {
    const rcptto = Array.from({ length: 1 + (i % 4) }, (_, n) => `r${n}@example.org`)
    await spool.swapOut(message(bytes(i * 900, i), { rcptto }))
  }
  await spool.close()
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  try {
    const whole = await checkStore(store)
    expect(whole).toMatchObject({ bodies: 40, messages: 100, found: 0 })
    expect(await checkStore(store, { capacity: 8 })).toEqual(whole)
    const victims = [...store.db('chunks').getKeys()].filter((_, i) => i % 7 === 0)
    await store.write(() => {
      for (const key of victims) void store.db('chunks').remove(key)
      for (const key of [...store.db('refs').getKeys()]) void store.db('refs').remove(key)
      void store.db('chunks').put(chunkKey(Buffer.alloc(16, 7), 0), Buffer.from('x'))
      void store.db('chunks').put(chunkKey(Buffer.alloc(16, 0), 0), Buffer.from('x'))
    })
    const damaged = await checkStore(store)
    expect(damaged.counts['refs-wrong']).toBe(30)
    expect(damaged.counts['body-orphaned']).toBe(2)
    const inPasses = await checkStore(store, { capacity: 8 })
    expect(inPasses.counts).toEqual(damaged.counts)
  } finally {
    await store.close()
  }
})

test('the table of bodies counts as a map does', () => {
  const body = (n: number) => Buffer.alloc(16, n)
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 300 }),
      fc.integer({ min: 2, max: 40 }),
      (uses, capacity) => {
        const expected = new Map<number, number>()
        for (const n of uses) expected.set(n, (expected.get(n) ?? 0) + 1)
        const users = new BodyUsers(capacity)
        const counted: [number, number][] = []
        do {
          for (const n of uses) users.add(body(n), body(n), n === 5 ? counted.length : 0)
          users.finish()
          for (let i = 0; i < users.size; i++) {
            const use = users.at(i)
            expect(users.find(use.body)).toBe(i)
            counted.push([use.body[0] as number, use.users])
          }
          expect(users.find(Buffer.alloc(16, 200))).toBe(-1)
        } while (users.next())
        expect(counted).toEqual([...expected].toSorted(([a], [b]) => a - b))
      },
    ),
  )
})
