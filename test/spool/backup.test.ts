// A backup made under load is a sound spool with all that was acknowledged before it; compaction gives the
// room of what was removed back; the watch sheds and takes again at its marks.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { watch } from 'node:fs'
import { mkdir, readdir, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { checkSpool, compactSpool, openSpool, SpaceWatch, type Spool } from '../../spool/index.js'
import { Store } from '../../spool/store.js'
import {
  bodyOf,
  bytes,
  message,
  startWriters,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

const run = promisify(execFile)

test('a backup under load opens, checks clean, and has what was acknowledged before', async () => {
  const directory = await temporaryDirectory()
  const path = join(directory, 'spool')
  const spool = await temporarySpool({ path })
  const { acknowledged, stop } = startWriters(spool)
  const backups = join(directory, 'backups')
  await mkdir(backups)
  const before: Map<string, Buffer>[] = []
  try {
    for (let i = 0; i < 3; i++) {
      await spool.swapOut(message('one more'))
      before.push(new Map(acknowledged))
      const { directory: made, bytes: size } = await spool.upkeep.backup(join(backups, String(i)))
      expect(made).toBe(join(backups, String(i)))
      const { size: length, mode } = await stat(join(made, 'data.mdb'))
      expect(size).toBe(length)
      // Whoever may not read the spool may not read its copy.
      expect(mode & 0o777).toBe(0o640)
      expect((await stat(made)).mode & 0o027).toBe(0)
    }
  } finally {
    await stop()
  }
  expect(await readdir(backups)).toEqual(['0', '1', '2'])
  for (const [i, messages] of before.entries()) {
    const copy = join(backups, String(i))
    expect(await checkSpool(copy)).toMatchObject({ found: 0 })
    const restored = await openSpool({ path: copy })
    for (const [id, body] of messages) expect((await bodyOf(restored, id)).equals(body)).toBe(true)
    await restored.swapOut(message('it can be written to'))
    await restored.close()
  }
})

test('a backup never goes over what is there', async () => {
  const directory = await temporaryDirectory()
  const spool = await temporarySpool({ path: join(directory, 'spool') })
  await spool.upkeep.backup(join(directory, 'backup'))
  const names: (string | null)[] = []
  const watcher = watch(directory, (_, name) => names.push(name))
  try {
    const again = spool.upkeep.backup(join(directory, 'backup'))
    await expect(again).rejects.toMatchObject({ code: 'SPOOL_ERR_INVALID', field: 'directory' })
    await writeFile(join(directory, 'last'), '')
    await expect.poll(() => names).toContain('last')
  } finally {
    watcher.close()
  }
  // Told before anything was copied.
  expect(names).not.toContain('.backup.partial')
  await rm(join(directory, 'last'))
  const nowhere = spool.upkeep.backup(join(directory, 'no', 'such'))
  await expect(nowhere).rejects.toMatchObject({ code: 'SPOOL_ERR_INVALID', field: 'directory' })
  expect(await checkSpool(join(directory, 'backup'))).toMatchObject({ found: 0 })
  expect((await readdir(directory)).toSorted()).toEqual(['backup', 'spool'])
})

test('compaction gives room back, and refuses while another owns the spool', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const kept = randomBytes(100_000)
  const { ids } = await spool.swapOut(message(kept))
  const gone = await spool.swapOut(message(bytes(4_000_000)))
  await spool.swapRemove(gone.ids[0] as string)
  await expect(compactSpool(path)).rejects.toMatchObject({ code: 'SPOOL_ERR_OWNED' })
  await spool.close()
  const { before, after } = await compactSpool(path)
  expect(after).toBeLessThan(before / 4)
  expect((await stat(join(path, 'data.mdb'))).size).toBe(after)
  expect(await checkSpool(path)).toMatchObject({ found: 0, messages: 1 })
  const compacted = await temporarySpool({ path })
  expect((await bodyOf(compacted, ids[0] as string)).equals(kept)).toBe(true)
  await compacted.swapOut(message('it can be written to'))
})

test('tells the room on its disk', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const { total, available, usedPercent } = await spool.upkeep.space()
  const { bsize, blocks } = await statfs(path)
  expect(total).toBe(bsize * blocks)
  expect(available).toBeGreaterThan(0)
  expect(available).toBeLessThanOrEqual(total)
  expect(usedPercent).toBeGreaterThan(0)
  expect(usedPercent).toBeLessThanOrEqual(100)
})

