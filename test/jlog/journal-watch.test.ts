import { appendFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import {
  addSubscriber,
  cleanJournal,
  describeJournal,
  JournalWatch,
  openReader,
  openWriter,
  setCheckpoint,
} from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const makeJournal = temporaryJournals()

async function append(dir: string, records: number, bytes = 100): Promise<void> {
  const writer = await openWriter(dir)
  for (let i = 0; i < records; i++) await writer.append(Buffer.alloc(bytes, `${i} `))
  await writer.close()
}

/** What `describeJournal` finds by counting everything. */
async function counted(dir: string) {
  const { segments, bytes, storageLog, subscribers } = await describeJournal(dir)
  const marker = segments.find(({ log }) => log === storageLog)?.records ?? 0
  return {
    segments: segments.length,
    bytes,
    last: { log: storageLog, marker },
    subscribers: subscribers.map(({ name, checkpoint, lag }) => ({ name, checkpoint, lag })),
  }
}

it('says what a whole count says, look after look, while the journal grows and is read and cleaned', async () => {
  const dir = await makeJournal({ unitLimit: 2000 })
  await addSubscriber(dir, 'slow')
  await addSubscriber(dir, 'reader')
  const watch = new JournalWatch(dir)
  expect(await watch.look()).toEqual(await counted(dir))
  for (const records of [1, 7, 50, 0, 3]) {
    if (records > 0) await append(dir, records)
    expect(await watch.look()).toEqual(await counted(dir))
  }
  const reader = await openReader(dir, 'reader')
  const interval = await reader.readInterval()
  await reader.checkpoint(interval!.last)
  await reader.close()
  await setCheckpoint(dir, 'slow', { log: 2, marker: 3 })
  await cleanJournal(dir)
  const summary = await watch.look()
  expect(summary).toEqual(await counted(dir))
  expect(summary.subscribers.map(({ name }) => name)).toEqual(['reader', 'slow'])
  expect(summary.subscribers[1]!.lag.records).toBeGreaterThan(20)
})

it('counts a bounded part of a journal it has never seen, and goes on at the next look', async () => {
  const dir = await makeJournal({ unitLimit: 20_000 })
  await addSubscriber(dir, 'all')
  await append(dir, 400, 1000)
  const watch = new JournalWatch(dir, { walkBytes: 50_000 })
  const first = await watch.look()
  const whole = await counted(dir)
  expect(first.bytes).toBe(whole.bytes)
  expect(first.subscribers[0]!.lag.records).toBeNull()
  let looks = 1
  for (let summary = first; summary.subscribers[0]!.lag.records === null; looks++) {
    expect(looks).toBeLessThan(12)
    summary = await watch.look()
  }
  expect(looks).toBeGreaterThan(4)
  expect(await watch.look()).toEqual(whole)
})

it('takes a record larger than its part, and a segment that a repair has cut', async () => {
  const dir = await makeJournal({ unitLimit: 50_000 })
  await addSubscriber(dir, 'all')
  await append(dir, 3, 100_000)
  await append(dir, 5)
  const watch = new JournalWatch(dir, { walkBytes: 1000 })
  for (let i = 0; i < 10; i++) await watch.look()
  expect(await watch.look()).toEqual(await counted(dir))
  await truncate(join(dir, '00000001'), 20)
  expect((await watch.look()).bytes).toBe((await counted(dir)).bytes)
  expect(await watch.look()).toEqual(await counted(dir))
})

it('waits at a torn record until it is whole', async () => {
  const dir = await makeJournal()
  await addSubscriber(dir, 'all')
  await append(dir, 2)
  const file = join(dir, '00000000')
  const { size } = await stat(file)
  const watch = new JournalWatch(dir)
  await appendFile(file, Buffer.alloc(7, 0xff))
  expect((await watch.look()).last).toEqual({ log: 0, marker: 2 })
  await truncate(file, size)
  await append(dir, 1)
  expect(await watch.look()).toEqual(await counted(dir))
})
