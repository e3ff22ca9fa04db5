/** Random bytes as any file of a journal: repair and inspection end, with a report or a JlogError, and agree. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, expect, it } from 'vitest'
import { JlogError } from '../../jlog/errors.js'
import { inspectJournal, inspectSegment } from '../../jlog/inspect.js'
import { repairJournal } from '../../jlog/repair.js'
import { MAGICS } from './damage-model.js'
import { removeTemporaryDirectories, snapshot, temporaryDirectory } from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

/** Bytes with a liking for what a journal's files are made of. */
const word = fc.oneof(
  fc.constantFrom(...Object.values(MAGICS), 1, 2, 16, 20, 24, 32, 0xffffffff, 0xfffffff0),
  fc.nat(200),
  fc.integer({ min: 0, max: 0xffffffff }),
)
const words = fc.array(word, { maxLength: 60 }).map((list) => {
  const bytes = Buffer.alloc(list.length * 4)
  for (const [i, value] of list.entries()) bytes.writeUInt32LE(value, i * 4)
  return bytes
})
const bytes = fc.oneof(
  words,
  fc.tuple(words, fc.uint8Array({ maxLength: 7 })).map((parts) => Buffer.concat(parts)),
  fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
)
const name = fc.constantFrom(
  'metastore',
  'metastore',
  'pre_commit',
  '00000000',
  '00000000',
  '00000000.idx',
  '00000000.sum',
  '00000000.repair',
  '00000000.repair-cut',
  '00000001',
  '00000001.idx',
  '00000007',
  'ffffffff',
  'cp.61',
  'cp.7e61',
  'cp.',
  'cp.zz',
  'stray',
)

it('ends, and leaves a journal that needs no repair', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(name, bytes), { minLength: 1, maxLength: 8 }),
      async (files) => {
        const dir = temporaryDirectory()
        for (const [file, content] of files) writeFileSync(join(dir, file), content)
        const before = snapshot(dir)
        try {
          const inspection = await inspectJournal(dir)
          for (const { log, records } of inspection.segments) {
            let counted = 0
            for await (const { kind } of inspectSegment(dir, log)) if (kind === 'record') counted++
            expect(counted).toBe(records)
          }
          expect(snapshot(dir)).toEqual(before)
          const report = await repairJournal(dir)
          expect(report.records).toBe(inspection.records)
          const after = snapshot(dir)
          const again = await repairJournal(dir)
          expect(again.changed).toBe(false)
          expect(again.records).toBe(report.records)
          expect(snapshot(dir)).toEqual(after)
        } catch (error) {
          if (!(error instanceof JlogError)) throw error
          expect(['JLOG_ERR_META_OPEN', 'JLOG_ERR_NOT_SUPPORTED']).toContain(error.code)
          expect(snapshot(dir)).toEqual(before)
        }
        rmSync(dir, { recursive: true })
      },
    ),
    { numRuns: 120 },
  )
})
