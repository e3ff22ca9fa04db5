// A backup made under load and restored has every message acknowledged before it began; nothing is restored
// over what is there, and what is not sound only by force.
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkSpool, openSpool, restoreSpool } from '../../spool/index.js'
import { Store } from '../../spool/store.js'
import {
  bodyOf,
  bytes,
  message,
  startWriters,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

test('a backup made under load is restored whole', async () => {
  const directory = await temporaryDirectory()
  const spool = await temporarySpool({ path: join(directory, 'spool') })
  const { acknowledged, stop } = startWriters(spool)
  while (acknowledged.size < 200) await spool.swapOut(message('one more'))
  const before = new Map(acknowledged)
  const { directory: backup } = await spool.upkeep.backup(join(directory, 'backup'))
  await stop()

  const path = join(directory, 'new', 'data', 'spool')
  const phases: string[] = []
  const report = await restoreSpool(backup, path, { onProgress: ({ phase }) => phases.push(phase) })
  expect(report).toMatchObject({ directory: path, check: { found: 0 } })
  expect(report.bytes).toBe((await stat(join(path, 'data.mdb'))).size)
  expect((await stat(join(path, 'data.mdb'))).mode & 0o777).toBe(0o640)
  expect(phases).toContain('copying')
  expect(await readdir(join(directory, 'new', 'data'))).toEqual(['spool'])
  const restored = await temporarySpool({ path })
  for (const [id, body] of before) expect((await bodyOf(restored, id)).equals(body)).toBe(true)
  await restored.swapOut(message('it can be written to'))
  expect(await checkSpool(backup)).toMatchObject({ found: 0, messages: report.check.messages })
})

test('with its quarantine', async () => {
  const directory = await temporaryDirectory()
  const spool = await temporarySpool({ path: join(directory, 'spool') })
  const { ids } = await spool.swapOut(message('kept'))
  await spool.upkeep.take(ids[0] as string, 'because')
  const { directory: backup } = await spool.upkeep.backup(join(directory, 'backup'))
  const path = join(directory, 'restored')
  await restoreSpool(backup, path)
  const restored = await temporarySpool({ path })
  const { entries } = await restored.upkeep.quarantine.list()
  expect(entries).toMatchObject([{ reason: 'because', meta: { id: ids[0] } }])
})

test('never over what is there, nor from a spool that is owned, nor from nothing', async () => {
  const directory = await temporaryDirectory()
  const path = join(directory, 'spool')
  const spool = await temporarySpool({ path })
  const { ids } = await spool.swapOut(message('mine'))
  const { directory: backup } = await spool.upkeep.backup(join(directory, 'backup'))
  await expect(restoreSpool(backup, path)).rejects.toMatchObject({ code: 'SPOOL_ERR_EXISTS' })
  expect((await bodyOf(spool, ids[0] as string)).toString()).toBe('mine')
  const to = join(directory, 'to')
  await expect(restoreSpool(path, to)).rejects.toMatchObject({
    code: 'SPOOL_ERR_OWNED',
    pid: process.pid,
  })
  await expect(restoreSpool(join(directory, 'none'), to)).rejects.toMatchObject({
    code: 'SPOOL_ERR_OPEN',
  })
  await writeFile(to, 'a file')
  await expect(restoreSpool(backup, to)).rejects.toMatchObject({ code: 'SPOOL_ERR_EXISTS' })
  await mkdir(join(directory, 'empty'))
  await restoreSpool(backup, join(directory, 'empty'))
  expect((await readdir(directory)).toSorted()).toEqual(['backup', 'empty', 'spool', 'to'])
})

test('one that is not sound only by force, and then as it is', async () => {
  const directory = await temporaryDirectory()
  const spool = await temporarySpool({ path: join(directory, 'spool') })
  await spool.swapOut(message(bytes(50_000)))
  const { directory: backup } = await spool.upkeep.backup(join(directory, 'backup'))
  const store = await Store.open({
    path: backup,
    readOnly: false,
    mode: 0o640,
    mapSize: undefined,
  })
  const [key] = store.db('chunks').getKeys({ limit: 1 })
  await store.write(() => void store.db('chunks').put(Buffer.from(key!), bytes(16_000, 7)))
  await store.close()
  const path = join(directory, 'restored')
  const refused = restoreSpool(backup, path)
  await expect(refused).rejects.toMatchObject({
    code: 'SPOOL_ERR_CORRUPT',
    message: expect.stringContaining('body-hash-wrong'),
  })
  expect((await readdir(directory)).toSorted()).toEqual(['backup', 'spool'])
  const { check } = await restoreSpool(backup, path, { force: true })
  expect(check.counts).toEqual({ 'body-hash-wrong': 1 })

  const damaged = await readFile(join(backup, 'data.mdb'))
  damaged.fill(0xff, 3 * 4096)
  await writeFile(join(backup, 'data.mdb'), damaged)
  const other = join(directory, 'other')
  await expect(restoreSpool(backup, other)).rejects.toMatchObject({ code: 'SPOOL_ERR_CORRUPT' })
  const stopped = AbortSignal.abort()
  await expect(restoreSpool(backup, other, { signal: stopped })).rejects.toMatchObject({
    code: 'SPOOL_ERR_ABORTED',
  })
  const opened = openSpool({ path: other, readOnly: true })
  await expect(opened).rejects.toMatchObject({ code: 'SPOOL_ERR_OPEN' })
})
