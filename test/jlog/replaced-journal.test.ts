/** A journal that is moved away while it is in use, another of the same name in its place: nobody mixes the two up. */
import { renameSync, rmSync } from 'node:fs'
import { appendFile, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { follow, openReader, openWriter, type RecordBatch, readRecords } from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const journal = temporaryJournals()

async function textsIn(dir: string): Promise<string[]> {
  const all: string[] = []
  for await (const batch of readRecords(dir))
    for (const { payload } of batch) all.push(payload.toString())
  return all
}

async function filled(
  prefix: string,
  count: number,
  options: { unitLimit?: number; compression?: 'lz4' } = {},
) {
  const dir = await journal({ subscribers: ['s'], ...options })
  const writer = await openWriter(dir)
  for (let i = 0; i < count; i++) await writer.append(`${prefix} ${i}`)
  await writer.close()
  return dir
}

it.each([1, 2] as const)(
  'a writer fills the segment that it is in, and goes on in the new journal, safety %i',
  async (safety) => {
    const dir = await journal({ unitLimit: 100, safety })
    const other = await journal({ unitLimit: 100, safety })
    const writer = await openWriter(dir)
    const appended: string[] = []
    const append = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const text = `record ${appended.length}`
        await writer.append(text)
        appended.push(text)
      }
    }
    await append(10)
    await writer.sync()
    const away = `${dir}.away`
    await rename(dir, away)
    await rename(other, dir)
    await append(20)
    await writer.close()
    expect([...(await textsIn(away)), ...(await textsIn(dir))]).toEqual(appended)
    // Not a number of the old journal: readers of the new one would take all before it for missing.
    const segments = (await readdir(dir)).filter((name) => /^[0-9a-f]{8}$/.test(name)).sort()
    expect(segments[0]).toBe('00000000')
    rmSync(away, { recursive: true })
  },
)

it.each([
  ['alike', {}],
  ['of other records, which are no damage', { compression: 'lz4', unitLimit: 40 }],
] as const)(
  'a subscriber reads the new journal from its checkpoint there: %s',
  async (_, options) => {
    // The old one has segments after that which is being written in the new one, where a record is on its way.
    const dir = await filled('old', 5, { unitLimit: 20 })
    const other = await filled('new', 3, options)
    const newest = (await readdir(other))
      .filter((name) => /^[0-9a-f]{8}$/.test(name))
      .sort()
      .at(-1)
    await appendFile(join(other, newest!), Buffer.alloc(3))
    const reader = await openReader(dir, 's')
    expect(await reader.readInterval()).toMatchObject({ count: 1 })
    await reader.checkpoint({ log: 0, marker: 1 })
    await rename(dir, `${dir}.away`)
    await rename(other, dir)
    const read: string[] = []
    for (let next = await reader.readInterval(); next; next = await reader.readInterval()) {
      for (const { payload } of await reader.readBatch()) read.push(payload.toString())
      await reader.checkpoint(next.last)
    }
    expect(read).toEqual(['new 0', 'new 1', 'new 2'])
    expect((await readdir(dir)).filter((name) => name.includes('torn'))).toEqual([])
    await reader.close()
    rmSync(`${dir}.away`, { recursive: true })
  },
)

it.each([
  ['moved away', (dir: string) => renameSync(dir, `${dir}.away`)],
  ['removed', (dir: string) => rmSync(dir, { recursive: true })],
])('who follows one that is %s is told', async (_, takeAway) => {
  const dir = await filled('old', 1)
  const other = await filled('new', 1)
  const tail = follow(dir, { from: 'begin' })
  const first = (await tail.next()).value as RecordBatch
  expect(first.length).toBe(1)
  const next = tail.next()
  await new Promise((resolve) => setTimeout(resolve, 20))
  // At once: who follows sees no moment without a journal.
  takeAway(dir)
  renameSync(other, dir)
  await expect(next).rejects.toMatchObject({ code: 'JLOG_ERR_FILE_OPEN' })
  rmSync(`${dir}.away`, { recursive: true, force: true })
})
