/** Journals that libjlog wrote: what must be read from each stands in the manifest beside them. */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formatLogId, type LogId } from '../../jlog/log-id.js'
import { openReader } from '../../jlog/reader.js'
import type { JournalRecord } from '../../jlog/record-batch.js'
import { readRecords } from '../../jlog/records.js'

type Listed = [id: string, sec: number, usec: number, bytes: number, sha: string]
interface Sound {
  written: [sec: number, usec: number, bytes: number, sha: string][]
  subscribers: Record<string, string>
  records: Record<string, { first: string | null; count: number; list: Listed[] }>
}
interface Damaged {
  base: string
  damage: string
  subscriber: string
  intact: unknown[]
  expected: unknown[]
  expected_count: number
}

const FIXTURES = fileURLToPath(new URL('../fixtures/jlog', import.meta.url))
const manifest = JSON.parse(await readFile(join(FIXTURES, 'manifest.json'), 'utf8')) as Record<
  string,
  Sound | Damaged
>
const sound = Object.entries(manifest).filter(
  (entry): entry is [string, Sound] => 'written' in entry[1],
)
const damaged = Object.entries(manifest).filter(
  (entry): entry is [string, Damaged] => 'damage' in entry[1],
)

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'jlog-fixtures-'))
})
afterAll(() => rm(root, { recursive: true }))

let copies = 0
async function copyOf(name: string): Promise<string> {
  const dir = join(root, `${copies++}-${name}`)
  await cp(join(FIXTURES, name), dir, { recursive: true })
  return dir
}

function listed({ id, sec, usec, payload }: JournalRecord): Listed {
  const sha = createHash('sha256').update(payload).digest('hex').slice(0, 16)
  return [formatLogId(id), sec, usec, payload.length, sha]
}

async function snapshot(dir: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  for (const name of (await readdir(dir)).sort())
    files[name] = (await readFile(join(dir, name))).toString('hex')
  return files
}

async function readAll(dir: string, after?: LogId): Promise<Listed[]> {
  const records: Listed[] = []
  for await (const batch of readRecords(dir, after === undefined ? {} : { after })) {
    for (const record of batch) records.push(listed(record))
  }
  return records
}

/** Everything a subscriber gets, interval by interval, checkpointing each. */
async function consume(dir: string, subscriber: string): Promise<Listed[]> {
  const reader = await openReader(dir, subscriber)
  const records: Listed[] = []
  try {
    for (
      let interval = await reader.readInterval();
      interval !== null;
      interval = await reader.readInterval()
    ) {
      for (
        let batch = await reader.readBatch();
        batch.length > 0;
        batch = await reader.readBatch()
      ) {
        for (const record of batch) records.push(listed(record))
      }
      await reader.checkpoint(interval.last)
    }
    return records
  } finally {
    await reader.close()
  }
}

describe.each(sound)('%s', (name, expected) => {
  it('reads back record for record at rest, and writes nothing', async () => {
    const dir = await copyOf(name)
    const before = await snapshot(dir)
    const longest = Object.values(expected.records).reduce((a, b) => (a.count > b.count ? a : b))
    const all = await readAll(dir)
    expect(all.slice(all.length - longest.count)).toEqual(longest.list)
    expect(await snapshot(dir)).toEqual(before)
  })

  it.each(Object.keys(expected.subscribers))(
    'gives subscriber %s what libjlog gives it',
    async (subscriber) => {
      const { list } = expected.records[subscriber]!
      const one = await copyOf(name)
      const reader = await openReader(one, subscriber)
      const interval = await reader.readInterval()
      expect(interval === null ? null : formatLogId(interval.first)).toBe(
        expected.records[subscriber]!.first,
      )
      if (interval !== null) {
        for (let marker = interval.first.marker; marker <= interval.last.marker; marker++) {
          const record = await reader.read({ log: interval.first.log, marker })
          expect(listed(record)).toEqual(list[marker - interval.first.marker])
        }
      }
      await reader.close()
      expect(await consume(one, subscriber)).toEqual(list)
      // Checkpointed to the end: nothing is left.
      expect(await consume(one, subscriber)).toEqual([])
    },
  )

  it('rebuilds the index that libjlog built, byte for byte', async () => {
    const dir = await copyOf(name)
    const theirs = Object.entries(await snapshot(join(FIXTURES, name))).filter(([file]) =>
      file.endsWith('.idx'),
    )
    for (const [file] of theirs) await rm(join(dir, file))
    for (const [file, bytes] of theirs) {
      const log = Number.parseInt(file, 16)
      const reader = await openReader(dir, Object.keys(expected.subscribers)[0]!)
      await reader.read({ log, marker: 1 })
      await reader.close()
      expect((await readFile(join(dir, file))).toString('hex'), file).toBe(bytes)
    }
  })
})

describe.each(damaged)('%s', (name, { damage, subscriber, intact, expected, expected_count }) => {
  it(`is read at rest as far as it is sound, without harm: ${damage}`, async () => {
    const dir = await copyOf(name)
    const before = await snapshot(dir)
    const records: Listed[] = []
    let failure: unknown
    try {
      for await (const batch of readRecords(dir))
        for (const record of batch) records.push(listed(record))
    } catch (error) {
      failure = error
    }
    // Whatever it met, it gave only what is whole, in order, and said where it stopped.
    const whole = new Set(intact.map((record) => JSON.stringify(record)))
    for (const [, ...rest] of records) expect(whole).toContain(JSON.stringify(rest))
    if (failure === undefined) expect(records.length).toBe(expected_count)
    else
      expect(failure).toMatchObject({
        code: 'JLOG_ERR_FILE_CORRUPT',
        segment: expect.any(Number),
        offset: expect.any(Number),
      })
    expect(await snapshot(dir)).toEqual(before)
  })

  it('gives all that a repair would keep when damage is to be skipped', async () => {
    const dir = await copyOf(name)
    const before = await snapshot(dir)
    const records: Listed[] = []
    for await (const batch of readRecords(dir, { onDamage: 'skip' })) {
      for (const record of batch) records.push(listed(record))
    }
    expect(records.map(([, ...rest]) => rest)).toEqual(expected)
    expect(await snapshot(dir)).toEqual(before)
  })

  it('is read by its subscriber to the end', async () => {
    const dir = await copyOf(name)
    const records = await consume(dir, subscriber)
    const whole = new Set(intact.map((record) => JSON.stringify(record)))
    for (const [, ...rest] of records) expect(whole).toContain(JSON.stringify(rest))
    expect(await consume(dir, subscriber)).toEqual([])
  })
})
