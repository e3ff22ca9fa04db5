import { readdirSync, readlinkSync } from 'node:fs'
import { link, open, rename, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import {
  follow,
  type JournalRecord,
  openWriter,
  type RecordBatch,
  type SkippedRange,
} from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const journal = temporaryJournals()

/** Reads on until `count` records have come. */
async function take(batches: AsyncIterator<RecordBatch>, count: number): Promise<JournalRecord[]> {
  const records: JournalRecord[] = []
  while (records.length < count) {
    const { value, done } = await batches.next()
    if (done) throw new Error(`it ended after ${records.length} records`)
    records.push(...(value as RecordBatch))
  }
  return records
}

/** So many file operations, one after the other, that whoever does a few has done them, however slow the machine is. */
async function settled(dir: string): Promise<void> {
  for (let i = 0; i < 200; i++) await stat(dir)
}

const texts = (records: JournalRecord[]) => records.map(({ payload }) => String(payload))
const numbered = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => `record ${from + i}`)

describe('follow', () => {
  it('gives records as they are appended, over rolls, from the beginning', async () => {
    const dir = await journal({ unitLimit: 300 })
    const writer = await openWriter(dir)
    const tail = follow(dir, { from: 'begin' })
    for (let i = 0; i < 20; i++) await writer.append(`record ${i}`)
    expect(texts(await take(tail, 20))).toEqual(numbered(0, 20))
    for (let i = 20; i < 100; i++) {
      const next = take(tail, 1)
      await writer.append(`record ${i}`)
      expect(texts(await next)).toEqual([`record ${i}`])
    }
    await writer.close()
    await tail.return?.()
  })

  it('begins at the end, and after an id', async () => {
    const dir = await journal({ unitLimit: 200 })
    const writer = await openWriter(dir)
    const ids = []
    for (let i = 0; i < 30; i++) ids.push(await writer.append(`record ${i}`))
    const end = follow(dir, { from: 'end' })
    const first = end.next()
    const resumed = follow(dir, { from: ids[17]! })
    expect(texts(await take(resumed, 12))).toEqual(numbered(18, 30))
    // `end` is where the journal ended when the first batch was asked for: make sure that it was.
    await resumed.return?.()
    await settled(dir)
    await writer.append('record 30')
    const { value } = await first
    expect(texts([...(value as RecordBatch)])).toEqual(['record 30'])
    await end.return?.()
    await writer.close()
  })

  it('waits for a journal that has no segment yet', async () => {
    const dir = await journal()
    for (const from of ['begin', 'end', { log: 0, marker: 0 }] as const) {
      const tail = follow(dir, { from })
      const next = tail.next()
      await Promise.race([next, new Promise((resolve) => setTimeout(resolve, 30))])
      if (from === 'begin') {
        const writer = await openWriter(dir)
        await writer.append('first')
        await writer.close()
        expect((await next).value.length).toBe(1)
      } else {
        await tail.return?.()
        await next
      }
    }
  })

  it('takes a torn record at the end as not yet', async () => {
    const dir = await journal()
    const record = Buffer.alloc(16 + 50, 0x78)
    record.writeUInt32LE(0x663a7318, 0)
    record.writeUInt32LE(50, 12)
    const segment = join(dir, '00000000')
    const tail = follow(dir, { from: 'begin' })
    const next = tail.next()
    let come = false
    void next.then(() => {
      come = true
    })
    for (const part of [3, 16, 40, 65]) {
      await writeFile(segment, record.subarray(0, part))
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(come).toBe(false)
    }
    await writeFile(segment, record)
    expect((await next).value.payload(0)).toEqual(record.subarray(16))
    await tail.return?.()
  })

  it('reads on in the next segment that is left when a cleaner was faster', async () => {
    const dir = await journal({ unitLimit: 1 })
    const writer = await openWriter(dir)
    for (let i = 0; i < 10; i++) await writer.append(`record ${i}`)
    const tail = follow(dir, { from: 'begin' })
    expect(texts(await take(tail, 1))).toEqual(['record 0'])
    for (const log of [0, 1, 2, 3, 4]) await unlink(join(dir, `0000000${log}`))
    expect(texts(await take(tail, 5))).toEqual(numbered(5, 10))
    await writer.close()
    await tail.return?.()
  })

  it('reports damage in a finished segment, and the removal of the journal', async () => {
    const dir = await journal({ unitLimit: 1 })
    const writer = await openWriter(dir)
    await writer.append('record 0')
    await writer.append('record 1')
    await writer.close()
    const tail = follow(dir, { from: 'begin' })
    await truncate(join(dir, '00000000'), 20)
    await expect(tail.next()).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_CORRUPT',
      segment: 0,
      offset: 0,
    })
    expect((await tail.next()).done).toBe(true)
    const end = follow(dir, { from: 'end' })
    const next = end.next()
    const failure = expect(next).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
    await new Promise((resolve) => setTimeout(resolve, 50))
    await rename(dir, `${dir}.gone`)
    await rm(`${dir}.gone`, { recursive: true })
    await failure
  })

  it('ends promptly when told to, and leaves no descriptor behind', async () => {
    const dir = await journal()
    const writer = await openWriter(dir)
    await writer.append('one')
    const open = () =>
      readdirSync('/proc/self/fd').map((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`)
        } catch {
          return ''
        }
      })
    const before = open().filter((path) => path.startsWith(dir)).length
    const stop = new AbortController()
    const warnings: Error[] = []
    const warned = (warning: Error) => warnings.push(warning)
    process.on('warning', warned)
    let reading = 0
    const ended = Array.from({ length: 20 }, async () => {
      let seen = 0
      for await (const batch of follow(dir, { from: 'begin', signal: stop.signal })) {
        seen += batch.length
        reading++
      }
      return seen
    })
    const returned = follow(dir, { from: 'end' })
    const pending = returned.next()
    await vi.waitFor(() => expect(reading).toBe(20), 10_000)
    await settled(dir)
    let over = false
    stop.abort()
    const all = Promise.all([...ended, returned.return?.(), pending]).then(() => {
      over = true
    })
    // Long before the poll, which would have come only half a second later.
    await settled(dir)
    expect(over).toBe(true)
    await all
    expect(await Promise.all(ended)).toEqual(Array(20).fill(1))
    expect((await pending).done).toBe(true)
    expect(open().filter((path) => path.startsWith(dir)).length).toBe(before)
    process.off('warning', warned)
    expect(warnings).toEqual([])
    const aborted = follow(dir, { from: 'begin', signal: AbortSignal.abort() })
    expect((await aborted.next()).done).toBe(true)
    await writer.close()
  })

  it('goes on when a writer takes back what it could not write whole', async () => {
    const dir = await journal()
    const writer = await openWriter(dir)
    const tail = follow(dir, { from: 'begin' })
    for (let i = 0; i < 3; i++) await writer.append(`record ${i}`)
    await writer.close()
    expect(texts(await take(tail, 3))).toEqual(numbered(0, 3))
    await truncate(join(dir, '00000000'), 2 * (16 + 8))
    const next = tail.next()
    await Promise.race([next, new Promise((resolve) => setTimeout(resolve, 50))])
    const again = await openWriter(dir)
    expect(await again.append('another')).toEqual({ log: 0, marker: 3 })
    await again.close()
    const [record] = [...((await next).value as RecordBatch)]
    expect(record).toMatchObject({ id: { log: 0, marker: 3 } })
    expect(String(record!.payload)).toBe('another')
    await tail.return?.()
  })

  it('passes over damage when it is to, in a finished segment that it follows', async () => {
    const dir = await journal({ unitLimit: 100 })
    const skipped: SkippedRange[] = []
    const tail = follow(dir, {
      from: 'begin',
      onDamage: 'skip',
      onSkipped: (range) => skipped.push(range),
    })
    const writer = await openWriter(dir)
    for (let i = 0; i < 8; i++) await writer.append(`record ${i}`)
    await writer.close()
    const segment = await open(join(dir, '00000000'), 'r+')
    await segment.write(Buffer.alloc(4), 0, 4, 16 + 8)
    await segment.close()
    const seen = texts(await take(tail, 7))
    expect(seen.slice(-3)).toEqual(numbered(5, 8))
    expect(seen).not.toContain('record 1')
    expect(skipped).toMatchObject([{ segment: 0, offset: 24, bytes: 24 }])
    await tail.return?.()
  })

  it('reads only when asked', async () => {
    const dir = await journal({ unitLimit: 1000 })
    const writer = await openWriter(dir)
    const tail = follow(dir, { from: 'begin', maxRecords: 3 })
    for (let i = 0; i < 50; i++) await writer.append(`record ${i}`)
    const first = await tail.next()
    expect(first.value.length).toBe(3)
    expect(texts(await take(tail, 47))).toEqual(numbered(3, 50))
    await writer.close()
    await tail.return?.()
  })
})

describe('without file events', () => {
  it('finds by its poll what no event tells of, and looks more often then', async () => {
    const dir = await journal()
    const writer = await openWriter(dir)
    await writer.append('first')
    await writer.close()
    // Written under another name, the directory gets no event.
    const elsewhere = await journal()
    await link(join(dir, '00000000'), join(elsewhere, 'alias'))
    const tail = follow(dir, { from: 'end' })
    const next = tail.next()
    await new Promise((resolve) => setTimeout(resolve, 50))
    const alias = await open(join(elsewhere, 'alias'), 'a')
    const record = Buffer.from('18733a6601000000020000000100000041', 'hex')
    await alias.write(record)
    expect(texts([...((await next).value as RecordBatch)])).toEqual(['A'])
    const waits: number[] = []
    for (let i = 0; i < 20; i++) {
      const soon = tail.next()
      await alias.write(record)
      const written = performance.now()
      await soon
      waits.push(performance.now() - written)
    }
    // Half of the slow poll's time would be 250 ms.
    expect(waits.toSorted((a, b) => a - b)[10]).toBeLessThan(200)
    await alias.close()
    await tail.return?.()
  })
})
