import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  addSubscriber,
  advanceId,
  alterJournal,
  checkpointAt,
  cleanJournal,
  describeJournal,
  firstId,
  getCheckpoint,
  inspectJournal,
  lastId,
  lastStorageLog,
  listSubscribers,
  openReader,
  openWriter,
  pendingReaders,
  rawSize,
  removeSubscriber,
  SAFETY,
  setCheckpoint,
} from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const journal = temporaryJournals()

async function filled(count: number, unitLimit = 200): Promise<string> {
  const dir = await journal({ unitLimit })
  const writer = await openWriter(dir)
  for (let i = 0; i < count; i++) await writer.append(`record ${i}`)
  await writer.close()
  return dir
}

describe('subscribers', () => {
  it('are added at the beginning, at the end, at an id, and as a copy', async () => {
    const dir = await filled(20)
    const end = await lastId(dir)
    expect(end.marker).toBeGreaterThan(0)
    expect(await addSubscriber(dir, 'begin')).toEqual({ log: 0, marker: 0 })
    expect(await addSubscriber(dir, 'end', 'end')).toEqual(end)
    expect(await addSubscriber(dir, 'at', { log: 1, marker: 2 })).toEqual({ log: 1, marker: 2 })
    expect(await addSubscriber(dir, 'copy', { copy: 'at' })).toEqual({ log: 1, marker: 2 })
    const listed = await listSubscribers(dir)
    expect(listed.map(({ name, checkpoint }) => [name, checkpoint])).toEqual([
      ['at', { log: 1, marker: 2 }],
      ['begin', { log: 0, marker: 0 }],
      ['copy', { log: 1, marker: 2 }],
      ['end', end],
    ])
    await setCheckpoint(dir, 'begin', { log: 1, marker: 0 })
    await removeSubscriber(dir, 'copy')
    expect(
      (await readdir(dir)).filter((name) => name.startsWith('cp.') || name.startsWith('new')),
    ).toEqual(['cp.6174', 'cp.626567696e', 'cp.656e64'])
    const reader = await openReader(dir, 'end')
    expect(await reader.readInterval()).toBeNull()
    await reader.close()
  })

  it('begin at 0:0 where there is no segment', async () => {
    const dir = await journal()
    expect(await addSubscriber(dir, 'a')).toEqual({ log: 0, marker: 0 })
    expect(await addSubscriber(dir, 'b', 'end')).toEqual({ log: 0, marker: 0 })
  })

  it('have names of any bytes', async () => {
    const dir = await journal()
    const names = [
      Buffer.from([0]),
      Buffer.from('a/b\n'),
      Buffer.from([0xff, 0xfe]),
      Buffer.alloc(126, 0x2e),
    ]
    for (const name of names) await addSubscriber(dir, name)
    await addSubscriber(dir, 'ü')
    const listed = (await listSubscribers(dir)).map(({ nameBytes }) => nameBytes.toString('hex'))
    expect(listed).toEqual([...names, Buffer.from('ü')].map((name) => name.toString('hex')).sort())
    for (const name of ['', Buffer.alloc(127)]) {
      await expect(addSubscriber(dir, name)).rejects.toMatchObject({
        code: 'JLOG_ERR_INVALID_SUBSCRIBER',
      })
    }
  })

  it('refuse what is not possible, and change nothing then', async () => {
    const dir = await journal({ subscribers: ['a'] })
    await setCheckpoint(dir, 'a', { log: 0, marker: 7 })
    await expect(addSubscriber(dir, 'a')).rejects.toMatchObject({
      code: 'JLOG_ERR_SUBSCRIBER_EXISTS',
    })
    expect(await getCheckpoint(dir, 'a')).toEqual({ log: 0, marker: 7 })
    for (const refused of [
      () => removeSubscriber(dir, 'b'),
      () => getCheckpoint(dir, 'b'),
      () => setCheckpoint(dir, 'b', { log: 0, marker: 0 }),
      () => addSubscriber(dir, 'b', { copy: 'c' }),
    ]) {
      await expect(refused()).rejects.toMatchObject({ code: 'JLOG_ERR_INVALID_SUBSCRIBER' })
    }
    for (const part of [-1, 1.5, 2 ** 32, Number.NaN]) {
      const illegal = { code: 'JLOG_ERR_ILLEGAL_LOGID' }
      for (const id of [
        { log: part, marker: 0 },
        { log: 0, marker: part },
      ]) {
        await expect(setCheckpoint(dir, 'a', id)).rejects.toMatchObject(illegal)
        await expect(addSubscriber(dir, 'b', id)).rejects.toMatchObject(illegal)
      }
    }
    expect(await getCheckpoint(dir, 'a')).toEqual({ log: 0, marker: 7 })
    expect((await listSubscribers(dir)).length).toBe(1)
    await expect(addSubscriber(join(dir, 'nowhere'), 'a')).rejects.toMatchObject({
      code: 'JLOG_ERR_OPEN',
    })
    // One of many that try at once gets the name.
    const tries = await Promise.allSettled(Array.from({ length: 8 }, () => addSubscriber(dir, 'd')))
    expect(tries.filter(({ status }) => status === 'fulfilled').length).toBe(1)
    expect((await readdir(dir)).filter((name) => name.startsWith('new'))).toEqual([])
  })

  it('without a name, as libjlog makes them, are there as any other, but none is made', async () => {
    const dir = await filled(60)
    await writeFile(join(dir, 'cp.'), Buffer.from('0100000002000000', 'hex'))
    await addSubscriber(dir, 'end', 'end')
    expect((await listSubscribers(dir)).map(({ name }) => name)).toEqual(['', 'end'])
    expect(await getCheckpoint(dir, '')).toEqual({ log: 1, marker: 2 })
    expect(await cleanJournal(dir)).toEqual([0])
    expect(await firstId(dir)).toEqual({ log: 1, marker: 0 })
    await removeSubscriber(dir, '')
    expect((await cleanJournal(dir))[0]).toBe(1)
    await expect(addSubscriber(dir, '')).rejects.toMatchObject({
      code: 'JLOG_ERR_INVALID_SUBSCRIBER',
    })
    expect(existsSync(join(dir, 'cp.'))).toBe(false)
  })

  it('and segments that cannot be removed are told by a code of the journal', async () => {
    const dir = await filled(60)
    await mkdir(join(dir, 'cp.61'))
    await expect(removeSubscriber(dir, 'a')).rejects.toMatchObject({ code: 'JLOG_ERR_CHECKPOINT' })
    await rmdir(join(dir, 'cp.61'))
    await rm(join(dir, '00000000'))
    await mkdir(join(dir, '00000000'))
    await expect(cleanJournal(dir, { unsubscribed: 'remove' })).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_WRITE',
    })
  })

  it('have a checkpoint that nobody sees half written', async () => {
    const dir = await journal({ subscribers: ['a'], safety: 2 })
    const ids = Array.from({ length: 200 }, (_, i) => ({
      log: i * 0x01010101,
      marker: i * 0x01010101,
    }))
    const write = async () => {
      for (const id of ids) await setCheckpoint(dir, 'a', id, { clean: false })
    }
    let done = false
    const look = async () => {
      while (!done) {
        const { log, marker } = await getCheckpoint(dir, 'a')
        expect(log).toBe(marker)
      }
    }
    await Promise.all([
      write().finally(() => {
        done = true
      }),
      look(),
    ])
  })
})

