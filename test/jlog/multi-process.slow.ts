/** As multi-process.test.ts, with 200,000 records a run, in each kind of journal, and a repair going on all the while. */
import { rm } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makeTemporary } from './journals.js'
import { MIXED, whyNoLibjlog } from './processes/libjlog.js'
import { run } from './processes/run.js'

let scratch: string

beforeEach(async () => {
  scratch = await makeTemporary()
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

const MANY = { records: 200_000, kills: 40, rate: 8, writers: 3, unitLimit: 64 * 1024 }

describe.each(['off', 'lz4'] as const)('compression %s', (compression) => {
  describe.each([1, 2] as const)('safety %d', (safety) => {
    test.each([
      { checksums: false, removing: true, repairing: false },
      { checksums: true, removing: true, repairing: true },
      { checksums: false, removing: false, repairing: true },
      { checksums: true, removing: false, repairing: false },
    ])('%o', async (how) => {
      const report = await run(scratch, { ...MANY, compression, safety, ...how })
      expect(report.problems).toEqual([])
      expect(report.acknowledged).toBeGreaterThanOrEqual(MANY.records)
      expect(report.records).toBeGreaterThanOrEqual(report.acknowledged)
      expect(report.kills).toBeGreaterThanOrEqual(MANY.kills)
      console.log(report)
    })
  })
})

const why = whyNoLibjlog()
if (why !== null) console.log(`skipped, with libjlog: ${why}`)

describe.skipIf(why !== null)('with libjlog', () => {
  test.each([
    { compression: 'off', safety: 1, checksums: false, removing: true },
    { compression: 'off', safety: 2, checksums: true, removing: false },
    { compression: 'lz4', safety: 1, checksums: true, removing: true },
    { compression: 'lz4', safety: 2, checksums: false, removing: false },
  ] as const)('%o', async (how) => {
    const report = await run(scratch, { ...MANY, ...MIXED, subscribers: 3, ...how })
    expect(report.problems).toEqual([])
    expect(report.acknowledged).toBeGreaterThanOrEqual(MANY.records)
    expect(report.records).toBeGreaterThanOrEqual(report.acknowledged)
    console.log(report)
  })
})
