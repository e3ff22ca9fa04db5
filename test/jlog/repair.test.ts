import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { JlogError } from '../../jlog/errors.js'
import { repairJournal } from '../../jlog/repair.js'
import {
  copyOfFixture,
  entriesOf,
  manifest,
  removeTemporaryDirectories,
  snapshot,
  temporaryDirectory,
} from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

const names = Object.keys(manifest)

describe('a damaged fixture', () => {
  for (const name of names.filter((n) => n.startsWith('bad-'))) {
    it(`${name}: exactly the expected records remain, and the next repair changes nothing`, async () => {
      const dir = copyOfFixture(name)
      const before = snapshot(dir)
      const foretold = await repairJournal(dir, { dryRun: true })
      expect(snapshot(dir)).toEqual(before)

      const report = await repairJournal(dir)

      expect({ ...report, dryRun: true }).toEqual(foretold)
      expect(entriesOf(dir)).toEqual(manifest[name]!.expected)
      expect(report.records).toBe(manifest[name]!.expected.length)
      for (const { cutBytes, cutFile } of report.segments) {
        if (cutBytes > 0) expect(readFileSync(join(dir, cutFile!)).length).toBe(cutBytes)
        else expect(cutFile).toBeNull()
      }
      const repaired = snapshot(dir)
      const again = await repairJournal(dir)
      expect(again.changed).toBe(false)
      expect(snapshot(dir)).toEqual(repaired)
    })
  }
})

describe('a sound fixture', () => {
  for (const name of names.filter((n) => !n.startsWith('bad-'))) {
    it(`${name} is left byte for byte as it was`, async () => {
      const dir = copyOfFixture(name)
      const before = snapshot(dir)
      const report = await repairJournal(dir)
      expect(report.changed).toBe(false)
      expect(snapshot(dir)).toEqual(before)
      const after = Object.fromEntries(report.subscribers.map((s) => [s.subscriber, s.after]))
      expect(after).toEqual(manifest[name]!.subscribers)
    })
  }
})

describe('checkpoints', () => {
  const place = async (name: string) => {
    const dir = copyOfFixture(name)
    const { subscribers } = await repairJournal(dir)
    const found = subscribers.find(({ subscriber }) => subscriber === 'b')!
    const file = readFileSync(join(dir, found.file))
    const hex = (at: number) => file.readUInt32LE(at).toString(16).padStart(8, '0')
    expect(`${hex(0)}:${hex(4)}`).toBe(found.after)
    return found
  }

  it('before the earliest segment goes to its beginning', async () => {
    expect(await place('bad-cp-old')).toMatchObject({
      before: '00000000:00000001',
      after: '00000002:00000000',
      reason: 'before-the-earliest',
    })
  })

  it('of the wrong size goes to the beginning, and its bytes are kept', async () => {
    const dir = copyOfFixture('bad-cp-short')
    const bytes = readFileSync(join(dir, 'cp.62'))
    const { subscribers } = await repairJournal(dir)
    expect(subscribers.find(({ subscriber }) => subscriber === 'b')).toMatchObject({
      before: null,
      after: '00000000:00000000',
      reason: 'wrong-size',
    })
    expect(readFileSync(join(dir, 'torn-cp.62-0'))).toEqual(bytes)
  })

  it('past the end go to the end', async () => {
    const end = { after: '00000008:00000007', reason: 'past-the-end' }
    expect(await place('bad-cp-beyond')).toMatchObject(end)
    expect(await place('bad-cp-future')).toMatchObject(end)
  })

  it('whose names begin with ~ are left alone', async () => {
    const dir = copyOfFixture('segments')
    writeFileSync(join(dir, 'cp.7e78'), 'xyz')
    const report = await repairJournal(dir)
    expect(report.changed).toBe(false)
    expect(readFileSync(join(dir, 'cp.7e78'), 'latin1')).toBe('xyz')
  })

  it('move along when records before them are cut from their segment', async () => {
    const dir = copyOfFixture('bad-bad-magic')
    const cp = Buffer.alloc(8)
    cp.writeUInt32LE(5, 0)
    cp.writeUInt32LE(8, 4)
    writeFileSync(join(dir, 'cp.62'), cp)
    const { subscribers, segments } = await repairJournal(dir)
    expect(subscribers.find(({ subscriber }) => subscriber === 'b')).toMatchObject({
      before: '00000005:00000008',
      after: '00000005:00000007',
      reason: 'records-cut-before-it',
    })
    expect(segments[5]!.checkpoints).toHaveLength(1)
    expect(readFileSync(join(dir, 'cp.62')).readUInt32LE(4)).toBe(7)
  })
})

