// Pages of a spool's file are overwritten at random, or its end is cut off: every row whose pages are
// undamaged comes back, and the result is sound. What LMDB would do with such a file is never tried.
import { cp, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkSpool, openSpool, repairSpool } from '../../spool/index.js'
import { leaves, PageFile, readTree } from '../../spool/pages.js'
import { DATABASES } from '../../spool/rows.js'
import { damagedPages, salvage } from '../../spool/salvage.js'
import { Store } from '../../spool/store.js'
import { seededRandom } from '../support/random.js'
import { bodyOf, bytes, message, temporaryDirectory, temporarySpool } from './support.js'

const PAGE = 4096

/** A spool that has seen removals, with the contents of what is in it. */
async function usedSpool(path: string): Promise<Map<string, Buffer>> {
  const contents = new Map<string, Buffer>()
  const spool = await temporarySpool({ path })
  for (let i = 0; i < 400; i++) {
    const body = bytes((i % 50) * 700, i)
    const rcptto = Array.from({ length: 1 + (i % 3) }, (_, n) => `r${n}@d${i % 7}.example`)
    const { ids } = await spool.swapOut(message(body, { rcptto }))
    for (const id of ids) contents.set(id, body)
    if (i % 5 !== 4) continue
    const [first] = contents.keys()
    await spool.swapRemove(first as string)
    contents.delete(first as string)
  }
  await spool.indexQueue()
  await spool.claim({ limit: 10 })
  await spool.close()
  return contents
}

async function rowsOf(path: string): Promise<Map<string, Buffer>> {
  const store = await Store.open({ path, readOnly: true, mode: 0, mapSize: undefined })
  const rows = new Map<string, Buffer>()
  for (const name of DATABASES) {
    for (const { key, value } of store.db(name).getRange({})) {
      rows.set(`${name} ${Buffer.from(key).toString('hex')}`, value)
    }
  }
  await store.close()
  return rows
}

/** Values that have pages of their own, and the first of them. */
async function longValues(path: string): Promise<{ page: number; value: Buffer }[]> {
  const file = await PageFile.open(join(path, 'data.mdb'))
  const found: { page: number; value: Buffer }[] = []
  const root = file.metas[0]?.main.root as number
  const nobody = () => true
  for await (const leaf of leaves(file, root, nobody, nobody)) {
    for (const { value } of (await file.rows(leaf)).rows) {
      const tree = value === null ? undefined : readTree(value)
      if (tree === undefined) continue
      for await (const leaf of leaves(file, tree.root, nobody, nobody)) {
        const pages: number[] = []
        const { rows } = await file.rows(leaf, (page) => pages.push(page) > 0)
        const long = rows.filter(({ value }) => value !== null && value.length > PAGE)
        for (const { value } of long) {
          found.push({ page: pages.shift() as number, value: value as Buffer })
        }
      }
    }
  }
  await file.close()
  return found
}

async function overwrite(path: string, pages: readonly number[]): Promise<void> {
  const file = await open(join(path, 'data.mdb'), 'r+')
  for (const page of pages) await file.write(bytes(PAGE, page), 0, PAGE, page * PAGE)
  await file.close()
}

/** The slow tests take more. */
const EFFORT = Number(process.env.TEST_EFFORT ?? 1)
const ROUNDS = 6 * EFFORT

