/** Several processes on one journal, killed and started again. The whole of it is in multi-process.slow.ts. */
import { rm } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { makeTemporary } from './journals.js'
import { run } from './processes/run.js'

// Processes are slow to start on a busy machine; nobody who is stuck is waited for that long.
vi.setConfig({ testTimeout: 180_000 })

let scratch: string

beforeEach(async () => {
  scratch = await makeTemporary()
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

const FEW = { records: 5000, kills: 5, rate: 1, unitLimit: 16 * 1024 }

test('plain, safety 1, segments removed as they are read', async () => {
  const report = await run(scratch, {
    ...FEW,
    compression: 'off',
    safety: 1,
    checksums: false,
    removing: true,
  })
  expect(report.problems).toEqual([])
  expect(report.acknowledged).toBeGreaterThanOrEqual(FEW.records)
  expect(report.records).toBeGreaterThanOrEqual(report.acknowledged)
})

test('LZ4, safety 2, checksums, all segments kept', async () => {
  const report = await run(scratch, {
    ...FEW,
    compression: 'lz4',
    safety: 2,
    checksums: true,
    removing: false,
  })
  expect(report.problems).toEqual([])
  expect(report.acknowledged).toBeGreaterThanOrEqual(FEW.records)
  expect(report.segments).toBeGreaterThan(10)
})
