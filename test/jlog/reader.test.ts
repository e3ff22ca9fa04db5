import { existsSync } from 'node:fs'
import { mkdir, readFile, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  addSubscriber,
  cleanJournal,
  getCheckpoint,
  type JournalReader,
  type LogId,
  openReader,
  openWriter,
  readIndexDetails,
  setCheckpoint,
} from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const journal = temporaryJournals()

async function filled(
  count: number,
  options: { unitLimit?: number; subscribers?: string[]; safety?: 0 | 1 | 2 } = {},
) {
  const dir = await journal({ unitLimit: 200, subscribers: ['s'], ...options })
  await append(dir, count)
  return dir
}

async function append(dir: string, count: number, from = 0): Promise<void> {
  const writer = await openWriter(dir)
  for (let i = from; i < from + count; i++) await writer.append(`record ${i}`, { sec: i, usec: 0 })
  await writer.close()
}

/** Reads to the end, a checkpoint an interval. @returns the numbers of the records */
async function consume(reader: JournalReader): Promise<number[]> {
  const seen: number[] = []
  for (
    let interval = await reader.readInterval();
    interval !== null;
    interval = await reader.readInterval()
  ) {
    for (let batch = await reader.readBatch(); batch.length > 0; batch = await reader.readBatch()) {
      for (let i = 0; i < batch.length; i++) seen.push(batch.sec(i))
    }
    await reader.checkpoint(interval.last)
  }
  return seen
}

const upTo = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i)

