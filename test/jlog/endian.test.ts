import { cp, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  addSubscriber,
  changeEndian,
  checkSanity,
  openReader,
  openWriter,
  readRecords,
} from '../../jlog/index.js'
import { collect, temporaryJournals } from './reading.js'

const FIXTURES = fileURLToPath(new URL('../fixtures/jlog', import.meta.url))
const SOUND = [
  'plain',
  'segments',
  'segments-consumed',
  'lz4',
  'precommit-pending',
  'safe',
  'empty',
  'fresh-writer',
  'bad-meta-legacy',
]

const journal = temporaryJournals()
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'jlog-endian-'))
})
afterAll(() => rm(root, { recursive: true }))

async function files(dir: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of (await readdir(dir)).sort())
    found[name] = (await readFile(join(dir, name))).toString('hex')
  return found
}

async function copyOf(name: string): Promise<string> {
  const dir = await mkdtemp(join(root, `${name}-`))
  await cp(join(FIXTURES, name), dir, { recursive: true })
  return dir
}

describe('changeEndian', () => {
  it.each(SOUND)('turns %s round, and back to what it was, byte for byte', async (name) => {
    const dir = await copyOf(name)
    const before = await files(dir)
    const big = `${dir}.big`
    const report = await changeEndian(dir, { to: 'big', destination: big })
    expect(await files(dir)).toEqual(before)
    expect(report).toMatchObject({ directory: big, original: dir, leftOut: [] })
    const metastore = await readFile(join(big, 'metastore'))
    const theirs = Buffer.from(before.metastore!, 'hex')
    for (let at = 0; at < metastore.length; at += 4)
      expect(metastore.readUInt32BE(at)).toBe(theirs.readUInt32LE(at))
    expect((await checkSanity(big, 'big')).segments).toEqual((await checkSanity(dir)).segments)
    await changeEndian(big, { to: 'little', destination: `${dir}.back` })
    expect(await files(`${dir}.back`)).toEqual(before)
    expect((await stat(`${dir}.back`)).mode).toBe((await stat(dir)).mode)
  })

  it('does it in place, and keeps the journal as it was beside it', async () => {
    const dir = await copyOf('segments')
    const before = await files(dir)
    const there = await changeEndian(dir, { to: 'big' })
    expect(there.original).toBe(`${dir}.little-endian`)
    expect(await files(there.original)).toEqual(before)
    const back = await changeEndian(dir, { to: 'little' })
    expect(back.records).toBe(120)
    expect(await files(dir)).toEqual(before)
    const reader = await openReader(dir, 'a')
    expect(await reader.readInterval()).not.toBeNull()
    await reader.close()
  })

  it.each(['segments', 'lz4', 'empty'])(
    'is what who opens %s of the other byte order is told to do',
    async (name) => {
      const dir = await copyOf(name)
      await changeEndian(dir, { to: 'big' })
      const before = await files(dir)
      const refusal = { code: 'JLOG_ERR_NOT_SUPPORTED', message: expect.stringMatching(/endian/) }
      await expect(openWriter(dir)).rejects.toMatchObject(refusal)
      await expect(openReader(dir, 'a')).rejects.toMatchObject(refusal)
      await expect(collect(readRecords(dir))).rejects.toMatchObject(refusal)
      await expect(addSubscriber(dir, 'new')).rejects.toMatchObject(refusal)
      expect(await files(dir)).toEqual(before)
    },
  )

  it('reads records larger than a chunk', async () => {
    const dir = await journal({ unitLimit: 10_000_000 })
    const writer = await openWriter(dir)
    const sizes = [5, 3_000_000, 1024 * 1024 - 40, 0, 1024 * 1024 - 16, 7]
    for (const size of sizes) await writer.append(Buffer.alloc(size, 'q'))
    await writer.close()
    await changeEndian(dir, { to: 'big', destination: `${dir}.big` })
    await changeEndian(`${dir}.big`, { to: 'little', destination: `${dir}.back` })
    const [there, back] = [
      await collect(readRecords(dir)),
      await collect(readRecords(`${dir}.back`)),
    ]
    expect(back.map(({ payload }) => payload.length)).toEqual(sizes)
    for (const [i, { payload }] of there.entries())
      expect(back[i]!.payload.equals(payload)).toBe(true)
  })

  it('refuses what it cannot do, and leaves nothing of it', async () => {
    const dir = await copyOf('segments')
    const around = (await readdir(root)).length
    await expect(changeEndian(dir, { to: 'little' })).rejects.toMatchObject({
      code: 'JLOG_ERR_META_OPEN',
    })
    await expect(changeEndian(dir, { to: 'big', destination: root })).rejects.toMatchObject({
      code: 'JLOG_ERR_CREATE_EXISTS',
    })
    await expect(
      changeEndian(dir, { to: 'big', destination: join(root, 'nowhere', 'j') }),
    ).rejects.toMatchObject({ code: 'JLOG_ERR_CREATE_MKDIR' })
    await truncate(join(dir, '00000003'), 1000)
    await expect(changeEndian(dir, { to: 'big' })).rejects.toMatchObject({
      code: 'JLOG_ERR_FILE_CORRUPT',
      segment: 3,
    })
    expect((await readdir(root)).length).toBe(around)
  })

  it('leaves out an index that does not fit, and says so', async () => {
    const dir = await copyOf('bad-idx-garbage')
    await writeFile(join(dir, 'notes.txt'), 'x')
    const report = await changeEndian(dir, { to: 'big' })
    expect(report.leftOut.length).toBe(2)
    expect(report.leftOut).toContain('notes.txt')
    expect((await readdir(dir)).some((name) => report.leftOut.includes(name))).toBe(false)
  })
})

