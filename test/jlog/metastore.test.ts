import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createJournal } from '../../jlog/create.js'
import {
  advanceStorageLog,
  alterMetastore,
  MetastoreFile,
  readMetastore,
} from '../../jlog/metastore.js'
import { fixture, makeTemporary } from './journals.js'

let scratch: string
let dir: string

beforeEach(async () => {
  scratch = await makeTemporary()
  dir = join(scratch, 'journal')
  await createJournal(dir)
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

test('reads what libjlog wrote', async () => {
  expect(await readMetastore(fixture('safe'))).toEqual({
    storageLog: 2,
    unitLimit: 4096,
    safety: 2,
    hdrMagic: 0x663a7318,
  })
  expect(await readMetastore(fixture('bad-meta-legacy'))).toMatchObject({
    hdrMagic: 0,
    storageLog: 8,
  })
})

test.each(['bad-meta-gone', 'bad-meta-short', 'bad-meta-garbage'])(
  '%s is refused',
  async (name) => {
    await expect(readMetastore(fixture(name))).rejects.toMatchObject({ code: 'JLOG_ERR_META_OPEN' })
  },
)

test('advances only from what it is, and prepares only then', async () => {
  let prepared = 0
  const prepare = async () => {
    prepared++
  }
  expect(await advanceStorageLog(dir, 0, 1, prepare)).toBe(1)
  expect(await advanceStorageLog(dir, 0, 1, prepare)).toBe(1)
  expect(await advanceStorageLog(dir, 0, 7, prepare)).toBe(1)
  expect(prepared).toBe(1)
  expect(await advanceStorageLog(dir, 1, 2)).toBe(2)
})

test('of several that advance at once, one does', async () => {
  let prepared = 0
  const results = await Promise.all(
    Array.from({ length: 8 }, () =>
      advanceStorageLog(dir, 0, 1, async () => {
        prepared++
      }),
    ),
  )
  expect(results).toEqual(Array(8).fill(1))
  expect(prepared).toBe(1)
})

test('does not advance when the preparation fails', async () => {
  const failing = advanceStorageLog(dir, 0, 1, () => Promise.reject(new Error('no room')))
  await expect(failing).rejects.toThrow('no room')
  expect((await readMetastore(dir)).storageLog).toBe(0)
})

test('settings change alone, and those who have it open see them', async () => {
  const open = await MetastoreFile.open(dir)
  await alterMetastore(dir, { unitLimit: 99 })
  expect(open.read()).toMatchObject({ unitLimit: 99, safety: 1 })
  await open.alter({ safety: 2 })
  expect(await readMetastore(dir)).toMatchObject({ unitLimit: 99, safety: 2, storageLog: 0 })
  await expect(open.alter({ unitLimit: 0 })).rejects.toMatchObject({
    code: 'JLOG_ERR_NOT_SUPPORTED',
  })
  await expect(open.alter({ safety: 9 as 2 })).rejects.toMatchObject({
    code: 'JLOG_ERR_NOT_SUPPORTED',
  })
  await open.close()
})

test('a legacy one stays legacy when it changes', async () => {
  await writeFile(
    join(dir, 'metastore'),
    await readFile(join(fixture('bad-meta-legacy'), 'metastore')),
  )
  await alterMetastore(dir, { unitLimit: 5000, safety: 0 })
  await advanceStorageLog(dir, 8, 9)
  expect((await stat(join(dir, 'metastore'))).size).toBe(12)
  expect(await readMetastore(dir)).toEqual({
    storageLog: 9,
    unitLimit: 5000,
    safety: 0,
    hdrMagic: 0,
  })
})