describe('cleaning', () => {
  it('removes what no subscriber needs, with its index, and keeps what was quarantined', async () => {
    const dir = await filled(40)
    await addSubscriber(dir, 'a', { log: 2, marker: 1 })
    await addSubscriber(dir, 'b', { log: 3, marker: 0 })
    await writeFile(join(dir, '00000000.idx'), '')
    await writeFile(join(dir, '00000000.torn-0'), 'kept')
    expect(await pendingReaders(dir, 1)).toEqual({ readers: 0, earliest: 2 })
    expect(await pendingReaders(dir, 2)).toEqual({ readers: 1, earliest: 2 })
    expect(await cleanJournal(dir)).toEqual([0, 1])
    expect(existsSync(join(dir, '00000000.idx'))).toBe(false)
    expect(existsSync(join(dir, '00000000.torn-0'))).toBe(true)
    expect(await firstId(dir)).toEqual({ log: 2, marker: 0 })
    expect(await cleanJournal(dir)).toEqual([])
  })

  it('removes nothing without subscribers, and never the segment being written', async () => {
    const dir = await filled(40)
    expect(await cleanJournal(dir)).toEqual([])
    // Nobody reads under such a name: it only keeps a place.
    await addSubscriber(dir, '~keeper', 'end')
    expect(await cleanJournal(dir)).toEqual([])
    await addSubscriber(dir, 'a', { log: 1000, marker: 0 })
    await removeSubscriber(dir, '~keeper')
    const last = await lastStorageLog(dir)
    expect((await cleanJournal(dir)).length).toBe(last)
    expect(existsSync(join(dir, last.toString(16).padStart(8, '0')))).toBe(true)
  })
})

