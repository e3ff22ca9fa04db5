/** Memory stays flat over ten million records, written and read in each way there is. */
import { execFileSync } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makeTemporary } from './journals.js'

const MIB = 1024 * 1024
/** What the collector may leave lying about. */
const SLACK = 64 * MIB

test.each(['off', 'lz4'])('compression %s', async (compression) => {
  const scratch = await makeTemporary()
  try {
    const script = join(import.meta.dirname, 'processes/flat.mjs')
    const dir = join(scratch, 'journal')
    const said = execFileSync(process.execPath, [script, dir, compression], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const lines = said.toString().trim().split('\n')
    expect(JSON.parse(lines.pop()!)).toMatchObject({ subscriber: 10_000_000, follower: 10_000_000 })
    const sizes = lines.map(Number)
    console.log(`MiB after each million: ${sizes.map((size) => (size / MIB).toFixed(0)).join(' ')}`)
    expect(sizes.length).toBe(10)
    expect(Math.max(...sizes.slice(3))).toBeLessThan(Math.max(...sizes.slice(0, 3)) + SLACK)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
})
