import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { SegmentChecksums } from '../../jlog/checksums.js'
import { createJournal } from '../../jlog/create.js'
import { JlogError } from '../../jlog/errors.js'
import { JournalFile, writeFileDurably } from '../../jlog/file.js'
import { segmentFile } from '../../jlog/format.js'
import type { LogId } from '../../jlog/log-id.js'
import { advanceStorageLog, alterMetastore, readMetastore } from '../../jlog/metastore.js'
import { type JournalWriter, openWriter } from '../../jlog/writer.js'
import { fixture, inSegments, makeTemporary, manifest, recordsOnDisk } from './journals.js'

let scratch: string
let dir: string

beforeEach(async () => {
  scratch = await makeTemporary()
  dir = join(scratch, 'journal')
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

/** The payloads that stand in the journal, in file order. */
const texts = async () => (await recordsOnDisk(dir)).map((record) => record.payload.toString())

async function withWriter<T>(work: (writer: JournalWriter) => Promise<T>): Promise<T> {
  const writer = await openWriter(dir)
  try {
    return await work(writer)
  } finally {
    await writer.close()
  }
}

describe('byte for byte what libjlog writes', () => {
  test.each(['plain', 'segments', 'safe', 'unsafe'])('%s', async (name) => {
    const { meta } = manifest[name]!
    await createJournal(dir, { unitLimit: meta.unit_limit, safety: meta.safety as 0 | 1 | 2 })
    await withWriter(async (writer) => {
      for (const { sec, usec, payload } of await recordsOnDisk(fixture(name))) {
        await writer.append(payload, { sec, usec })
      }
    })
    const ours = inSegments(await readdir(dir))
    expect(ours).toEqual(inSegments(await readdir(fixture(name))))
    for (const file of [...ours, 'metastore', 'pre_commit']) {
      expect(await readFile(join(dir, file)), file).toEqual(
        await readFile(join(fixture(name), file)),
      )
    }
  })
})

describe('ids', () => {
  test('are those of the records, over rolls, in batches and alone', async () => {
    await createJournal(dir, { unitLimit: 256 })
    const ids: LogId[] = await withWriter(async (writer) => {
      const got: LogId[] = []
      for (let i = 0; i < 60; i++) {
        if (i % 7 === 0) {
          const { first, last, count } = await writer.appendBatch([`b${i}`, Buffer.from(`c${i}`)])
          expect(count).toBe(2)
          expect(last).toEqual({ log: first.log, marker: first.marker + 1 })
          got.push(first, last)
        } else got.push(await writer.append(`a${i}`))
      }
      expect(await writer.end()).toEqual(expect.objectContaining({ log: expect.any(Number) }))
      return got
    })
    const records = await recordsOnDisk(dir)
    expect(records.map(({ log, marker }) => ({ log, marker }))).toEqual(ids)
    expect(new Set(ids.map((id) => id.log)).size).toBeGreaterThan(3)
  })

  test('many appends at once stand in the order of the calls, with the ids they were told', async () => {
    await createJournal(dir, { unitLimit: 64 * 1024 })
    const n = 20_000
    const ids = await withWriter((writer) =>
      Promise.all(Array.from({ length: n }, (_, i) => writer.append(`record ${i}`))),
    )
    const records = await recordsOnDisk(dir)
    expect(records.length).toBe(n)
    records.forEach((record, i) => {
      if (record.payload.toString() !== `record ${i}`) expect(record.payload.toString()).toBe(i)
      if (record.log !== ids[i]!.log || record.marker !== ids[i]!.marker) {
        expect(ids[i]).toEqual({ log: record.log, marker: record.marker })
      }
    })
  })

  test('of the end: marker 0 in an empty segment, then the last record', async () => {
    await createJournal(dir)
    await withWriter(async (writer) => {
      expect(await writer.end()).toEqual({ log: 0, marker: 0 })
      const [, , end] = await Promise.all([writer.append('a'), writer.append('b'), writer.end()])
      expect(end).toEqual({ log: 0, marker: 2 })
    })
  })

  test('count what others appended meanwhile', async () => {
    await createJournal(dir)
    await withWriter(async (one) => {
      await withWriter(async (two) => {
        expect(await one.append('1')).toEqual({ log: 0, marker: 1 })
        expect(await two.append('2')).toEqual({ log: 0, marker: 2 })
        expect(await two.append('3')).toEqual({ log: 0, marker: 3 })
        expect(await one.append('4')).toEqual({ log: 0, marker: 4 })
        expect(await two.end()).toEqual({ log: 0, marker: 4 })
      })
    })
    expect(await texts()).toEqual(['1', '2', '3', '4'])
  })
})

describe('records', () => {
  test('of any kind and size come out as they went in', async () => {
    await createJournal(dir)
    const big = Buffer.alloc(5 * 1024 * 1024 + 3, 'journal ')
    const middling = Buffer.alloc(300 * 1024, 'm')
    const given = [
      Buffer.alloc(0),
      'ü€𝄞',
      '',
      'x'.repeat(5000),
      new Uint8Array([0, 1, 255]),
      middling,
      big,
    ]
    const sec = 1_700_000_000
    await withWriter(async (writer) => {
      await Promise.all(given.map((payload, i) => writer.append(payload, { sec, usec: i })))
      await writer.appendBatch(given.map((payload, i) => ({ payload, sec, usec: 100 + i })))
    })
    const records = await recordsOnDisk(dir)
    const expected = given.map((payload) => Buffer.from(payload as Uint8Array))
    expect(records.length).toBe(2 * given.length)
    records.forEach((record, i) => {
      expect(record.payload.equals(expected[i % given.length]!), `record ${i}`).toBe(true)
      expect([record.sec, record.usec]).toEqual([
        sec,
        i < given.length ? i : 100 + i - given.length,
      ])
    })
  })

  test('of any sizes, appended at once, come out as they went in, in the segments they were told', async () => {
    const size = fc.oneof(
      { weight: 6, arbitrary: fc.nat(2000) },
      { weight: 2, arbitrary: fc.integer({ min: 60_000, max: 70_000 }) },
      { weight: 1, arbitrary: fc.integer({ min: 250_000, max: 600_000 }) },
    )
    const call = fc.array(size, { minLength: 1, maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(
        fc.array(call, { minLength: 1, maxLength: 30 }),
        fc.constantFrom(64 * 1024, 1024 * 1024, 8 * 1024 * 1024),
        fc.constantFrom('plain', 'plain', 'lz4', 'none'),
        fc.boolean(),
        fc.boolean(),
        async (calls, unitLimit, compression, direct, checksums) => {
          dir = join(await mkdtemp(join(scratch, 'any-')), 'journal')
          await createJournal(dir, {
            unitLimit,
            ...(compression === 'plain' ? {} : { compression }),
          })
          const writer = await openWriter(dir, { direct, checksums })
          let n = 0
          const given = calls.map((sizes) => sizes.map((bytes) => Buffer.alloc(bytes, `${n++} `)))
          const told = await Promise.all(given.map((records) => writer.appendBatch(records)))
          await writer.close()
          const records = await recordsOnDisk(dir)
          const all = given.flat()
          expect(records).toHaveLength(all.length)
          expect(records.findIndex(({ payload }, i) => !payload.equals(all[i]!))).toBe(-1)
          const ids = told.flatMap(({ first, count }) =>
            Array.from({ length: count }, (_, i) => ({ log: first.log, marker: first.marker + i })),
          )
          expect(records.map(({ log, marker }) => ({ log, marker }))).toEqual(ids)
        },
      ),
      { numRuns: 40 },
    )
  })

  test('without a time get the present one', async () => {
    await createJournal(dir)
    const before = Math.floor(Date.now() / 1000)
    await withWriter((writer) => writer.append('now'))
    const [record] = await recordsOnDisk(dir)
    expect(record!.sec).toBeGreaterThanOrEqual(before)
    expect(record!.sec).toBeLessThanOrEqual(Math.floor(Date.now() / 1000))
  })

  test('a batch stands in one segment, however large it is', async () => {
    await createJournal(dir, { unitLimit: 1000 })
    const many = Array.from({ length: 40_000 }, (_, i) =>
      Buffer.from(`batch record ${i} ${'.'.repeat(60)}`),
    )
    const { first, last } = await withWriter(async (writer) => {
      await writer.append('before')
      return writer.appendBatch(many)
    })
    expect([first, last]).toEqual([
      { log: 0, marker: 2 },
      { log: 0, marker: 40_001 },
    ])
    const records = await recordsOnDisk(dir)
    expect(records.slice(1).map((r) => r.payload.toString())).toEqual(many.map(String))
    expect(await readMetastore(dir)).toMatchObject({ storageLog: 1 })
  })

  test('what is no record is refused, and leaves nothing', async () => {
    await createJournal(dir)
    await withWriter(async (writer) => {
      const illegal = { code: 'JLOG_ERR_ILLEGAL_WRITE' }
      for (const none of [5, new Uint16Array(2), new DataView(new ArrayBuffer(4))]) {
        await expect(writer.append(none as never)).rejects.toMatchObject(illegal)
      }
      await expect(writer.append('x', { sec: -1, usec: 0 })).rejects.toMatchObject(illegal)
      await expect(writer.append('x', { sec: 0, usec: 2 ** 32 })).rejects.toMatchObject(illegal)
      await expect(writer.appendBatch([])).rejects.toMatchObject(illegal)
      await expect(
        writer.appendBatch(['ok', { payload: 'x', sec: 1.5, usec: 0 }]),
      ).rejects.toMatchObject(illegal)
      expect(await writer.end()).toEqual({ log: 0, marker: 0 })
    })
  })
})

describe('a writer', () => {
  test('refuses appends once closed, and closes twice', async () => {
    await createJournal(dir)
    const writer = await openWriter(dir)
    const last = writer.append('made before')
    await Promise.all([writer.close(), writer.close()])
    expect(await last).toEqual({ log: 0, marker: 1 })
    await expect(writer.append('late')).rejects.toMatchObject({ code: 'JLOG_ERR_ILLEGAL_WRITE' })
    await expect(writer.end()).rejects.toMatchObject({ code: 'JLOG_ERR_ILLEGAL_WRITE' })
    await expect(writer.sync()).rejects.toBeInstanceOf(JlogError)
  })

  test('needs a journal', async () => {
    await expect(openWriter(dir)).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
    await mkdir(dir)
    await expect(openWriter(dir)).rejects.toMatchObject({ code: 'JLOG_ERR_META_OPEN' })
    await writeFile(join(dir, 'metastore'), Buffer.alloc(7))
    await expect(openWriter(dir)).rejects.toMatchObject({ code: 'JLOG_ERR_META_OPEN' })
    await expect(openWriter(join(dir, 'metastore'))).rejects.toMatchObject({
      code: 'JLOG_ERR_NOTDIR',
    })
  })

  test('refuses more than may be pending, and says when there is room', async () => {
    await createJournal(dir)
    const writer = await openWriter(dir, { maxPendingBytes: 100_000 })
    const record = Buffer.alloc(1000, 'r')
    const outcomes = await Promise.allSettled(
      Array.from({ length: 200 }, () => writer.append(record)),
    )
    const refused = outcomes.filter((o) => o.status === 'rejected')
    expect(refused.length).toBeGreaterThan(100)
    expect(refused[0]!.reason).toMatchObject({ code: 'JLOG_ERR_ILLEGAL_WRITE' })
    const taken: Promise<LogId>[] = []
    for (let i = 0; i < 500; i++) {
      await writer.ready()
      expect(writer.pendingBytes).toBeLessThan(100_000)
      taken.push(writer.append(record))
    }
    await Promise.all(taken)
    // One record larger than all that may be pending is taken when nothing else is.
    await writer.append(Buffer.alloc(200_000))
    await writer.close()
    expect(writer.pendingBytes).toBe(0)
    expect((await recordsOnDisk(dir)).length).toBe(200 - refused.length + 501)
  })

  test('counts a large segment from its index, and not from a wrong one', async () => {
    const count = 90_000
    const entries = new BigUint64Array(count - 10)
    const record = Buffer.alloc(100, 'large segment ')
    for (let i = 0; i < entries.length; i++) entries[i] = BigInt(116 * i)
    await createJournal(dir, { unitLimit: 1 << 30 })
    await withWriter((writer) => writer.appendBatch(Array(count).fill(record)))
    const index = join(dir, '00000000.idx')
    for (const wrong of [0n, 1n, 116n * BigInt(count)]) {
      const bytes = entries.slice()
      bytes[bytes.length - 1]! += wrong
      await writeFile(index, bytes)
      expect(await withWriter((writer) => writer.end())).toEqual({ log: 0, marker: count })
    }
  })

  test('follows changed settings at once', async () => {
    await createJournal(dir)
    await withWriter(async (writer) => {
      await writer.append('x'.repeat(200))
      await alterMetastore(dir, { unitLimit: 100 })
      expect(await writer.append('y')).toEqual({ log: 1, marker: 1 })
    })
  })

  test('waits for the lock so long and no longer, and goes on when it is free', async () => {
    await createJournal(dir)
    const writer = await openWriter(dir, { lockTimeout: 30 })
    await writer.append('one')
    const other = await JournalFile.open(join(dir, segmentFile(0)), { write: true })
    await other.lock()
    await expect(writer.append('locked out')).rejects.toMatchObject({ code: 'JLOG_ERR_LOCK' })
    expect(writer.failure).toBeNull()
    const waiting = writer.append('two')
    other.unlock()
    expect(await waiting).toEqual({ log: 0, marker: 2 })
    await other.close()
    await writer.close()
    expect(await texts()).toEqual(['one', 'two'])
  })

  test('follows a metastore that was replaced, as by a repair', async () => {
    await createJournal(dir)
    await withWriter(async (writer) => {
      await writer.append('in the first')
      const bytes = await readFile(join(dir, 'metastore'))
      bytes.writeUInt32LE(5, 0)
      await writeFileDurably(join(dir, 'metastore'), bytes, { mode: 0o640 })
      expect(await writer.append('in the sixth')).toEqual({ log: 5, marker: 1 })
      bytes.writeUInt32LE(0x15106a01, 12)
      await writeFileDurably(join(dir, 'metastore'), bytes, { mode: 0o640 })
      await expect(writer.append('plain')).rejects.toMatchObject({ code: 'JLOG_ERR_META_OPEN' })
    })
  })

  test('follows a segment that was replaced', async () => {
    await createJournal(dir)
    await withWriter(async (writer) => {
      await writer.appendBatch(['one', 'two'])
      const segment = join(dir, segmentFile(0))
      const bytes = await readFile(segment)
      await writeFileDurably(segment, bytes.subarray(0, 19), { mode: 0o640 })
      expect(await writer.append('three')).toEqual({ log: 0, marker: 2 })
    })
    expect(await texts()).toEqual(['one', 'three'])
  })

  test('sync and flush settle with everything written', async () => {
    await createJournal(dir, { unitLimit: 300, safety: 0 })
    await withWriter(async (writer) => {
      const appends = Array.from({ length: 50 }, (_, i) => writer.append(`r${i}`))
      await writer.sync()
      await writer.flush()
      expect((await texts()).length).toBe(50)
      await Promise.all(appends)
    })
  })

  test('goes on in the highest segment when the metastore lags behind it', async () => {
    const name = 'bad-meta-behind'
    await copyJournal(name)
    const id = await withWriter((writer) => writer.append('next'))
    expect(id.log).toBe(8)
    expect((await readMetastore(dir)).storageLog).toBe(8)
    const before = await recordsOnDisk(fixture(name))
    expect((await recordsOnDisk(dir)).length).toBe(before.length + 1)
  })

  test('refuses segments of size 0, as libjlog makes them, where each would be full before its first record', async () => {
    await createJournal(dir)
    const writer = await openWriter(dir)
    await writer.append('one')
    const metastore = await readFile(join(dir, 'metastore'))
    metastore.writeUInt32LE(0, 4)
    await writeFile(join(dir, 'metastore'), metastore)
    const damaged = { code: 'JLOG_ERR_META_OPEN' }
    await expect(writer.append('two')).rejects.toMatchObject(damaged)
    await expect(openWriter(dir)).rejects.toMatchObject(damaged)
    expect(inSegments(await readdir(dir))).toEqual(['00000000'])
    metastore.writeUInt32LE(100, 4)
    await writeFile(join(dir, 'metastore'), metastore)
    await writer.append('three')
    await writer.close()
    expect(await texts()).toEqual(['one', 'three'])
  })

  test('stops with a clear error after segment ffffffff', async () => {
    await createJournal(dir, { unitLimit: 100 })
    await advanceStorageLog(dir, 0, 0xffffffff)
    await withWriter(async (writer) => {
      expect(await writer.append('x'.repeat(90))).toEqual({ log: 0xffffffff, marker: 1 })
      await writer.append('y'.repeat(90))
    }).then(
      () => expect.unreachable(),
      (error: JlogError) => {
        expect(error).toMatchObject({ code: 'JLOG_ERR_NOT_SUPPORTED', segment: 0xffffffff })
      },
    )
    expect(await texts()).toEqual(['x'.repeat(90)])
  })
})

describe('legacy journals', () => {
  test('of 12 bytes and magic 0 are appended to, and stay legacy', async () => {
    await copyJournal('bad-meta-legacy')
    const before = await recordsOnDisk(dir)
    await withWriter(async (writer) => {
      for (let i = 0; i < 40; i++) await writer.append(`new ${i} ${'.'.repeat(40)}`)
    })
    expect((await stat(join(dir, 'metastore'))).size).toBe(12)
    const after = await recordsOnDisk(dir)
    expect(after.length).toBe(before.length + 40)
    expect((await readMetastore(dir)).storageLog).toBeGreaterThan(8)
  })
})

describe('checksums', () => {
  /** What the checksums say of each record, in order. */
  async function verdicts(): Promise<string[]> {
    const said: string[] = []
    for (const name of inSegments(await readdir(dir))) {
      const log = Number.parseInt(name, 16)
      const file = await JournalFile.open(join(dir, name))
      const sums = await SegmentChecksums.open(dir, log, file, 16)
      let at = 0
      while (at < file.size()) {
        const end = at + 16 + (await file.read(at + 12, 4)).readUInt32LE(0)
        said.push((await sums?.verify(at, end)) ?? 'none')
        at = end
      }
      await sums?.close()
      await file.close()
    }
    return said
  }

  test('are written for every record, copied or not, over rolls and openings', async () => {
    await createJournal(dir, { unitLimit: 5000, checksums: true })
    for (let n = 0; n < 2; n++) {
      await withWriter(async (writer) => {
        for (let i = 0; i < 30; i++) await writer.append('.'.repeat(i * 20))
        await Promise.all(Array.from({ length: 30 }, (_, i) => writer.append(`at once ${i}`)))
        await writer.appendBatch([
          '',
          'a',
          Buffer.alloc(700_000, 'b'),
          'c',
          Buffer.alloc(300_000),
          'd',
        ])
      })
    }
    const said = await verdicts()
    expect(said.length).toBe(2 * 66)
    expect(new Set(said)).toEqual(new Set(['good']))
    const segment = join(dir, segmentFile(0))
    const bytes = await readFile(segment)
    bytes[bytes.length - 1]! ^= 1
    await writeFile(segment, bytes)
    expect((await verdicts()).filter((verdict) => verdict !== 'good')).toEqual(['damaged'])
  })

  test('are not written unasked; what others append has none', async () => {
    await createJournal(dir)
    await withWriter((writer) => writer.append('without'))
    expect((await readdir(dir)).filter((name) => name.endsWith('.sum'))).toEqual([])
    const writer = await openWriter(dir, { checksums: true })
    await writer.append('with')
    await writer.close()
    const foreign = await openWriter(dir, { checksums: false })
    await foreign.append('foreign')
    await foreign.close()
    await withWriter((again) => again.append('with'))
    expect(await verdicts()).toEqual(['unknown', 'good', 'unknown', 'good'])
  })
})

describe('a torn tail', () => {
  test.each(['bad-torn-tail', 'bad-torn-header'])('%s: goes into a file beside', async (name) => {
    await copyJournal(name)
    const segment = join(dir, segmentFile(8))
    const before = await readFile(segment)
    const whole = await recordsOnDisk(dir)
    const id = await withWriter((writer) => writer.append('next'))
    const cut = await readFile(`${segment}.torn-0`)
    expect(cut.length).toBeGreaterThan(0)
    const after = await readFile(segment)
    expect(Buffer.concat([after.subarray(0, before.length - cut.length), cut])).toEqual(before)
    const records = await recordsOnDisk(dir)
    expect(records.slice(0, -1)).toEqual(whole)
    expect(records.at(-1)).toMatchObject({ ...id, payload: Buffer.from('next') })
  })

  test('left by another writer while this one is open is dealt with before the next append', async () => {
    await createJournal(dir)
    await withWriter(async (writer) => {
      await writer.append('one')
      const segment = join(dir, segmentFile(0))
      for (const n of [0, 1]) {
        await writeFile(segment, 'a piece of a header', { flag: 'a' })
        expect(await writer.append(`after ${n}`)).toEqual({ log: 0, marker: 2 + n })
        expect(await readFile(`${segment}.torn-${n}`, 'utf8')).toBe('a piece of a header')
      }
    })
    expect(await texts()).toEqual(['one', 'after 0', 'after 1'])
  })

  test('with records behind it is damage: nothing is cut, writing goes on in the next segment', async () => {
    await createJournal(dir)
    await withWriter((writer) => writer.appendBatch(['one', 'two', 'three', 'four']))
    const segment = join(dir, segmentFile(0))
    const bytes = await readFile(segment)
    bytes.writeUInt32LE(0xdeadbeef, 16 + 3)
    await writeFile(segment, bytes)
    expect(await withWriter((writer) => writer.append('five'))).toEqual({ log: 1, marker: 1 })
    expect(await readFile(segment)).toEqual(bytes)
    expect((await readdir(dir)).filter((name) => name.includes('torn'))).toEqual([])
  })
})

async function copyJournal(name: string): Promise<void> {
  await mkdir(dir, { recursive: true })
  for (const file of await readdir(fixture(name))) {
    await copyFile(join(fixture(name), file), join(dir, file))
  }
}