describe('checkSanity', () => {
  it.each(['plain', 'safe', 'precommit-flushed', 'fresh-writer', 'segments-consumed'])(
    'finds nothing wrong with %s',
    async (name) => {
      const report = await checkSanity(join(FIXTURES, name))
      expect(report.problems).toEqual([])
    },
  )

  it.each([
    ['bad-torn-closed', { kind: 'segment-damaged', file: '00000003' }],
    ['bad-bad-magic', { kind: 'segment-damaged' }],
    ['bad-mlen-huge', { kind: 'segment-damaged' }],
    ['bad-idx-trunc', { kind: 'index-incomplete' }],
    ['bad-idx-odd', { kind: 'index-wrong' }],
    ['bad-idx-garbage', { kind: 'index-wrong', offset: 0 }],
    ['bad-cp-beyond', { kind: 'checkpoint-marker' }],
    ['bad-cp-future', { kind: 'checkpoint-segment' }],
    ['bad-cp-short', { kind: 'checkpoint-size', file: 'cp.62' }],
    ['bad-meta-behind', { kind: 'segment-newer', file: '00000007' }],
    ['bad-seg-missing', { kind: 'segment-missing', file: '00000005' }],
    [
      'bad-seg-two-missing',
      { kind: 'segment-missing', file: '00000005', what: 'all up to 00000006 are not there' },
    ],
    ['bad-cp-old', { kind: 'checkpoint-segment' }],
  ])('finds what is wrong with %s', async (name, problem) => {
    const { problems } = await checkSanity(join(FIXTURES, name))
    expect(problems).toContainEqual(expect.objectContaining(problem))
  })

  it.each(['bad-meta-gone', 'bad-meta-short', 'bad-meta-garbage'])('refuses %s', async (name) => {
    await expect(checkSanity(join(FIXTURES, name))).rejects.toMatchObject({
      code: 'JLOG_ERR_META_OPEN',
    })
  })

  it('finds time that goes backwards, orphans, strange files, and segments that nobody needs', async () => {
    const dir = await journal({ unitLimit: 40 })
    const writer = await openWriter(dir)
    await writer.appendBatch([
      { payload: 'late', sec: 9, usec: 1 },
      { payload: 'early', sec: 9, usec: 0 },
    ])
    await writer.append('more')
    await writer.close()
    expect((await checkSanity(dir)).problems.map(({ kind }) => kind)).toEqual([
      'no-checkpoint',
      'time-backwards',
    ])
    await addSubscriber(dir, 'a', { log: 1, marker: 0 })
    await writeFile(join(dir, '00000009.idx'), '')
    await writeFile(join(dir, 'stray'), '')
    const { problems } = await checkSanity(dir)
    expect(problems.map(({ kind, file }) => [kind, file])).toEqual([
      ['index-orphan', '00000009.idx'],
      ['unexpected-file', 'stray'],
      ['segment-unneeded', '00000000'],
      ['time-backwards', '00000000'],
    ])
  })
})
