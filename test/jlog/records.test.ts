import { readdir, readFile, stat, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openReader, openWriter, readRecords } from '../../jlog/index.js'
import { formatLogId, type LogId } from '../../jlog/log-id.js'
import { collect, temporaryJournals } from './reading.js'

const journal = temporaryJournals()

async function filled(
  count: number,
  options: { unitLimit?: number; compression?: 'off' | 'none' | 'lz4' } = {},
) {
  const dir = await journal({ unitLimit: 200, subscribers: ['s'], ...options })
  const writer = await openWriter(dir)
  for (let i = 0; i < count; i++) await writer.append(`record ${i}`, { sec: 1000 + i, usec: i })
  await writer.close()
  return dir
}

const numbered = (count: number) => Array.from({ length: count }, (_, i) => `record ${i}`)

describe('readRecords', () => {
  it('reads what was written, however records, segments and batches fall', async () => {
    const payload = fc.oneof(
      { weight: 8, arbitrary: fc.uint8Array({ maxLength: 300 }) },
      { weight: 1, arbitrary: fc.uint8Array({ minLength: 5000, maxLength: 70_000 }) },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(payload, { maxLength: 40 }),
        fc.integer({ min: 1, max: 3000 }),
        fc.constantFrom('off' as const, 'none' as const, 'lz4' as const),
        fc.record(
          {
            maxRecords: fc.integer({ min: 1, max: 9 }),
            maxBytes: fc.integer({ min: 1, max: 2000 }),
          },
          { requiredKeys: [] },
        ),
        async (payloads, unitLimit, compression, limits) => {
          const dir = await journal({ unitLimit, compression, subscribers: ['s'] })
          const writer = await openWriter(dir)
          const written = await Promise.all(
            payloads.map(async (bytes, i) => {
              const id = await writer.append(bytes, { sec: i, usec: 999_999 - i })
              return { id, sec: i, usec: 999_999 - i, payload: Buffer.from(bytes) }
            }),
          )
          await writer.close()
          expect(await collect(readRecords(dir))).toEqual(written)
          const batchBytes = limits.maxBytes ?? 100_000
          expect(await collect(readRecords(dir, { batchBytes }))).toEqual(written)
          const reader = await openReader(dir, 's')
          const read = []
          for (
            let interval = await reader.readInterval();
            interval !== null;
            interval = await reader.readInterval()
          ) {
            let count = 0
            for (
              let batch = await reader.readBatch(limits);
              batch.length > 0;
              batch = await reader.readBatch(limits)
            ) {
              expect(batch.length).toBeLessThanOrEqual(
                limits.maxRecords ?? Number.POSITIVE_INFINITY,
              )
              if (batch.length > 1)
                expect(batch.storedBytes).toBeLessThanOrEqual(
                  limits.maxBytes ?? Number.POSITIVE_INFINITY,
                )
              count += batch.length
              read.push(...batch)
            }
            expect(count).toBe(interval.count)
            await reader.checkpoint(interval.last)
          }
          await reader.close()
          expect(read).toEqual(written)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('begins strictly after an id, wherever that is', async () => {
    const dir = await filled(40)
    const all = await collect(readRecords(dir))
    for (const [i, { id }] of all.entries()) {
      expect(await collect(readRecords(dir, { after: id }))).toEqual(all.slice(i + 1))
    }
    const lastOfFirst = all.filter(({ id }) => id.log === 0).length
    // Past the end of a segment is its end; a segment that is gone counts as read; past the journal is nothing.
    expect(await collect(readRecords(dir, { after: { log: 0, marker: 5000 } }))).toEqual(
      all.slice(lastOfFirst),
    )
    await unlink(join(dir, '00000001'))
    const rest = all.filter(({ id }) => id.log > 1)
    expect(await collect(readRecords(dir, { after: { log: 1, marker: 1 } }))).toEqual(rest)
    expect(await collect(readRecords(dir, { after: { log: 4_000_000_000, marker: 0 } }))).toEqual(
      [],
    )
  })

  it('keeps to its limits, and gives at least one record', async () => {
    const dir = await filled(40)
    const all = await collect(readRecords(dir))
    for (const limitRecords of [1, 7, 39, 40, 100]) {
      expect(await collect(readRecords(dir, { limitRecords }))).toEqual(all.slice(0, limitRecords))
    }
    expect(await collect(readRecords(dir, { limitBytes: 1 }))).toEqual(all.slice(0, 1))
    const sizes = all.map(({ payload }) => payload.length + 16)
    const bytes = sizes.slice(0, 23).reduce((a, b) => a + b)
    expect(await collect(readRecords(dir, { limitBytes: bytes }))).toEqual(all.slice(0, 23))
    expect(await collect(readRecords(dir, { limitBytes: bytes - 1 }))).toEqual(all.slice(0, 22))
  })

  it('gives what was there when it began, while a writer goes on', async () => {
    const dir = await filled(10)
    const before = (await collect(readRecords(dir))).length
    const writer = await openWriter(dir)
    let read = 0
    for await (const batch of readRecords(dir)) {
      read += batch.length
      await writer.appendBatch(['more', 'and more'])
    }
    await writer.close()
    expect(read).toBe(before)
  })

  it('takes no memory for a length that cannot be', async () => {
    const dir = await journal()
    const header = Buffer.alloc(16)
    header.writeUInt32LE(0x663a7318, 0)
    header.writeUInt32LE(0xfffffff0, 12)
    await writeFile(join(dir, '00000000'), header)
    const before = process.memoryUsage().arrayBuffers
    expect(await collect(readRecords(dir))).toEqual([])
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * 1024 * 1024)
    // In a finished segment the same is damage.
    await writeFile(join(dir, '00000001'), '')
    await expect(collect(readRecords(dir))).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_CORRUPT',
      segment: 0,
      offset: 0,
    })
  })

  it('steps over a gap of any number of segments', async () => {
    const dir = await filled(3, { unitLimit: 1 })
    await writeFile(join(dir, 'ffffffff'), Buffer.from('18733a660100000002000000010000007a', 'hex'))
    const records = await collect(readRecords(dir))
    expect(records.map(({ id, payload }) => [formatLogId(id), String(payload)])).toEqual([
      ['00000000:00000001', 'record 0'],
      ['00000001:00000001', 'record 1'],
      ['00000002:00000001', 'record 2'],
      ['ffffffff:00000001', 'z'],
    ])
  })

  it('says what is wrong with a directory that is no journal', async () => {
    const dir = await journal()
    await expect(collect(readRecords(join(dir, 'nowhere')))).rejects.toMatchObject({
      code: 'JLOG_ERR_OPEN',
    })
    await expect(collect(readRecords(join(dir, 'metastore')))).rejects.toMatchObject({
      code: 'JLOG_ERR_NOTDIR',
    })
    await unlink(join(dir, 'metastore'))
    await expect(collect(readRecords(dir))).rejects.toMatchObject({ code: 'JLOG_ERR_META_OPEN' })
  })

  it('tells what it skips, and not of a record that is being written', async () => {
    const dir = await filled(20, { unitLimit: 1000 })
    const [first] = (await readdir(dir)).filter((name) => /^0{8}$/.test(name))
    const { size } = await stat(join(dir, first!))
    await truncate(join(dir, first!), size - 3)
    const skipped: unknown[] = []
    const kept = await collect(
      readRecords(dir, { onDamage: 'skip', onSkipped: (range) => skipped.push(range) }),
    )
    expect(kept.length).toBe(19)
    expect(skipped).toEqual([])
    await writeFile(join(dir, '00000001'), '')
    await collect(readRecords(dir, { onDamage: 'skip', onSkipped: (range) => skipped.push(range) }))
    expect(skipped).toMatchObject([{ segment: 0, reason: 'torn-record' }])
  })
})

describe('readRecords with verify', () => {
  it('finds a flipped bit in a payload by its checksum, and only then', async () => {
    const dir = await journal({ checksums: true, unitLimit: 400 })
    const writer = await openWriter(dir)
    for (let i = 0; i < 30; i++) await writer.append(`record ${i}`)
    await writer.close()
    const all = await collect(readRecords(dir, { verify: true }))
    expect(all.map(({ payload }) => String(payload))).toEqual(numbered(30))
    const segment = join(dir, '00000000')
    const bytes = await readFile(segment)
    const second = 16 + 'record 0'.length
    bytes[second + 16]! ^= 1
    await writeFile(segment, bytes)
    expect((await collect(readRecords(dir))).length).toBe(30)
    await expect(collect(readRecords(dir, { verify: true }))).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_CORRUPT',
      segment: 0,
      offset: second,
    })
    const skipped: unknown[] = []
    const options = {
      verify: true,
      onDamage: 'skip',
      onSkipped: (range: unknown) => skipped.push(range),
    } as const
    const kept = await collect(readRecords(dir, options))
    expect(kept.map(({ payload }) => String(payload))).toEqual(
      numbered(30).filter((_, i) => i !== 1),
    )
    expect(skipped).toMatchObject([{ segment: 0, offset: second, reason: 'checksum' }])
  })
})

