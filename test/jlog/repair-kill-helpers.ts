/** A process that repairs is killed before each of its calls that change the disk; the next repair ends the same way. */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { expect } from 'vitest'
import { repairJournal } from '../../jlog/repair.js'
import { copyOfFixture, FIXTURES, snapshot, temporaryDirectory } from './repair-helpers.js'

const BUILT = fileURLToPath(new URL('../../dist/jlog/repair.js', import.meta.url))
const PRELOAD = fileURLToPath(new URL('./kill-at-call.mjs', import.meta.url))

/** @returns true when it was killed */
function repairKilledAt(dir: string, call: number): boolean {
  const code = `import { repairJournal } from ${JSON.stringify(pathToFileURL(BUILT).href)}
await repairJournal(${JSON.stringify(dir)})`
  const { signal, status, stderr } = spawnSync(
    process.execPath,
    ['--import', PRELOAD, '--input-type=module', '-e', code],
    { env: { ...process.env, KILL_AT: String(call) }, encoding: 'utf8' },
  )
  if (signal === null && status !== 0) throw new Error(stderr)
  return signal === 'SIGKILL'
}

/** Damage of every kind at once: finished segments, the one being written, index, metastore, checkpoints. */
function damagedJournal(live: 'middle' | 'tail'): string {
  const dir = copyOfFixture('bad-bad-magic')
  cpSync(join(FIXTURES, 'bad-mlen-small', '00000006'), join(dir, '00000006'))
  cpSync(join(FIXTURES, 'bad-idx-odd', '00000001.idx'), join(dir, '00000001.idx'))
  const last = readFileSync(join(dir, '00000008'))
  if (live === 'middle') last.fill(0xee, 60, 64)
  writeFileSync(join(dir, '00000008'), live === 'tail' ? last.subarray(0, 400) : last)
  const meta = readFileSync(join(dir, 'metastore'))
  meta.writeUInt32LE(6, 0)
  writeFileSync(join(dir, 'metastore'), meta)
  writeFileSync(join(dir, 'cp.61'), 'short')
  writeFileSync(join(dir, 'cp.62'), Buffer.from([5, 0, 0, 0, 9, 0, 0, 0]))
  writeFileSync(join(dir, 'cp.63'), Buffer.from([8, 0, 0, 0, 4, 0, 0, 0]))
  writeFileSync(join(dir, 'pre_commit'), Buffer.from([9, 0, 0, 0]))
  return dir
}

/** Why it cannot be run, or ''. */
export const UNBUILT = existsSync(BUILT) ? '' : ' (skipped: run `npm run build` first)'

/**
 * Kills a repair before its first call, and each `step`th after that, until one gets through.
 * @returns how many calls a repair makes, at least
 */
export async function killEverywhere(live: 'middle' | 'tail', step: number): Promise<number> {
  const start = damagedJournal(live)
  const copy = () => {
    const dir = temporaryDirectory()
    cpSync(start, dir, { recursive: true })
    return dir
  }
  const reference = copy()
  await repairJournal(reference)
  const expected = snapshot(reference)
  let calls = 1
  for (; ; calls += step) {
    const dir = copy()
    const killed = repairKilledAt(dir, calls)
    // Killed a second time, in what it goes on with.
    if (killed) repairKilledAt(dir, 1 + ((calls * 7) % 11))
    await repairJournal(dir)
    expect(snapshot(dir), `killed before call ${calls}`).toEqual(expected)
    if (!killed) return calls
  }
}
