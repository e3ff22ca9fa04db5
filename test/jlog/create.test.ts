import { lstat, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type CreateOptions, createJournal } from '../../jlog/create.js'
import { fixture, makeTemporary } from './journals.js'

let scratch: string
let dir: string

beforeEach(async () => {
  scratch = await makeTemporary()
  dir = join(scratch, 'journal')
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

test('makes what libjlog makes, with the modes of its files', async () => {
  const umask = process.umask(0o022)
  try {
    await createJournal(dir, { subscribers: ['e'] })
  } finally {
    process.umask(umask)
  }
  expect((await readdir(dir)).sort()).toEqual((await readdir(fixture('empty'))).sort())
  for (const name of await readdir(dir)) {
    expect(await readFile(join(dir, name))).toEqual(await readFile(join(fixture('empty'), name)))
    expect((await lstat(join(dir, name))).mode & 0o777).toBe(0o640)
  }
  expect((await lstat(dir)).mode & 0o777).toBe(0o750)
  expect(await readdir(scratch)).toEqual(['journal'])
})

test.each([
  ['off', 0x663a7318],
  ['none', 0x15106a00],
  ['lz4', 0x15106a01],
] as const)('compression %s is magic %i', async (compression, magic) => {
  await createJournal(dir, { compression, unitLimit: 12345, safety: 2, preCommit: 100 })
  const metastore = await readFile(join(dir, 'metastore'))
  expect([0, 4, 8, 12].map((at) => metastore.readUInt32LE(at))).toEqual([0, 12345, 2, magic])
  expect(await readFile(join(dir, 'pre_commit'))).toEqual(Buffer.alloc(104))
})

test('the directory gets an execute bit for each read bit', async () => {
  await createJournal(dir, { fileMode: 0o604 })
  expect((await lstat(dir)).mode & 0o777).toBe(0o705)
})

test('refuses a name that is taken, by whatever, and leaves that alone', async () => {
  await mkdir(dir)
  const exists = { code: 'JLOG_ERR_CREATE_EXISTS' }
  await expect(createJournal(dir)).rejects.toMatchObject(exists)
  await writeFile(join(scratch, 'file'), 'mine')
  await expect(createJournal(join(scratch, 'file'))).rejects.toMatchObject(exists)
  expect(await readFile(join(scratch, 'file'), 'utf8')).toBe('mine')
  expect((await readdir(scratch)).sort()).toEqual(['file', 'journal'])
})

test('one of several that make the same journal at once succeeds', async () => {
  const outcomes = await Promise.allSettled([1, 2, 3, 4].map(() => createJournal(dir)))
  expect(outcomes.filter((o) => o.status === 'fulfilled').length).toBe(1)
  expect(await readdir(scratch)).toEqual(['journal'])
})

test.each<[string, CreateOptions]>([
  ['JLOG_ERR_NOT_SUPPORTED', { unitLimit: 0 }],
  ['JLOG_ERR_NOT_SUPPORTED', { unitLimit: 2 ** 32 }],
  ['JLOG_ERR_NOT_SUPPORTED', { unitLimit: 1.5 }],
  ['JLOG_ERR_NOT_SUPPORTED', { safety: 3 as 2 }],
  ['JLOG_ERR_NOT_SUPPORTED', { compression: 'zip' as 'lz4' }],
  ['JLOG_ERR_NOT_SUPPORTED', { compression: 'toString' as 'lz4' }],
  ['JLOG_ERR_CREATE_PRE_COMMIT', { preCommit: -1 }],
  ['JLOG_ERR_CREATE_PRE_COMMIT', { preCommit: 2 ** 33 }],
  ['JLOG_ERR_INVALID_SUBSCRIBER', { subscribers: [''] }],
  ['JLOG_ERR_INVALID_SUBSCRIBER', { subscribers: ['x'.repeat(127)] }],
  ['JLOG_ERR_SUBSCRIBER_EXISTS', { subscribers: ['a', Buffer.from('a')] }],
])('%s for %j, with nothing made', async (code, options) => {
  await expect(createJournal(dir, options)).rejects.toMatchObject({ code })
  expect(await readdir(scratch)).toEqual([])
})

test('says so when the path is too long, or its parent is missing', async () => {
  const long = join(scratch, ...Array.from({ length: 17 }, () => 'd'.repeat(250)))
  await expect(createJournal(long)).rejects.toMatchObject({ code: 'JLOG_ERR_CREATE_PATHLEN' })
  const name = join(scratch, 'n'.repeat(300))
  await expect(createJournal(name)).rejects.toMatchObject({ code: 'JLOG_ERR_CREATE_PATHLEN' })
  await expect(createJournal(join(scratch, 'no', 'journal'))).rejects.toMatchObject({
    code: 'JLOG_ERR_CREATE_MKDIR',
  })
})