describe('RecordBatch', () => {
  it('gives bytes that stay, until it is released', async () => {
    const dir = await filled(30, { unitLimit: 100_000 })
    const held: { id: LogId; payload: Buffer }[] = []
    for await (const batch of readRecords(dir)) held.push(...batch)
    expect(held.map(({ payload }) => String(payload))).toEqual(held.map((_, i) => `record ${i}`))
    for await (const batch of readRecords(dir)) {
      batch.release()
      expect(() => batch.payload(0)).toThrow(RangeError)
    }
  })

  it('reports a compressed payload that does not decompress, and still gives the others', async () => {
    const dir = await journal({ compression: 'lz4' })
    const writer = await openWriter(dir)
    for (const text of ['a'.repeat(500), 'b'.repeat(500), 'c'.repeat(500)])
      await writer.append(text)
    await writer.close()
    for await (const batch of readRecords(dir)) {
      const damaged = batch.offset(1) + 20
      const file = join(dir, '00000000')
      const bytes = await readFile(file)
      bytes.fill(0xff, damaged, damaged + batch.storedSize(1))
      await writeFile(file, bytes)
    }
    for await (const batch of readRecords(dir)) {
      expect(String(batch.payload(0))).toBe('a'.repeat(500))
      expect(() => batch.payload(1)).toThrow(
        expect.objectContaining({
          code: 'JLOG_ERR_FILE_CORRUPT',
          segment: 0,
          offset: batch.offset(1),
        }),
      )
      expect(String(batch.payload(2))).toBe('c'.repeat(500))
    }
  })
})
