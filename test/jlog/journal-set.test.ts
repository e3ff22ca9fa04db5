import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { JournalSet, readRecords } from '../../jlog/index.js'

let dir: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bobbin-set-'))
})

afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

async function payloads(path: string): Promise<string[]> {
  const found: string[] = []
  for await (const batch of readRecords(path))
    for (const { payload } of batch) found.push(payload.toString())
  return found
}

it('makes its directory, and journals by name in it', async () => {
  const set = await JournalSet.open(join(dir, 'a', 'b'))
  await set.create('one')
  await set.create('two.2-x_y')
  expect(await set.names()).toEqual(['one', 'two.2-x_y'])
  expect(await set.has('one')).toBe(true)
  expect(await set.has('three')).toBe(false)
  await expect(set.create('one')).rejects.toMatchObject({ code: 'JLOG_ERR_CREATE_EXISTS' })
  await set.close()
})

it.each(['/proc/bobbin/journals', '/dev/null/journals'])(
  'says that %s cannot be made',
  async (path) => {
    const failed = JournalSet.open(path)
    await expect(failed).rejects.toMatchObject({ code: 'JLOG_ERR_CREATE_MKDIR' })
  },
)

it.each(['', '.', '..', '../x', 'a/b', '.hidden', '-x', 'a\0b', 'ü', 'x'.repeat(129)])(
  'refuses the name %j',
  async (name) => {
    const set = await JournalSet.open(dir)
    await expect(set.create(name)).rejects.toMatchObject({ code: 'JLOG_ERR_ILLEGAL_INIT' })
    await expect(set.path(name)).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
    await expect(set.append(name, ['x'])).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
    expect(await set.names()).toEqual([])
    await set.close()
  },
)

it('shares one writer a journal, however many append at once, and with few held open', async () => {
  const set = await JournalSet.open(dir, { maxOpenWriters: 2 })
  const names = ['a', 'b', 'c', 'd', 'e']
  for (const name of names) await set.create(name)
  const expected = new Map(names.map((name) => [name, [] as string[]]))
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const name = names[i % names.length]!
      const { count } = await set.append(name, [`${i}-1`, `${i}-2`])
      expect(count).toBe(2)
      expected.get(name)!.push(`${i}-1`, `${i}-2`)
    }),
  )
  await set.close()
  for (const name of names) {
    const found = await payloads(join(dir, name))
    expect(found.toSorted()).toEqual(expected.get(name)!.toSorted())
    // Each pair stands together.
    for (let i = 0; i < found.length; i += 2)
      expect(found[i + 1]).toBe(found[i]!.replace('-1', '-2'))
  }
})

it('deletes a journal also while it is written to, and finishes what a crash left of a deletion', async () => {
  const set = await JournalSet.open(dir)
  await set.create('log')
  await set.append('log', ['x'])
  await set.delete('log')
  expect(await set.names()).toEqual([])
  await expect(set.append('log', ['x'])).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
  await expect(set.delete('log')).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
  await set.create('log')
  await set.append('log', ['y'])
  expect(await payloads(join(dir, 'log'))).toEqual(['y'])
  await set.close()
  await mkdir(join(dir, '.deleted-old-1-1', 'sub'), { recursive: true })
  const again = await JournalSet.open(dir)
  expect(await again.names()).toEqual(['log'])
  await expect(mkdir(join(dir, '.deleted-old-1-1'))).resolves.toBeUndefined()
  await again.close()
})

it('refuses when closed', async () => {
  const set = await JournalSet.open(dir)
  await set.create('log')
  const last = set.append('log', ['last'])
  await last
  await set.close()
  await set.close()
  await expect(set.append('log', ['x'])).rejects.toMatchObject({ code: 'JLOG_ERR_ILLEGAL_WRITE' })
  expect(await payloads(join(dir, 'log'))).toEqual(['last'])
})

it('opens no writer on a journal that is being deleted', async () => {
  const set = await JournalSet.open(dir)
  for (let round = 0; round < 20; round++) {
    await set.create('one')
    await set.append('one', ['first'])
    const deleted = set.delete('one')
    const codes = new Set<string>()
    let isDeleted = false
    const appending = Array.from({ length: 4 }, async () => {
      while (!isDeleted)
        await set.append('one', ['x']).catch((error: { code: string }) => codes.add(error.code))
    })
    await deleted
    isDeleted = true
    await Promise.all(appending)
    // Of the writer that was closed, or of no journal: never of half a one.
    for (const code of codes) expect(['JLOG_ERR_OPEN', 'JLOG_ERR_ILLEGAL_WRITE']).toContain(code)
    await expect(set.append('one', ['x'])).rejects.toMatchObject({ code: 'JLOG_ERR_OPEN' })
  }
  await set.close()
})

it('deletes a journal once, whoever asks together', async () => {
  const set = await JournalSet.open(dir)
  await set.create('one')
  await set.append('one', ['x'])
  const results = await Promise.allSettled([set.delete('one'), set.delete('one')])
  // One of them, whichever comes first.
  results.sort((a, b) => a.status.localeCompare(b.status))
  expect(results).toMatchObject([
    { status: 'fulfilled' },
    { status: 'rejected', reason: { code: 'JLOG_ERR_OPEN' } },
  ])
  await set.close()
})
