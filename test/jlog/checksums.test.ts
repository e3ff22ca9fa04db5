import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { ChecksumAppender, checksumFile, SegmentChecksums } from '../../jlog/checksums.js'
import { JournalFile } from '../../jlog/file.js'
import { inspectJournal } from '../../jlog/inspect.js'
import { repairJournal } from '../../jlog/repair.js'
import {
  type Damage,
  damage,
  encode,
  findIntact,
  headerBytes,
  inflict,
  MAGICS,
  payloadOf,
  segmentOf,
  type WrittenRecord,
} from './damage-model.js'
import { copyOfFixture, removeTemporaryDirectories, temporaryDirectory } from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

const MAGIC = MAGICS.plain
const text = (...lines: string[]) =>
  segmentOf(
    MAGIC,
    lines.map((line) => Buffer.from(line)),
  )
const bytesOf = (records: readonly WrittenRecord[]) => Buffer.concat(records.map((r) => r.bytes))

async function note(dir: string, records: readonly WrittenRecord[], magic: number = MAGIC) {
  const sums = await ChecksumAppender.open(dir, 0, records[0]?.offset ?? 0)
  for (const { offset, bytes } of records) sums.note(offset, bytes, headerBytes(magic))
  await sums.flush()
  await sums.sync()
  await sums.close()
}

async function verdicts(dir: string, records: readonly WrittenRecord[]) {
  const segment = await JournalFile.open(join(dir, '00000000'))
  const sums = await SegmentChecksums.open(dir, 0, segment, headerBytes(MAGIC))
  const found: string[] = []
  for (const { offset, end } of records) found.push(await sums!.verify(offset, end))
  await sums!.close()
  await segment.close()
  return found
}

/** A journal with one segment. */
function journal(bytes: Buffer, magic: number = MAGIC): string {
  const dir = temporaryDirectory()
  const meta = Buffer.alloc(16)
  meta.writeUInt32LE(4 * 1024 * 1024, 4)
  meta.writeUInt32LE(1, 8)
  meta.writeUInt32LE(magic, 12)
  writeFileSync(join(dir, 'metastore'), meta)
  writeFileSync(join(dir, '00000000'), bytes)
  return dir
}

describe('checksums', () => {
  it('know good records, and a flipped bit in a header or a payload', async () => {
    const records = text('one', 'two', 'three', 'four')
    const bytes = bytesOf(records)
    const dir = journal(bytes)
    await note(dir, records)
    expect(await verdicts(dir, records)).toEqual(['good', 'good', 'good', 'good'])
    bytes[records[1]!.end - 1]! ^= 4
    bytes[records[3]!.offset + 5]! ^= 1
    writeFileSync(join(dir, '00000000'), bytes)
    expect(await verdicts(dir, records)).toEqual(['good', 'damaged', 'good', 'damaged'])
  })

  it('say nothing of what a foreign writer appended', async () => {
    const records = text('ours', 'theirs', 'ours again')
    const dir = journal(bytesOf(records))
    await note(dir, [records[0]!])
    await note(dir, [records[2]!])
    expect(await verdicts(dir, records)).toEqual(['good', 'unknown', 'good'])
  })

  it('survive a torn tail of their own', async () => {
    const records = text('one', 'two', 'three')
    const dir = journal(bytesOf(records))
    await note(dir, records.slice(0, 2))
    const path = join(dir, checksumFile(0))
    writeFileSync(path, readFileSync(path).subarray(0, 24 + 11))
    await note(dir, [records[2]!])
    expect(statSync(path).size).toBe(48)
    expect(await verdicts(dir, records)).toEqual(['good', 'unknown', 'good'])
  })

  it('that outlived their records are dropped by our writer, and condemn nothing of another', async () => {
    const lost = text('kept', 'lost one', 'lost two')
    const dir = journal(bytesOf(lost.slice(0, 1)))
    await note(dir, lost)
    // libjlog comes first, with records of the same size, at other times.
    const theirs = segmentOf(
      MAGIC,
      ['kept', 'new  one', 'new  two'].map((s) => Buffer.from(s)),
      50,
    )
    const segment = Buffer.concat([lost[0]!.bytes, theirs[1]!.bytes, theirs[2]!.bytes])
    writeFileSync(join(dir, '00000000'), segment)
    expect(await verdicts(dir, lost)).toEqual(['good', 'unknown', 'unknown'])
    expect((await repairJournal(dir)).changed).toBe(false)
    // Ours, when it opens at the end of the first record.
    const sums = await ChecksumAppender.open(dir, 0, lost[0]!.end)
    await sums.close()
    expect(statSync(join(dir, checksumFile(0))).size).toBe(24)
  })

  it('let inspect find damage in a payload, and repair cut just that record', async () => {
    const records = text('one', 'two', 'three')
    const bytes = bytesOf(records)
    const dir = journal(bytes)
    await note(dir, records)
    expect((await inspectJournal(dir)).sound).toBe(true)
    bytes[records[2]!.end - 1]! ^= 0x80
    writeFileSync(join(dir, '00000000'), bytes)
    const [segment] = (await inspectJournal(dir)).segments
    expect(segment!.damage).toMatchObject([
      { offset: records[2]!.offset, bytes: records[2]!.bytes.length, reason: 'checksum' },
    ])
    await repairJournal(dir)
    expect(readFileSync(join(dir, '00000000'))).toEqual(bytesOf(records.slice(0, 2)))
    expect(await verdicts(dir, records.slice(0, 2))).toEqual(['good', 'good'])
    expect((await repairJournal(dir)).changed).toBe(false)
  })

  it('of a fixture without any change nothing', async () => {
    const dir = copyOfFixture('plain')
    writeFileSync(join(dir, checksumFile(0)), Buffer.alloc(100, 7))
    expect((await repairJournal(dir)).changed).toBe(false)
  })
})

describe('repair with checksums', () => {
  const inPlace = damage.filter(({ kind }) => kind === 'flip' || kind === 'zero')
  const cases = fc.record({
    payloads: fc.array(payloadOf(MAGIC, true), { minLength: 1, maxLength: 12 }),
    hits: fc.array(inPlace, { maxLength: 4 }),
  })

  it('leaves exactly the undamaged records, and their checksums', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ payloads, hits }) => {
        const written = segmentOf(MAGIC, payloads)
        const damaged = inflict(bytesOf(written), hits as Damage[])
        const dir = journal(damaged.bytes)
        await note(dir, written)
        await repairJournal(dir)
        const intact = written.filter((record) => findIntact(damaged, record) >= 0)
        const left = readFileSync(join(dir, '00000000'))
        expect(left).toEqual(bytesOf(intact))
        const payload = (record: WrittenRecord) => record.bytes.subarray(16)
        const again = segmentOf(MAGIC, intact.map(payload))
        expect(new Set(await verdicts(dir, again))).toEqual(new Set(intact.map(() => 'good')))
        expect((await repairJournal(dir)).changed).toBe(false)
      }),
      { numRuns: 40 },
    )
  })
})

it('an entry is 24 bytes a record, whatever the record holds', async () => {
  const dir = journal(Buffer.alloc(0))
  const record = encode(MAGIC, 1, 2, Buffer.alloc(100_000))
  const sums = await ChecksumAppender.open(dir, 0, 0)
  for (let i = 0; i < 10_000; i++) sums.note(i * record.length, record.subarray(0, 20), 16)
  await sums.flush(0)
  await sums.close()
  expect(statSync(join(dir, checksumFile(0))).size).toBe(240_000)
})
