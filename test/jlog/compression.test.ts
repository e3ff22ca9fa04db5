import { createHash } from 'node:crypto'
import { appendFile, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { compressorFor, decompressPayload, storedBound } from '../../jlog/compression.js'
import { createJournal } from '../../jlog/create.js'
import { type LogId, openReader, readRecords, repairJournal } from '../../jlog/index.js'
import { openWriter } from '../../jlog/writer.js'
import { fixture, makeTemporary, manifest, recordsOnDisk } from './journals.js'
import { collect } from './reading.js'

let scratch: string
beforeEach(async () => {
  scratch = await makeTemporary()
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex').slice(0, 16)

describe.each([
  ['none', 0],
  ['lz4', 1],
] as const)('provider %s', (compression, provider) => {
  test('gives back any payload, within its bound', () => {
    const compress = compressorFor(provider)
    const some = fc.oneof(
      fc.uint8Array({ maxLength: 3000 }),
      fc.tuple(fc.uint8Array({ maxLength: 20 }), fc.nat(300)).map(([unit, n]) => {
        return Uint8Array.from(Buffer.concat(Array.from({ length: n }, () => unit)))
      }),
    )
    fc.assert(
      fc.property(some, (payload) => {
        const stored = Buffer.from(compress(payload))
        expect(stored.length).toBeLessThanOrEqual(storedBound(payload.length))
        expect(decompressPayload(stored, payload.length, provider)).toEqual(Buffer.from(payload))
      }),
    )
  })

  test('a journal of it comes out as it went in', async () => {
    const dir = join(scratch, compression)
    await createJournal(dir, { compression, unitLimit: 30_000 })
    const given = await recordsOnDisk(fixture('lz4'))
    const writer = await openWriter(dir)
    await Promise.all(given.map(({ payload, sec, usec }) => writer.append(payload, { sec, usec })))
    await writer.appendBatch([Buffer.alloc(3_000_000, 'long '), '', 'ü'.repeat(400_000)])
    await writer.close()
    const records = await recordsOnDisk(dir)
    expect(records.slice(0, given.length).map((r) => [r.sec, r.usec, digest(r.payload)])).toEqual(
      given.map((r) => [r.sec, r.usec, digest(r.payload)]),
    )
    const rest = records.slice(given.length).map((r) => r.payload)
    expect(rest[0]!.equals(Buffer.alloc(3_000_000, 'long '))).toBe(true)
    expect(rest[1]!.length).toBe(0)
    expect(rest[2]!.toString() === 'ü'.repeat(400_000)).toBe(true)
  })
})

test("libjlog's empty record where nothing compresses, 16384 bytes of zeros, is a record and no damage", async () => {
  const dir = join(scratch, 'none')
  await createJournal(dir, { compression: 'none', unitLimit: 16_000, subscribers: ['s'] })
  const header = Buffer.alloc(20)
  for (const [at, word] of [0x15106a00, 5, 6, 0, 16384].entries())
    header.writeUInt32LE(word, at * 4)
  const empty = Buffer.concat([header, Buffer.alloc(16384)])
  const append = async (text: string) => {
    const writer = await openWriter(dir)
    await writer.append(text)
    await writer.close()
  }
  await append('before')
  await appendFile(join(dir, '00000000'), empty)
  await append('after')
  await appendFile(join(dir, '00000001'), empty)
  const whole = [
    { log: 0, marker: 1, text: 'before' },
    { log: 0, marker: 2, text: '' },
    { log: 1, marker: 1, text: 'after' },
    { log: 1, marker: 2, text: '' },
  ]
  const asText = ({ id, payload }: { id: LogId; payload: Buffer }) => ({
    ...id,
    text: `${payload}`,
  })
  expect((await recordsOnDisk(dir)).length).toBe(4)
  expect((await collect(readRecords(dir))).map(asText)).toEqual(whole)
  expect((await repairJournal(dir)).segments.map(({ changed }) => changed)).toEqual([false, false])
  const reader = await openReader(dir, 's')
  const read = []
  for (let next = await reader.readInterval(); next; next = await reader.readInterval()) {
    read.push(...[...(await reader.readBatch())].map(asText))
    await reader.checkpoint(next.last)
  }
  await reader.close()
  expect(read).toEqual(whole)
})

test('what libjlog compressed comes out as it went in', async () => {
  const records = await recordsOnDisk(fixture('lz4'))
  const { written } = manifest.lz4!
  // One of its subscribers has read on, so that the first segments may be gone.
  expect(records.map((r) => [r.sec, r.usec, r.payload.length, digest(r.payload)])).toEqual(
    written.slice(-records.length),
  )
  expect(records.length).toBeGreaterThan(40)
})

test('an empty payload takes one byte with LZ4, as with libjlog', () => {
  expect(Buffer.from(compressorFor(1)(Buffer.alloc(0)))).toEqual(Buffer.from([0]))
})

test('damaged payloads are refused, without taking memory for what they claim', async () => {
  const corrupt = { code: 'JLOG_ERR_FILE_CORRUPT' }
  const stored = Buffer.from(compressorFor(1)(Buffer.alloc(1000, 'a')))
  expect(() => decompressPayload(stored, 999, 1)).toThrow(expect.objectContaining(corrupt))
  expect(() => decompressPayload(stored, 1001, 1)).toThrow(expect.objectContaining(corrupt))
  expect(() => decompressPayload(stored, 0xffffffff, 1)).toThrow(expect.objectContaining(corrupt))
  expect(() => decompressPayload(Buffer.from('garbage'), 50, 1)).toThrow(
    expect.objectContaining(corrupt),
  )
  expect(() => decompressPayload(Buffer.from('four'), 5, 0)).toThrow(
    expect.objectContaining(corrupt),
  )
})

test('an unknown provider is refused by name', async () => {
  expect(() => compressorFor(7)).toThrow(
    expect.objectContaining({ code: 'JLOG_ERR_NOT_SUPPORTED' }),
  )
  expect(() => decompressPayload(Buffer.alloc(1), 1, 7)).toThrow(
    expect.objectContaining({ code: 'JLOG_ERR_NOT_SUPPORTED' }),
  )
  const bytes = await readFile(join(fixture('lz4'), 'metastore'))
  expect(bytes.readUInt32LE(12) & 0xff).toBe(1)
})
