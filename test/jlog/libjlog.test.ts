/**
 * Together with libjlog itself, in the same journal at the same time. Runs where the environment variable TEST_LIBJLOG names
 * libjlog's shared library, and python3 is there to call it.
 */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createJournal, openReader, openWriter, readIndexDetails } from '../../jlog/index.js'
import { makeTemporary, recordsOnDisk } from './journals.js'
import { labelOf, payloadOf } from './processes/common.mjs'
import { libjlog, MIXED, whyNoLibjlog } from './processes/libjlog.js'
import { run } from './processes/run.js'

const why = whyNoLibjlog()
if (why !== null) console.log(`skipped, with libjlog: ${why}`)

// Processes are slow to start on a busy machine; nobody who is stuck is waited for that long.
vi.setConfig({ testTimeout: 180_000 })

let scratch: string
let dir: string

beforeEach(async () => {
  scratch = await makeTemporary()
  dir = join(scratch, 'journal')
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

/** What libjlog's subscriber reads from its checkpoint up to this id. */
async function readByLibjlog(name: string, log: number, marker: number): Promise<string[]> {
  const finish = join(scratch, 'finish')
  await writeFile(finish, `${log} ${marker}`)
  return libjlog('subscriber', dir, name, finish, '1').filter((line) => line.startsWith('r '))
}

describe.skipIf(why !== null)('with libjlog', () => {
  const FEW = {
    ...MIXED,
    records: 6000,
    kills: 10,
    rate: 1,
    unitLimit: 16 * 1024,
    writers: 3,
    subscribers: 3,
  }

  test.each([
    { compression: 'off', safety: 1, checksums: false, removing: true },
    { compression: 'lz4', safety: 2, checksums: true, removing: false },
  ] as const)('writers, subscribers and cleaners of both: %o', async (how) => {
    const report = await run(scratch, { ...FEW, ...how })
    expect(report.problems).toEqual([])
    expect(report.acknowledged).toBeGreaterThanOrEqual(FEW.records)
    expect(report.records).toBeGreaterThanOrEqual(report.acknowledged)
  })

  test.each(['off', 'lz4'] as const)(
    'a subscriber goes back and forth, compression %s',
    async (compression) => {
      libjlog('create', dir, compression, '4096', '1', 's')
      const writer = await openWriter(dir)
      const seen: string[] = []
      for (let round = 0; round < 6; round++) {
        let last = { log: 0, marker: 0 }
        for (let n = 0; n < 40; n++) last = await writer.append(payloadOf(`w${round}`, n))
        if (round % 2 === 0) {
          for (const line of await readByLibjlog('s', last.log, last.marker))
            seen.push(line.split(' ').slice(3).join(' '))
          continue
        }
        const reader = await openReader(dir, 's')
        for (let next = await reader.readInterval(); next; next = await reader.readInterval()) {
          for (
            let batch = await reader.readBatch();
            batch.length > 0;
            batch = await reader.readBatch()
          )
            for (const { payload } of batch) seen.push(labelOf(payload))
          await reader.checkpoint(next.last)
        }
        await reader.close()
      }
      await writer.close()
      const written = [0, 1, 2, 3, 4, 5].flatMap((round) =>
        Array.from({ length: 40 }, (_, n) => `w${round} ${n}`),
      )
      expect(seen).toEqual(written)
    },
  )

  test('each closes the index that the other began', async () => {
    await createJournal(dir, { unitLimit: 3000, subscribers: ['a', 'b', '~keeper'] })
    const writer = await openWriter(dir)
    const label = { who: 'w', n: 0 }
    const fill = async (until: (log: number) => boolean) => {
      for (;;) {
        const id = await writer.append(payloadOf(label.who, label.n++))
        if (until(id.log)) return id
      }
    }
    // Segment 0: ours begins, theirs closes. Segment 1: the other way round.
    await fill(() => label.n === 5)
    const ours = await openReader(dir, 'a')
    expect(await ours.readInterval()).toMatchObject({ count: 5 })
    expect(await readIndexDetails(dir, 0)).toEqual({ records: 5, closed: false })
    const begun = await fill((log) => log === 1)
    await readByLibjlog('b', begun.log, begun.marker)
    expect(await readIndexDetails(dir, 0)).toMatchObject({ closed: true })
    expect(await readIndexDetails(dir, 1)).toEqual({ records: 1, closed: false })
    const end = await fill((log) => log === 2)
    let seen = 0
    for (let next = await ours.readInterval(); next; next = await ours.readInterval()) {
      seen += next.count
      await ours.checkpoint(next.last)
    }
    expect(seen).toBe(label.n)
    expect(await readIndexDetails(dir, 1)).toMatchObject({ closed: true })
    // And theirs takes as sound what ours wrote.
    const first = (await recordsOnDisk(dir)).filter(({ log }) => log === 0).length
    const rest = await readByLibjlog('b', end.log, end.marker)
    expect(rest.length).toBe(label.n - first - begun.marker)
    await ours.close()
    await writer.close()
  })

  test.each([
    ['off', 2000, 50],
    ['off', 20_000, 100],
    ['lz4', 1000, 100],
  ])(
    'what libjlog left in its pre-commit buffer goes to the segment once: %s, %d bytes',
    async (compression, bytes, count) => {
      libjlog('create', dir, String(compression), '8192', '1', 's')
      libjlog('fill', dir, 'w', String(count), String(bytes))
      const before = (await recordsOnDisk(dir)).length
      expect(before).toBeLessThan(Number(count))
      for (let round = 0; round < 3; round++) await (await openWriter(dir)).close()
      const writer = await openWriter(dir)
      await writer.append(payloadOf('after', 0))
      await writer.close()
      const labels = (await recordsOnDisk(dir)).map(({ payload }) => labelOf(payload))
      const written = Array.from({ length: Number(count) }, (_, n) => `w ${n}`)
      expect(labels).toEqual([...written, 'after 0'])
    },
  )
})