describe('the metastore', () => {
  it('of a legacy journal stays as it is, also when storage_log is behind', async () => {
    const dir = copyOfFixture('bad-meta-legacy')
    const meta = readFileSync(join(dir, 'metastore'))
    meta.writeUInt32LE(3, 0)
    writeFileSync(join(dir, 'metastore'), meta)
    await repairJournal(dir)
    const after = readFileSync(join(dir, 'metastore'))
    expect(after.length).toBe(12)
    expect(after.readUInt32LE(0)).toBe(8)
    expect(entriesOf(dir)).toEqual(manifest['bad-meta-legacy']!.expected)
  })

  it('cut to twelve bytes is no legacy one: the segments show their magic', async () => {
    const dir = copyOfFixture('segments')
    const expected = entriesOf(dir)
    writeFileSync(join(dir, 'metastore'), readFileSync(join(dir, 'metastore')).subarray(0, 12))
    const report = await repairJournal(dir)
    expect(report.metastore.changed).toBe(true)
    expect(entriesOf(dir)).toEqual(expected)
  })

  it('is believed when its segments show nothing but zeros that could be legacy records', async () => {
    const dir = copyOfFixture('fresh-writer')
    const zeros = Buffer.alloc(100)
    zeros.writeUInt32LE(1_700_000_000, 4)
    zeros.writeUInt32LE(84, 12)
    writeFileSync(join(dir, '00000000'), zeros)
    const before = readFileSync(join(dir, 'metastore'))
    const report = await repairJournal(dir)
    expect(readFileSync(join(dir, 'metastore'))).toEqual(before)
    expect(report.records).toBe(0)
    expect(readFileSync(join(dir, '00000000.torn-0'))).toEqual(zeros)
  })

  it('is made anew for a compressed journal, too', async () => {
    const dir = copyOfFixture('lz4')
    const expected = entriesOf(dir)
    rmSync(join(dir, 'metastore'))
    await repairJournal(dir)
    expect(entriesOf(dir)).toEqual(expected)
  })

  it('of the other byte order is refused, and nothing is touched', async () => {
    const dir = copyOfFixture('segments')
    writeFileSync(join(dir, 'metastore'), readFileSync(join(dir, 'metastore')).swap32())
    const before = snapshot(dir)
    await expect(repairJournal(dir)).rejects.toMatchObject({ code: 'JLOG_ERR_NOT_SUPPORTED' })
    expect(snapshot(dir)).toEqual(before)
  })
})

describe('pre_commit', () => {
  const withCount = async (count: number, buffer: Buffer) => {
    const dir = copyOfFixture('segments')
    const word = Buffer.alloc(4)
    word.writeUInt32LE(count)
    writeFileSync(join(dir, 'pre_commit'), Buffer.concat([word, buffer]))
    const before = readFileSync(join(dir, 'pre_commit'))
    const { preCommit } = await repairJournal(dir)
    return { dir, before, preCommit, after: readFileSync(join(dir, 'pre_commit')) }
  }
  const record = readFileSync(join(copyOfFixture('plain'), '00000000')).subarray(0, 22)

  it('with a count beyond the buffer keeps the whole records, and the old bytes beside', async () => {
    const { dir, before, after, preCommit } = await withCount(
      5000,
      Buffer.concat([record, Buffer.alloc(50, 1)]),
    )
    expect(after.readUInt32LE(0)).toBe(22)
    expect(preCommit).toMatchObject({ changed: true, pendingBytes: 22 })
    expect(readFileSync(join(dir, preCommit.cutFile!))).toEqual(before)
  })

  it('with a count inside a record keeps the records before it', async () => {
    const { after } = await withCount(30, Buffer.concat([record, record, Buffer.alloc(9)]))
    expect(after.readUInt32LE(0)).toBe(22)
  })

  it('too short for a count says that nothing is pending', async () => {
    const dir = copyOfFixture('segments')
    writeFileSync(join(dir, 'pre_commit'), Buffer.from([9, 9]))
    const { preCommit } = await repairJournal(dir)
    expect(readFileSync(join(dir, 'pre_commit'))).toEqual(Buffer.alloc(4))
    expect(readFileSync(join(dir, preCommit.cutFile!))).toEqual(Buffer.from([9, 9]))
  })
})

describe('a journal', () => {
  it('is a directory with something of a journal in it', async () => {
    const dir = temporaryDirectory()
    writeFileSync(join(dir, 'a'), '')
    await expect(repairJournal(dir)).rejects.toMatchObject({ code: 'JLOG_ERR_META_OPEN' })
    await expect(repairJournal(join(dir, 'a'))).rejects.toMatchObject({ code: 'JLOG_ERR_NOTDIR' })
    await expect(repairJournal(join(dir, 'b'))).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
  })

  it('keeps strange files, and its report names them', async () => {
    const dir = copyOfFixture('bad-seg-two-missing')
    writeFileSync(join(dir, 'notes.txt'), 'mine')
    writeFileSync(join(dir, '00000005.idx'), Buffer.alloc(8))
    const report = await repairJournal(dir)
    expect(report.strays).toEqual(['notes.txt'])
    expect(report.missing).toEqual([[5, 6]])
    expect(report.orphanIndexes).toEqual(['00000005.idx'])
    expect(readdirSync(dir)).toContain('00000005.idx.torn-0')
    expect(JSON.parse(JSON.stringify(report))).toEqual(report)
  })

  it('is not repaired while another process holds one of its segments', async () => {
    const { JournalFile } = await import('../../jlog/file.js')
    const dir = copyOfFixture('bad-torn-tail')
    const before = snapshot(dir)
    const holder = await JournalFile.open(join(dir, '00000008'), { write: true })
    try {
      await holder.lock()
      const refused = repairJournal(dir, { lockTimeout: 20 })
      await expect(refused).rejects.toBeInstanceOf(JlogError)
      await expect(refused).rejects.toMatchObject({ code: 'JLOG_ERR_LOCK' })
      expect(snapshot(dir)).toEqual(before)
    } finally {
      await holder.close()
    }
  })
})
