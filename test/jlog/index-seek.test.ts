import { open, stat, truncate, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  addSubscriber,
  follow,
  type LogId,
  lastId,
  openReader,
  openWriter,
  type RecordBatch,
  readRecords,
} from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const journal = temporaryJournals()

/** One segment of more bytes than are walked when there is an index. */
const COUNT = 20_000
const BYTES = 600

describe('a large segment', () => {
  let dir: string
  let index: string

  beforeAll(async () => {
    dir = await journal({ unitLimit: 0xffffffff, subscribers: ['s'] })
    index = join(dir, '00000000.idx')
    const writer = await openWriter(dir)
    const payloads = Array.from({ length: COUNT }, (_, n) => `${n} `.padEnd(BYTES, '.'))
    await writer.appendBatch(payloads)
    await writer.close()
  })

  const numberOf = (batch: RecordBatch) => Number(String(batch.payload(0)).split(' ')[0])

  async function firstAfter(marker: number): Promise<number | null> {
    for await (const batch of readRecords(dir, { after: { log: 0, marker }, limitRecords: 1 }))
      return numberOf(batch)
    return null
  }

  async function followed(from: LogId): Promise<number> {
    const tail = follow(dir, { from })
    const batch = (await tail.next()).value as RecordBatch
    expect(batch.first).toEqual({ log: 0, marker: from.marker + 1 })
    await tail.return?.()
    return numberOf(batch)
  }

  async function expectRight(): Promise<void> {
    for (const marker of [0, 1, 2, 777, COUNT - 1]) {
      expect(await firstAfter(marker)).toBe(marker)
      expect(await followed({ log: 0, marker })).toBe(marker)
    }
    expect(await firstAfter(COUNT)).toBe(null)
    expect(await firstAfter(COUNT + 5)).toBe(null)
    expect(await lastId(dir)).toEqual({ log: 0, marker: COUNT })
  }

  it('is entered anywhere, without an index and with one', async () => {
    await expectRight()
    const reader = await openReader(dir, 's')
    await reader.readInterval()
    await reader.close()
    expect((await stat(index)).size).toBe(8 * COUNT)
    await expectRight()
  })

  it('is entered anywhere with an index that is cut short, or wrong, or is not there', async () => {
    await truncate(index, 8 * 1000 + 3)
    await expectRight()
    const file = await open(index, 'r+')
    for (const marker of [776, 777, 778, 999])
      await file.write(Buffer.from('f3ffffff00000000', 'hex'), 0, 8, 8 * marker)
    await file.close()
    await expectRight()
    await unlink(index)
    await expectRight()
  })

  it('is read on by a subscriber from the middle, and then again from the beginning', async () => {
    await addSubscriber(dir, 'middle', { log: 0, marker: 12_345 })
    for (const round of ['without an index', 'with one']) {
      const reader = await openReader(dir, 'middle')
      expect(await reader.readInterval(), round).toEqual({
        first: { log: 0, marker: 12_346 },
        last: { log: 0, marker: COUNT },
        count: COUNT - 12_345,
      })
      expect(numberOf(await reader.readBatch({ maxRecords: 1 }))).toBe(12_345)
      expect(String((await reader.read({ log: 0, marker: 5 })).payload)).toMatch(/^4 /)
      await reader.close()
    }
    await addSubscriber(dir, 'begin')
    const reader = await openReader(dir, 'begin')
    expect(await reader.readInterval()).toMatchObject({ count: COUNT })
    expect(numberOf(await reader.readBatch({ maxRecords: 1 }))).toBe(0)
    await reader.close()
  })
})