describe('salvage', () => {
  test('of a sound file gives every row back, and none that was removed', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    await usedSpool(path)
    const before = await rowsOf(path)
    expect(await damagedPages(path)).toEqual([])
    const report = await salvage(path, 0o640)
    expect(report).toMatchObject({ damagedPages: [], lost: {}, lostKeys: [] })
    const after = await rowsOf(path)
    expect([...after.keys()]).toEqual([...before.keys()])
    for (const [key, value] of before) expect(after.get(key)?.equals(value)).toBe(true)
    expect((await stat(report.kept)).size).toBeGreaterThan(0)
  })

  test('of a file with any one page overwritten gives back what other pages hold', {
    timeout: 120_000,
  }, async () => {
    const directory = await temporaryDirectory()
    const sound = join(directory, 'sound')
    await usedSpool(sound)
    const before = await rowsOf(sound)
    const pages = Math.floor((await stat(join(sound, 'data.mdb'))).size / PAGE)
    const worst: [number, number][] = []
    const random = seededRandom()
    for (let i = 0; i < ROUNDS; i++) {
      const page = i < 3 ? i : 2 + Math.floor(random() * (pages - 2))
      const path = join(directory, `damaged-${i}`)
      await cp(sound, path, { recursive: true })
      await overwrite(path, [page])
      const damaged = await damagedPages(path)
      const report = await salvage(path, 0o640)
      const after = await rowsOf(path)
      let missing = 0
      for (const [key, value] of before) {
        const found = after.get(key)
        // The middle of an overflow page has no header: its damage is for the hash to find.
        if (found === undefined) missing++
        else if (!key.startsWith('chunks')) {
          if (damaged.length > 0 || page < 2) continue
          expect(found.equals(value), `page ${page} ${key}`).toBe(true)
        }
      }
      if (missing > 0) worst.push([page, missing])
      if (missing > 0) expect(damaged.length).toBeGreaterThan(0)
      expect(report.pages).toBe(pages)
      // Nothing that was removed comes back, unless the list of free pages went with a branch.
      const risen = [...after.keys()].filter((key) => !before.has(key))
      if (damaged.length < 2 && page >= 2) expect(risen, `page ${page}`).toEqual([])
      // One page holds at most so many rows of ours; a branch or a meta page holds none.
      expect(missing, `page ${page}`).toBeLessThan(120)
    }
    expect(worst.length).toBeLessThan(ROUNDS)
  })

  test('then repair: what is left can be read, and what cannot is in quarantine', {
    timeout: 120_000,
  }, async () => {
    const directory = await temporaryDirectory()
    const sound = join(directory, 'sound')
    const contents = await usedSpool(sound)
    const pages = Math.floor((await stat(join(sound, 'data.mdb'))).size / PAGE)
    const random = seededRandom()
    for (let i = 0; i < (EFFORT > 1 ? 8 : 3); i++) {
      const path = join(directory, `damaged-${i}`)
      await cp(sound, path, { recursive: true })
      if (i === 0) await truncate(join(path, 'data.mdb'), Math.floor(pages / 2) * PAGE)
      else if (i === 1) await truncate(join(path, 'data.mdb'), pages * PAGE - 5000)
      else {
        const victims = Array.from({ length: i * 3 }, () => Math.floor(random() * pages))
        await overwrite(path, victims)
      }
      const report = await repairSpool(path)
      expect(report.after.problems).toEqual([])
      expect(await checkSpool(path)).toMatchObject({ found: 0 })
      const files = await readdir(path)
      expect(files.filter((name) => name.startsWith('data.mdb.damaged')).length).toBe(
        report.salvage === null ? 0 : 1,
      )
      const spool = await openSpool({ path })
      let whole = 0
      for (const { id } of (await spool.list({ limit: 1000 })).messages) {
        const body = contents.get(id)
        expect((await bodyOf(spool, id)).equals(body ?? Buffer.from('never stored'))).toBe(true)
        whole++
      }
      if (i > 1) expect(whole).toBeGreaterThan(contents.size / 3)
      await spool.close()
    }
  })

  test('a check of damaged pages says so, and leaves the file as it is', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    await usedSpool(path)
    const pages = Math.floor((await stat(join(path, 'data.mdb'))).size / PAGE)
    await overwrite(
      path,
      Array.from({ length: pages >> 1 }, (_, i) => i * 2),
    )
    const before = await readFile(join(path, 'data.mdb'))
    const report = await checkSpool(path)
    expect(report.counts['page-damaged']).toBeGreaterThan(0)
    expect((await readFile(join(path, 'data.mdb'))).equals(before)).toBe(true)
  })

  test('a check without contents passes over their pages, and over no others', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const values = { 'a long one': 'v'.repeat(20_000) }
    await spool.swapOut(message(bytes(16_000, 1), { context: { mess: values } }))
    await spool.close()
    const pages = await longValues(path)
    expect(pages).toHaveLength(2)
    for (const { page, value } of pages) {
      const isContent = value.equals(bytes(16_000, 1))
      const sound = await readFile(join(path, 'data.mdb'))
      await overwrite(path, [page])
      expect((await checkSpool(path)).counts).toEqual({ 'page-damaged': 1 })
      const shallow = await checkSpool(path, { deep: false })
      expect(shallow.counts).toEqual(isContent ? {} : { 'page-damaged': 1 })
      await writeFile(join(path, 'data.mdb'), sound)
    }
  })
})