describe('describeJournal', () => {
  it('tells what there is, without changing it', async () => {
    const dir = await filled(40)
    await addSubscriber(dir, 'a', { log: 0, marker: 3 })
    await addSubscriber(dir, 'z', 'end')
    const before = await readdir(dir)
    const info = await describeJournal(dir)
    expect(info).toMatchObject({
      unitLimit: 200,
      safety: 1,
      compression: 'off',
      metastoreSound: true,
      first: { log: 0, marker: 1 },
      records: 40,
      preCommit: { size: 0, pending: 0 },
    })
    const sizes = await Promise.all(
      info.segments.map(
        async ({ log }) => (await stat(join(dir, log.toString(16).padStart(8, '0')))).size,
      ),
    )
    expect(info.segments.map(({ bytes }) => bytes)).toEqual(sizes)
    expect(info.bytes).toBe(sizes.reduce((a, b) => a + b))
    expect(info.rawBytes).toBe(await rawSize(dir))
    expect(info.rawBytes).toBe(info.bytes + 16 + 4 + 8 + 8)
    expect(info.subscribers.map(({ name, lag }) => [name, lag.records])).toEqual([
      ['a', 37],
      ['z', 0],
    ])
    expect(info.last).toEqual({
      log: info.segments.filter(({ records }) => records > 0).at(-1)!.log,
      marker: info.segments.filter(({ records }) => records > 0).at(-1)!.records,
    })
    expect(await readdir(dir)).toEqual(before)
  })

  it('tells of an empty journal, and of one with a pre-commit buffer', async () => {
    const dir = await journal({ compression: 'lz4', preCommit: 4096, safety: SAFETY.safe })
    expect(await describeJournal(dir)).toMatchObject({
      compression: 'lz4',
      safety: 2,
      first: null,
      last: null,
      records: 0,
      segments: [],
      preCommit: { size: 4096, pending: 0 },
    })
  })
})

describe('ids', () => {
  it('advance within an interval, to the next segment that exists, and past the end', async () => {
    const dir = await filled(40)
    const { segments } = await describeJournal(dir)
    const end = { log: 0, marker: segments[0]!.records }
    expect(await advanceId(dir, { log: 0, marker: 1 }, end)).toEqual({ log: 0, marker: 2 })
    expect(await advanceId(dir, end, end)).toEqual({ log: 1, marker: 1 })
    const last = await lastId(dir)
    expect(await advanceId(dir, last, last)).toEqual({ log: last.log, marker: last.marker + 1 })
  })
})

async function recordsIn(dir: string): Promise<number[]> {
  return (await describeJournal(dir)).segments.map(({ records }) => records)
}

describe('checkpointAt', () => {
  it('tells a place by ids that are there', async () => {
    const dir = await filled(40)
    const [first = 0, second = 0] = await recordsIn(dir)
    const last = await lastId(dir)
    const at = (log: number, marker: number) => checkpointAt(dir, { log, marker })
    expect(await at(0, 2)).toEqual({ log: 0, marker: 2 })
    expect(await at(1, 0)).toEqual({ log: 1, marker: 0 })
    expect(await at(1, second)).toEqual({ log: 1, marker: second })
    expect(await at(0, first + 1)).toEqual({ log: 0, marker: first })
    expect(await at(last.log, last.marker + 1)).toEqual(last)
    expect(await at(last.log + 1, 0)).toEqual(last)
    await addSubscriber(dir, 'reader', { log: 1, marker: 3 })
    expect(await cleanJournal(dir)).toEqual([0])
    expect(await at(0, 2)).toEqual({ log: 1, marker: 0 })
    await rm(join(dir, '00000002'))
    expect(await at(2, 4)).toEqual({ log: 3, marker: 0 })
    await setCheckpoint(dir, 'reader', await at(2, 4))
    expect(await inspectJournal(dir)).toMatchObject({ sound: true })
  })

  it('leaves one in a damaged segment, whose records a repair will count', async () => {
    const dir = await filled(40)
    const [records = 0] = await recordsIn(dir)
    const file = join(dir, '00000000')
    const bytes = await readFile(file)
    bytes.fill(0xee, 30, 34)
    await writeFile(file, bytes)
    expect(await checkpointAt(dir, { log: 0, marker: records - 1 })).toEqual({
      log: 0,
      marker: records - 1,
    })
  })
})

describe('alterJournal', () => {
  it('changes segment size, safety, mode and pre-commit size of a journal in use', async () => {
    const dir = await filled(10, 100_000)
    await alterJournal(dir, { unitLimit: 64, safety: SAFETY.safe })
    const writer = await openWriter(dir)
    await writer.append('x')
    await writer.append('y')
    await writer.close()
    expect((await lastId(dir)).log).toBeGreaterThan(0)
    await alterJournal(dir, { fileMode: 0o600 })
    expect((await stat(dir)).mode & 0o777).toBe(0o700)
    expect((await stat(join(dir, '00000000'))).mode & 0o777).toBe(0o600)
    await alterJournal(dir, { preCommit: 512 })
    expect((await readFile(join(dir, 'pre_commit'))).length).toBe(516)
    await expect(alterJournal(dir, { unitLimit: 0 })).rejects.toMatchObject({
      code: 'JLOG_ERR_NOT_SUPPORTED',
    })
    await expect(alterJournal(dir, { fileMode: 0o1000 })).rejects.toMatchObject({
      code: 'JLOG_ERR_NOT_SUPPORTED',
    })
    expect(await describeJournal(dir)).toMatchObject({ unitLimit: 64, safety: 2, records: 12 })
  })
})
