// Repair mends every kind of damage, done here to a sound spool row by row; what it takes out is in
// quarantine; what is sound stays; a second repair finds nothing to do.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkSpool, openSpool, repairSpool } from '../../spool/index.js'
import { CHUNK_BYTES, chunkKey } from '../../spool/layout.js'
import { ID_BYTES } from '../../spool/message-id.js'
import { Store } from '../../spool/store.js'
import { damagedSpool, damages, SHARED } from './damage.js'
import { bodyOf, bytes, message, temporaryDirectory, temporarySpool } from './support.js'

describe('repair', () => {
  test.each(damages)('mends %s', async (_, expected, damage) => {
    const path = join(await temporaryDirectory(), 'spool')
    const ids = await damagedSpool(path, damage)
    const report = await repairSpool(path)
    expect(report.after).toMatchObject({ found: 0 })
    const mended = Object.keys(report.mended)
    for (const problem of expected) expect(mended).toContain(problem)
    expect(await checkSpool(path)).toMatchObject({ found: 0 })
    expect(await repairSpool(path)).toMatchObject({ mended: {}, quarantined: 0 })
    // Every message is in the spool, whole, or in quarantine.
    const spool = await temporarySpool({ path })
    const { entries } = await spool.upkeep.quarantine.list()
    const quarantined = new Set(entries.map(({ kind, key }) => `${kind} ${key}`))
    for (const id of ids) {
      if (quarantined.has(`message ${id.replaceAll('-', '')}`)) continue
      if (expected.length > 0 && (await isRemoved(spool, id))) continue
      const body = await bodyOf(spool, id)
      const whole = [SHARED, SHARED, Buffer.from('another'), Buffer.from('claimed')]
      expect(body.equals(whole[ids.indexOf(id)] as Buffer)).toBe(true)
    }
    expect(entries).toHaveLength(report.quarantined)
  })

  test('what it takes out can be read as files, with a note of where it came from', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const ids = await damagedSpool(
      path,
      ({ store, id }) => void store.db('messages').put(id, Buffer.from('nonsense')),
    )
    const { entries } = await repairSpool(path)
    const name = entries[0] as string
    const file = join(path, 'quarantine', name)
    expect(await readFile(`${file}.row`, 'utf8')).toBe('nonsense')
    expect(JSON.parse(await readFile(`${file}.json`, 'utf8'))).toMatchObject({
      kind: 'message',
      db: 'messages',
      key: (ids[0] as string).replaceAll('-', ''),
      meta: null,
    })
  })

  test('a body with a hole goes to quarantine with all that is left of it, for each message', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const body = bytes(100_000)
    const { ids } = await spool.swapOut(message(body, { rcptto: ['a@b', 'c@d'] }))
    await spool.close()
    const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
    const keys = [...store.db('chunks').getKeys()]
    await store.write(() => void store.db('chunks').remove(keys[2] as Buffer))
    await store.close()
    const report = await repairSpool(path)
    expect(report.quarantined).toBe(2)
    const repaired = await temporarySpool({ path })
    const { entries } = await repaired.upkeep.quarantine.list()
    expect(entries.map(({ meta }) => meta?.id)).toEqual(ids)
    for (const { name, bodyBytes, bodyParts } of entries) {
      expect(bodyBytes).toBe(84_000)
      expect(bodyParts).toEqual([
        { at: 0, fileAt: 0, length: 32_000 },
        { at: 48_000, fileAt: 32_000, length: 52_000 },
      ])
      const kept: Uint8Array[] = []
      for await (const part of await repaired.upkeep.quarantine.content(name)) kept.push(part)
      const rest = Buffer.concat([body.subarray(0, 32_000), body.subarray(48_000)])
      expect(Buffer.concat(kept).equals(rest)).toBe(true)
    }
    expect(await repaired.stats()).toMatchObject({ messages: 0, bodies: 0, bytes: 0 })
  })

  test('leaves what cannot be read where it is, when told to', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    await damagedSpool(
      path,
      ({ store, id }) => void store.db('messages').put(id, Buffer.from('nonsense')),
    )
    const { after, quarantined } = await repairSpool(path, { leaveUnreadable: true })
    expect(quarantined).toBe(0)
    expect(after.counts).toEqual({ 'meta-undecodable': 1 })
  })

  test('tells in the end of the contents it leaves, also after a round that did not concern them', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    await damagedSpool(path, ({ store, body, queue }) => {
      void store.db('chunks').put(chunkKey(body, 0), Buffer.alloc(CHUNK_BYTES))
      void store.db('queue').remove(queue.key)
    })
    const { after, mended } = await repairSpool(path, { leaveUnreadable: true })
    expect(mended).toMatchObject({ 'message-without-queue': 1 })
    expect(after.counts).toEqual({ 'body-hash-wrong': 1 })
  })

  test('finds what is wrong with contents also behind more problems than one round takes', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    await damagedSpool(path, ({ store, body }) => {
      void store.db('chunks').put(chunkKey(body, 0), Buffer.alloc(CHUNK_BYTES))
      for (let i = 0; i < 50_000; i++) {
        const id = Buffer.alloc(ID_BYTES)
        id.writeUInt32BE(i, 12)
        void store.db('refs').put(id, Buffer.from([0, 0, 0, 2]))
      }
    })
    const { after, mended } = await repairSpool(path)
    expect(after.found).toBe(0)
    expect(mended).toMatchObject({ 'refs-wrong': 50_000, 'body-hash-wrong': 1 })
    expect(await checkSpool(path)).toMatchObject({ found: 0 })
  })

  test('refuses while another owns the spool, naming its pid', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    await temporarySpool({ path })
    await expect(repairSpool(path)).rejects.toMatchObject({
      code: 'SPOOL_ERR_OWNED',
      pid: process.pid,
    })
  })

  test('any damage to any rows ends in a sound spool, and never changes a message it leaves', {
    timeout: 60_000,
  }, async () => {
    const directory = await temporaryDirectory()
    let run = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            db: fc.constantFrom(
              'messages',
              'chunks',
              'refs',
              'queue',
              'outbox',
              'staged',
              'lanes',
              'lanelog',
              'leases',
              'expiry',
              'idempotency',
            ),
            row: fc.nat({ max: 30 }),
            how: fc.constantFrom('remove', 'cut', 'flip', 'grow', 'empty', 'copy'),
          } as const),
          { minLength: 1, maxLength: 8 },
        ),
        async (steps) => {
          const path = join(directory, String(run++))
          const contents = new Map<string, Buffer>()
          const spool = await openSpool({ path })
          for (let i = 0; i < 8; i++) {
            const body = bytes(i * 9_000, i)
            const rcptto = Array.from({ length: 1 + (i % 3) }, (_, n) => `r${n}@example.org`)
            const { ids } = await spool.swapOut(
              message(body, { rcptto, ...(i % 2 ? { retention: 3600 } : {}) }),
              i % 2 ? { idempotencyKey: `key ${i}` } : {},
            )
            for (const id of ids) contents.set(id, body)
            if (i === 5) await spool.indexQueue()
          }
          await spool.claim({ limit: 3 })
          await spool.close()
          await damageRows(path, steps)
          const report = await repairSpool(path)
          expect(report.after.problems).toEqual([])
          const again = await repairSpool(path)
          expect(again).toMatchObject({ mended: {}, before: { found: 0 } })
          const repaired = await openSpool({ path })
          try {
            for (const { id } of (await repaired.list()).messages) {
              const body = contents.get(id)
              if (body === undefined) continue
              expect((await bodyOf(repaired, id)).equals(body)).toBe(true)
              contents.delete(id)
            }
            // What is not in the spool any more was removed by the damage itself, or is in quarantine.
            const { entries } = await repaired.upkeep.quarantine.list({ limit: 1000 })
            const keys = new Set(entries.map(({ key }) => key))
            const removals = steps.filter(({ db }) => db === 'messages').length
            const missing = [...contents.keys()].filter((id) => !keys.has(id.replaceAll('-', '')))
            expect(missing.length).toBeLessThanOrEqual(removals)
          } finally {
            await repaired.close()
          }
        },
      ),
      { numRuns: 40 },
    )
  })
})

async function isRemoved(spool: { meta(id: string): Promise<unknown> }, id: string) {
  return spool.meta(id).then(
    () => false,
    () => true,
  )
}

async function damageRows(
  path: string,
  steps: readonly { db: string; row: number; how: string }[],
): Promise<void> {
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  for (const { db: name, row, how } of steps) {
    const db = store.db(name as 'messages')
    const rows = [...db.getRange({})].map(({ key, value }) => ({ key: Buffer.from(key), value }))
    const victim = rows[row % Math.max(1, rows.length)]
    if (victim === undefined) continue
    const { key, value } = victim
    await store.write(() => {
      if (how === 'remove') void db.remove(key)
      else if (how === 'cut') void db.put(key, value.subarray(0, value.length >> 1))
      else if (how === 'empty') void db.put(key, Buffer.alloc(0))
      else if (how === 'grow') void db.put(key, Buffer.concat([value, Buffer.from('x')]))
      else if (how === 'flip') {
        const flipped = Buffer.from(value)
        if (flipped.length > 0) flipped[row % flipped.length]! ^= 0x5a
        void db.put(key, flipped)
      } else void db.put(Buffer.alloc(key.length, row), value)
    })
  }
  await store.close()
}
