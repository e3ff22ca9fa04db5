/** Repair beside writers and readers at work: what they were promised stays. */
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { createJournal } from '../../jlog/create.js'
import { openReader } from '../../jlog/reader.js'
import { repairJournal } from '../../jlog/repair.js'
import { openWriter } from '../../jlog/writer.js'
import { encode, MAGICS } from './damage-model.js'
import {
  copyOfFixture,
  manifest,
  recordsOf,
  removeTemporaryDirectories,
  segmentsOf,
  temporaryDirectory,
} from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

function overwrite(path: string, at: number, bytes: Buffer): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, bytes, 0, bytes.length, at)
  closeSync(fd)
}

function texts(dir: string): string[] {
  return segmentsOf(dir)
    .flatMap((name) => recordsOf(readFileSync(join(dir, name)), MAGICS.plain))
    .map(({ payload }) => payload.toString())
}

it('a writer that goes on appending loses nothing when its segment is repaired under it', async () => {
  const dir = join(temporaryDirectory(), 'journal')
  await createJournal(dir, { unitLimit: 64 * 1024, subscribers: ['a'] })
  const writer = await openWriter(dir)
  const written: string[] = []
  try {
    for (let round = 0; round < 20; round++) {
      const batch = Array.from({ length: 50 }, (_, i) => `record ${round} ${i}`)
      await writer.appendBatch(batch)
      written.push(...batch)
      if (round % 4 === 0) {
        // The magic of the last segment's first record: its own length still leads on, so just that one is lost.
        const name = segmentsOf(dir).at(-1)!
        const [first] = recordsOf(readFileSync(join(dir, name)), MAGICS.plain)
        overwrite(join(dir, name), 0, Buffer.alloc(4, 0xee))
        written.splice(written.indexOf(first!.payload.toString()), 1)
      }
      const more = Array.from({ length: 30 }, (_, i) => `beside ${round} ${i}`)
      const appended = Promise.all(more.map((text) => writer.append(text)))
      const report = await repairJournal(dir)
      expect(report.changed).toBe(round % 4 === 0)
      await appended
      written.push(...more)
      expect(texts(dir)).toEqual(written)
    }
  } finally {
    await writer.close()
  }
  expect((await repairJournal(dir)).changed).toBe(false)
})

it('a reader heals a finished segment by the same rules, and reads every record that remains', async () => {
  for (const name of [
    'bad-bad-magic',
    'bad-mlen-huge',
    'bad-garbage-mid',
    'bad-zero-page',
    'bad-torn-closed',
  ]) {
    const dir = copyOfFixture(name)
    const reader = await openReader(dir, 'a')
    let records = 0
    try {
      for (;;) {
        const interval = await reader.readInterval()
        if (interval === null) break
        records += interval.count
        await reader.checkpoint(interval.last)
        if (interval.last.log === 7) break
      }
    } finally {
      await reader.close()
    }
    const last = recordsOf(readFileSync(join(dir, '00000008')), MAGICS.plain).length
    expect(records + last, name).toBe(manifest[name]!.expected.length)
  }
})

it('what another writer appended to a half rewritten segment is taken over', async () => {
  const dir = temporaryDirectory()
  const records = ['one', 'two', 'three', 'four'].map((text, i) =>
    encode(MAGICS.plain, 1_700_000_000 + i, 0, Buffer.from(text)),
  )
  const damaged = Buffer.concat(records)
  damaged.fill(0xee, records[0]!.length, records[0]!.length + 4)
  const rest = Buffer.concat([records[0]!, records[2]!, records[3]!])
  // As a repair left it that was killed while it copied: half of the new bytes, the size still the old one.
  const half = Buffer.concat([rest.subarray(0, 40), damaged.subarray(40)])
  const late = encode(MAGICS.plain, 1_700_000_009, 0, Buffer.from('late'))
  writeFileSync(join(dir, '00000000'), Buffer.concat([half, late]))
  writeFileSync(join(dir, '00000000.repair-new'), rest)
  writeFileSync(join(dir, '00000000.repair-cut'), records[1]!)
  const plan = {
    version: 1,
    log: 0,
    mode: 'rewrite',
    size: damaged.length,
    newSize: rest.length,
    firstCut: records[0]!.length,
    dropIndex: true,
    checkpoints: [],
  }
  writeFileSync(join(dir, '00000000.repair'), JSON.stringify(plan))
  const report = await repairJournal(dir)
  expect(report.segments[0]).toMatchObject({ resumed: true, records: 4 })
  expect(texts(dir)).toEqual(['one', 'three', 'four', 'late'])
  expect(readFileSync(join(dir, '00000000.torn-0'))).toEqual(records[1]!)
})
