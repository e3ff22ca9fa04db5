// The outbox: records in commit order, each until it is done, across restarts.
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { OutboxRecord, Spool } from '../../spool/index.js'
import {
  codeOf,
  EVENTS,
  expectSound,
  message,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

const ALL = { maxRecords: 1_000_000, maxBytes: 1e9 }

function idsOf(records: OutboxRecord[]): string[] {
  return records.map(({ payload }) => (JSON.parse(payload.toString()) as { id: string }).id)
}

async function fill(spool: Spool, count: number): Promise<string[]> {
  const results = await Promise.all(
    Array.from({ length: count }, () => spool.swapOut(message('x', { rcptto: ['a@b', 'c@d'] }))),
  )
  return results.flatMap(({ ids }) => ids)
}

describe('the outbox', () => {
  test('holds a record for each message, in commit order, numbered without a gap', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    expect(spool.outbox.journals()).toEqual([])
    expect(spool.outbox.size()).toEqual({ records: 0, bytes: 0, oldest: null })
    const before = Date.now()
    const ids = await fill(spool, 300)
    const pending = spool.outbox.pending('mainlog', ALL)
    expect(idsOf(pending)).toEqual(ids)
    expect(pending.map(({ seq }) => seq)).toEqual(ids.map((_, i) => i + 1))
    for (const { sec, usec } of pending) {
      const time = sec * 1000 + usec / 1000
      expect(time).toBeGreaterThanOrEqual(before)
      expect(time).toBeLessThanOrEqual(Date.now())
    }
    const size = spool.outbox.size()
    expect(size.records).toBe(600)
    expect(size.bytes).toBe(pending.reduce((sum, { payload }) => sum + payload.length, 0))
    expect(size.oldest).toBe((pending[0] as OutboxRecord).sec * 1000 + pending[0]!.usec / 1000)
    expect(spool.outbox.journals()).toEqual(['mainlog'])
    expect(spool.outbox.pending('other', ALL)).toEqual([])
    await expectSound(spool, path)
  })

  test('gives as much as is asked for, from where it is asked for', async () => {
    const spool = await temporarySpool()
    await fill(spool, 200)
    const all = spool.outbox.pending('mainlog', ALL)
    for (const afterSeq of [0, 1, 57, 58, 399, 400]) {
      const some = spool.outbox.pending('mainlog', { maxRecords: 10, maxBytes: 1e9, afterSeq })
      expect(some).toEqual(all.slice(afterSeq, afterSeq + 10))
    }
    const one = all[0]!.payload.length
    for (const [maxBytes, count] of [
      [1, 1],
      [one, 1],
      [one * 2, 2],
      [one * 2 + 5, 2],
    ] as const) {
      expect(spool.outbox.pending('mainlog', { maxRecords: 10, maxBytes })).toHaveLength(count)
    }
  })

  test('deletes what is done, to the record, and tells so after a restart', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    let spool = await temporarySpool({ path })
    const ids = await fill(spool, 100)
    let at = 0
    for (const step of [1, 2, 70, 5]) {
      at += step
      await spool.outbox.done('mainlog', at)
      expect(idsOf(spool.outbox.pending('mainlog', ALL))).toEqual(ids.slice(at))
      expect(spool.outbox.size().records).toBe(200 - at)
      await expectSound(spool, path)
      spool = await temporarySpool({ path })
      expect(idsOf(spool.outbox.pending('mainlog', ALL))).toEqual(ids.slice(at))
      expect(spool.outbox.size().records).toBe(200 - at)
    }
    await spool.outbox.done('mainlog', 200)
    expect(spool.outbox.journals()).toEqual([])
    expect(spool.outbox.size()).toEqual({ records: 0, bytes: 0, oldest: null })
    // Numbers go on after a restart, also when nothing is left to go on from.
    await spool.close()
    spool = await temporarySpool({ path })
    await fill(spool, 1)
    expect(spool.outbox.pending('mainlog', ALL).map(({ seq }) => seq)).toEqual([201, 202])
    await expectSound(spool, path)
  })

  test('remembers the batch that was noted until it is done', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    let spool = await temporarySpool({ path })
    const ids = await fill(spool, 20)
    expect(spool.outbox.noted('mainlog')).toBeNull()
    await spool.outbox.note('mainlog', { after: 'segment 0, byte 0', upTo: 10 })
    await spool.close()
    spool = await temporarySpool({ path })
    expect(spool.outbox.noted('mainlog')).toEqual({ after: 'segment 0, byte 0', upTo: 10 })
    expect(idsOf(spool.outbox.pending('mainlog', ALL))).toEqual(ids)
    await spool.outbox.note('mainlog', { after: 'segment 0, byte 900', upTo: 40 }, 10)
    await spool.close()
    spool = await temporarySpool({ path })
    expect(spool.outbox.noted('mainlog')).toEqual({ after: 'segment 0, byte 900', upTo: 40 })
    expect(idsOf(spool.outbox.pending('mainlog', ALL))).toEqual(ids.slice(10))
    await spool.outbox.done('mainlog', 40)
    expect(spool.outbox.noted('mainlog')).toBeNull()
    expect(spool.outbox.journals()).toEqual([])
    await expectSound(spool, path)
  })

  test('keeps journals apart, whose names begin alike too', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const names = ['main', 'mainlog', 'mainlog2', '\u00e9']
    for (const name of names) {
      const spool = await temporarySpool({ path, events: { format: 'ec', journalOf: () => name } })
      await fill(spool, 3)
      await spool.close()
    }
    const spool = await temporarySpool({ path })
    expect(spool.outbox.journals().toSorted()).toEqual(names.toSorted())
    await spool.outbox.done('mainlog', 6)
    for (const name of names) {
      expect(spool.outbox.pending(name, ALL)).toHaveLength(name === 'mainlog' ? 0 : 6)
    }
    expect(spool.outbox.size().records).toBe(18)
    await expectSound(spool, path)
  })

  test('says when records have come, until it is told to stop', async () => {
    const spool = await temporarySpool()
    const told: string[] = []
    const pendingThen: number[] = []
    const stop = spool.outbox.onRecords((journal) => {
      told.push(journal)
      pendingThen.push(spool.outbox.pending(journal, ALL).length)
    })
    await fill(spool, 1)
    expect(told).toEqual(['mainlog'])
    expect(pendingThen).toEqual([2])
    const { ids } = await spool.swapOut(message('x'))
    await spool.swapRemove(ids[0] as string)
    expect(told).toHaveLength(2)
    stop()
    await fill(spool, 1)
    expect(told).toHaveLength(2)
  })

  test.each(['', 'a\0b', 'x'.repeat(256)])('takes no journal named %j', async (name) => {
    const spool = await temporarySpool({ events: { ...EVENTS, journalOf: () => name } })
    for (const call of [spool.swapOut(message('x')), spool.outbox.done(name, 1)]) {
      expect(await codeOf(call)).toBe('SPOOL_ERR_INVALID')
    }
    expect(await spool.stats()).toMatchObject({ messages: 0, bodies: 0 })
  })

  test('gets nothing of a type that no journal takes', async () => {
    const spool = await temporarySpool({ events: { ...EVENTS, journalOf: () => null } })
    await fill(spool, 1)
    expect(spool.outbox.journals()).toEqual([])
    const silent = await temporarySpool({ events: undefined })
    await fill(silent, 1)
    expect(silent.outbox.journals()).toEqual([])
  })
})
