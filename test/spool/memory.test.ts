// A large message in and out: the process stays small, the pages it has mapped included.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { temporaryDirectory } from './support.js'

const run = promisify(execFile)
const MIB = 1024 * 1024

test('200 MiB in and out grow the process by less than 64 MiB', { timeout: 60_000 }, async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const script = join(import.meta.dirname, 'child-memory.mjs')
  const { stdout } = await run(process.execPath, [script, path, '200'])
  const { grown } = JSON.parse(stdout) as { grown: number }
  expect(grown / MIB).toBeLessThan(64)
})

test('200 MiB imported and exported, too', { timeout: 60_000 }, async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const script = join(import.meta.dirname, 'child-import-memory.mjs')
  const { stdout } = await run(process.execPath, [script, path, '200'])
  const { grown } = JSON.parse(stdout) as { grown: number }
  expect(grown / MIB).toBeLessThan(64)
})