test('sheds below the low mark, and takes again only at the high one', async () => {
  let available = 150
  const look = async () => ({ total: 1000, available, usedPercent: 85 })
  const watch = new SpaceWatch('', { low: 100, high: 200 }, look)
  const sheds: boolean[] = []
  for (available of [150, 100, 99, 150, 199, 200, 150, 99]) {
    await watch.look()
    sheds.push(watch.reason !== null)
  }
  expect(sheds).toEqual([false, false, true, true, true, false, false, true])
  expect(watch.reason).toContain('99 bytes are free')
})

test('a compacted spool or a backup takes a great removal as its first write', async () => {
  const directory = await temporaryDirectory()
  const path = join(directory, 'spool')
  const spool = await temporarySpool({ path })
  for (let i = 0; i < 3; i++) await spool.swapOut(message(bytes(1_500_000, i)))
  const { directory: backup } = await spool.upkeep.backup(join(directory, 'backup'))
  await spool.close()
  await compactSpool(path)
  for (const copy of [path, backup]) {
    // In a process of its own: what this is about ended it.
    const script = join(import.meta.dirname, 'child-first-removal.mjs')
    const { stdout } = await run(process.execPath, [script, copy])
    expect(stdout).toBe('removed\n')
  }
})

test('a spool in use is compacted, and what is written meanwhile waits and is in it', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const kept = randomBytes(300_000)
  const { ids } = await spool.swapOut(message(kept))
  const gone = await spool.swapOut(message(bytes(8_000_000)))
  await spool.swapRemove(gone.ids[0] as string)
  const { acknowledged, stop } = startWriters(spool)
  const reports: { before: number; after: number }[] = []
  // What is removed goes a moment later.
  const isSmaller = () => reports.some(({ before, after }) => after < before / 2)
  for (let i = 0; i < 4 || (!isSmaller() && i < 100); i++)
    reports.push(await spool.upkeep.compact())
  await stop()
  expect(isSmaller()).toBe(true)
  expect((await stat(join(path, 'data.mdb'))).mode & 0o777).toBe(0o640)
  expect((await stat(join(path, 'lock.mdb'))).mode & 0o777).toBe(0o640)
  expect(await readdir(path)).not.toContain('.compact.partial')
  const look = async (spool: Spool) => {
    expect((await bodyOf(spool, ids[0] as string)).equals(kept)).toBe(true)
    for (const [id, body] of acknowledged) expect((await bodyOf(spool, id)).equals(body)).toBe(true)
    expect(await spool.upkeep.check({ deep: true })).toMatchObject({ found: 0 })
  }
  expect(acknowledged.size).toBeGreaterThan(4)
  await look(spool)
  await spool.close()
  await look(await temporarySpool({ path }))
})

test('a compaction disturbs nobody who reads, and waits for who looks at one moment', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const body = bytes(3_000_000)
  const { ids } = await spool.swapOut(message(body))
  const pieces: Uint8Array[] = []
  for await (const piece of (await spool.swapIn(ids[0] as string)).stream) {
    pieces.push(piece)
    if (pieces.length === 1) await spool.upkeep.compact()
  }
  expect(Buffer.concat(pieces).equals(body)).toBe(true)
  const [check] = await Promise.all([spool.upkeep.check({ deep: true }), spool.upkeep.compact()])
  expect(check).toMatchObject({ found: 0, messages: 1 })
  await spool.close()

  const store = await Store.open({ path, readOnly: true, mode: 0o640, mapSize: undefined })
  const read = store.beginRead()
  expect(await store.unread(1)).toBe(false)
  const unread = store.unread(10_000)
  store.endRead(read)
  expect(await unread).toBe(true)
  await store.close()
})