describe('JournalReader', () => {
  it('needs a subscriber that is there', async () => {
    const dir = await filled(1)
    await expect(openReader(dir, 'nobody')).rejects.toMatchObject({
      code: 'JLOG_ERR_INVALID_SUBSCRIBER',
    })
  })

  it('gives the same interval until the checkpoint moves, and goes on from there', async () => {
    const dir = await filled(5, { unitLimit: 10_000 })
    const reader = await openReader(dir, 's')
    const interval = { first: { log: 0, marker: 1 }, last: { log: 0, marker: 5 }, count: 5 }
    expect(await reader.readInterval()).toEqual(interval)
    expect(await reader.readInterval()).toEqual(interval)
    await reader.checkpoint({ log: 0, marker: 3 })
    expect(await reader.readInterval()).toEqual({
      ...interval,
      first: { log: 0, marker: 4 },
      count: 2,
    })
    await reader.checkpoint({ log: 0, marker: 5 })
    expect(await reader.readInterval()).toBeNull()
    expect((await reader.readBatch()).length).toBe(0)
    await append(dir, 2, 5)
    expect(await reader.readInterval()).toEqual({
      first: { log: 0, marker: 6 },
      last: { log: 0, marker: 7 },
      count: 2,
    })
    await reader.close()
    await expect(reader.readInterval()).rejects.toMatchObject({ code: 'JLOG_ERR_ILLEGAL_OPEN' })
  })

  it('reads single records in any order, and says which there are not', async () => {
    const dir = await filled(60)
    const reader = await openReader(dir, 's')
    const { records } =
      (await readIndexDetails(dir, 0)) ??
      (await reader.readInterval().then(() => readIndexDetails(dir, 0)))!
    for (const marker of [records, 1, 3, 2, records - 1, 4, 5]) {
      const record = await reader.read({ log: 0, marker })
      expect(record).toMatchObject({ id: { log: 0, marker }, sec: marker - 1 })
      expect(String(record.payload)).toBe(`record ${marker - 1}`)
    }
    expect(await reader.read({ log: 1, marker: 1 })).toMatchObject({ sec: records })
    await expect(reader.read({ log: 0, marker: 0 })).rejects.toMatchObject({
      code: 'JLOG_ERR_ILLEGAL_LOGID',
    })
    await expect(reader.read({ log: 0, marker: records + 1 })).rejects.toMatchObject({
      code: 'JLOG_ERR_CLOSE_LOGID',
    })
    await expect(reader.read({ log: 0, marker: records + 2 })).rejects.toMatchObject({
      code: 'JLOG_ERR_ILLEGAL_LOGID',
    })
    await expect(reader.read({ log: 99, marker: 1 })).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_OPEN',
    })
    // Single reads elsewhere do not disturb the interval.
    const interval = (await reader.readInterval())!
    await reader.readBatch({ maxRecords: 2 })
    await reader.read({ log: 2, marker: 1 })
    expect((await reader.readBatch()).first).toEqual({
      log: interval.first.log,
      marker: interval.first.marker + 2,
    })
    await reader.close()
  })

  it('removes a segment when the last subscriber has passed it, never before, never the newest', async () => {
    const dir = await filled(40, { subscribers: ['s', 'slow'] })
    const segment = (log: number) => join(dir, `0000000${log}`)
    const reader = await openReader(dir, 's')
    expect(await consume(reader)).toEqual(upTo(40))
    expect(existsSync(segment(0))).toBe(true)
    const slow = await openReader(dir, 'slow')
    await slow.readInterval()
    await slow.checkpoint({ log: 2, marker: 0 })
    expect([0, 1, 2].map((log) => existsSync(segment(log)))).toEqual([false, false, true])
    expect(existsSync(`${segment(1)}.idx`)).toBe(false)
    await slow.checkpoint({ log: 0xffff_ffff, marker: 0 })
    const end = await getCheckpoint(dir, 's')
    expect(existsSync(segment(end.log))).toBe(true)
    await reader.close()
    await slow.close()
  })

  it('moves a checkpoint also where what nobody needs cannot be removed', async () => {
    const dir = await filled(60, { subscribers: ['s', 't'] })
    await unlink(join(dir, '00000000'))
    // As the directory that it is, it cannot be unlinked.
    await mkdir(join(dir, '00000000'))
    const end = { log: 3, marker: 1 }
    await setCheckpoint(dir, 't', end)
    const reader = await openReader(dir, 's')
    await reader.checkpoint({ log: 2, marker: 1 })
    await setCheckpoint(dir, 's', end)
    expect(await reader.position()).toEqual(end)
    expect((await reader.readInterval())!.first).toEqual({ log: 3, marker: 2 })
    await reader.close()
    await expect(cleanJournal(dir)).rejects.toMatchObject({ code: 'JLOG_ERR_FILE_WRITE' })
  })

  it('keeps everything while a checkpoint cannot be read', async () => {
    const dir = await filled(40, { subscribers: ['s', 't'] })
    await truncate(join(dir, 'cp.74'), 5)
    await setCheckpoint(dir, 's', { log: 3, marker: 0 })
    expect(existsSync(join(dir, '00000000'))).toBe(true)
    const reader = await openReader(dir, 't')
    expect(await consume(reader)).toEqual(upTo(40))
    await reader.close()
  })

  it('takes a checkpoint past the end of its segment, or of the journal, as that end', async () => {
    const dir = await filled(40)
    const reader = await openReader(dir, 's')
    await reader.readInterval()
    const { records } = (await readIndexDetails(dir, 0))!
    await setCheckpoint(dir, 's', { log: 0, marker: 5000 }, { clean: false })
    expect(await consume(reader)).toEqual(upTo(40 - records, records))
    await setCheckpoint(dir, 's', { log: 500, marker: 3 }, { clean: false })
    expect(await reader.readInterval()).toBeNull()
    await append(dir, 3, 40)
    expect(await consume(reader)).toEqual([40, 41, 42])
    await reader.close()
  })

  it('steps over missing segments and removes empty finished ones', async () => {
    const dir = await filled(60)
    await unlink(join(dir, '00000001'))
    await writeFile(join(dir, '00000002'), '')
    const reader = await openReader(dir, 's')
    const seen = await consume(reader)
    expect(seen[0]).toBe(0)
    expect(seen.at(-1)).toBe(59)
    expect(existsSync(join(dir, '00000002'))).toBe(false)
    await reader.close()
  })

  it('reads on when the metastore is behind the highest segment', async () => {
    const dir = await filled(60)
    const metastore = await readFile(join(dir, 'metastore'))
    metastore.writeUInt32LE(0, 0)
    await writeFile(join(dir, 'metastore'), metastore)
    const reader = await openReader(dir, 's')
    expect(await consume(reader)).toEqual(upTo(60))
    await reader.close()
  })

  it('rebuilds an index that is anything else', async () => {
    const dir = await filled(40, { unitLimit: 300 })
    const reader = await openReader(dir, 's')
    await consume(reader)
    await reader.close()
    await setCheckpoint(dir, 's', { log: 0, marker: 0 })
    await append(dir, 40, 40)
    const log = (await readIndexDetails(dir, 3)) === null ? 4 : 3
    const file = join(dir, `0000000${log}.idx`)
    const again = await openReader(dir, 's')
    await again.read({ log, marker: 1 })
    const sound = await readFile(file)
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.nat(sound.length).map((n) => sound.subarray(0, n)),
          fc.nat(sound.length - 1).map((n) => {
            const bytes = Buffer.from(sound)
            bytes[n]! ^= 0x11
            return bytes
          }),
          fc.constant(Buffer.concat([sound, sound])),
          fc.constant(Buffer.alloc(8)),
        ),
        async (bytes) => {
          await writeFile(file, bytes)
          const fresh = await openReader(dir, 's')
          expect((await fresh.read({ log, marker: 2 })).id).toEqual({ log, marker: 2 })
          await fresh.close()
          expect(await readFile(file)).toEqual(sound)
        },
      ),
      { numRuns: 60 },
    )
    await again.close()
  })

  it('does not close the index of a segment that may still grow', async () => {
    const dir = await filled(5, { unitLimit: 10_000 })
    const reader = await openReader(dir, 's')
    await reader.readInterval()
    expect(await readIndexDetails(dir, 0)).toEqual({ records: 5, closed: false })
    await append(dir, 5, 5)
    await reader.readInterval()
    expect(await readIndexDetails(dir, 0)).toEqual({ records: 10, closed: false })
    await writeFile(join(dir, '00000001'), '')
    await reader.readInterval()
    expect(await readIndexDetails(dir, 0)).toEqual({ records: 10, closed: true })
    await reader.close()
  })

  it('repairs a damaged finished segment and gives what is left, but not the one being written', async () => {
    const dir = await filled(9, { unitLimit: 10_000 })
    const segment = join(dir, '00000000')
    const whole = await readFile(segment)
    await truncate(segment, whole.length - 3)
    const reader = await openReader(dir, 's')
    expect(await reader.readInterval()).toMatchObject({ count: 8 })
    expect((await readFile(segment)).length).toBe(whole.length - 3)
    await writeFile(join(dir, '00000001'), '')
    expect(await reader.readInterval()).toMatchObject({ count: 8 })
    expect(await readFile(segment)).toEqual(whole.subarray(0, (whole.length / 9) * 8))
    expect(await consume(reader)).toEqual(upTo(8))
    await reader.close()
  })

  it('reads while writers write and roll and other readers clean, each record once and in order', async () => {
    const dir = await journal({ unitLimit: 2000, subscribers: ['a', 'b', 'c'] })
    const [one, two] = await Promise.all([openWriter(dir), openWriter(dir)])
    const total = 3000
    let written = 0
    const write = async (writer: Awaited<ReturnType<typeof openWriter>>, from: number) => {
      for (let i = from; i < total; i += 2) {
        await writer.append(`record ${i}`, { sec: i, usec: 0 })
        written++
      }
    }
    const read = async (subscriber: string) => {
      const reader = await openReader(dir, subscriber)
      const seen: { id: LogId; sec: number }[] = []
      try {
        while (seen.length < total) {
          const interval = await reader.readInterval()
          if (interval === null) {
            if (written === total && (await reader.readInterval()) === null) break
            await new Promise((resolve) => setImmediate(resolve))
            continue
          }
          for (
            let batch = await reader.readBatch({ maxRecords: 50 });
            batch.length > 0;
            batch = await reader.readBatch({ maxRecords: 50 })
          ) {
            for (let i = 0; i < batch.length; i++) seen.push({ id: batch.id(i), sec: batch.sec(i) })
          }
          await reader.checkpoint(interval.last)
        }
      } finally {
        await reader.close()
      }
      return seen
    }
    const [a, b, c] = await Promise.all([
      read('a'),
      read('b'),
      read('c'),
      write(one, 0),
      write(two, 1),
    ])
    await one.close()
    await two.close()
    for (const seen of [a, b, c]) {
      expect(seen.length).toBe(total)
      expect(new Set(seen.map(({ sec }) => sec)).size).toBe(total)
      for (const parity of [0, 1]) {
        const mine = seen.map(({ sec }) => sec).filter((sec) => sec % 2 === parity)
        expect(mine).toEqual([...mine].sort((x, y) => x - y))
      }
    }
    expect(b).toEqual(a)
    expect(c).toEqual(a)
  })
})

it('a subscriber added meanwhile begins with what is there', async () => {
  const dir = await filled(40)
  const reader = await openReader(dir, 's')
  await consume(reader)
  await reader.close()
  const begin = await addSubscriber(dir, 'late')
  const late = await openReader(dir, 'late')
  const seen = await consume(late)
  expect(begin.marker).toBe(0)
  expect(seen.at(-1)).toBe(39)
  await late.close()
})
