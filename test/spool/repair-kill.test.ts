// Repair is killed at random moments, again and again, until one run gets through: the end is the same as
// that of a repair that nobody disturbed.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { checkSpool, openSpool, repairSpool } from '../../spool/index.js'
import { Store } from '../../spool/store.js'
import { bytes, message, temporaryDirectory, temporarySpool } from './support.js'

const KILLS = Number(process.env.TEST_KILLS ?? 2)

/** Kills it `after` so many milliseconds of mending; true when it had finished before. */
async function repairAndKill(path: string, after: number): Promise<boolean> {
  const script = join(import.meta.dirname, 'child-repair.mjs')
  const child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'close')
  let said = ''
  let isMending = false
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString()
    if (isMending || !said.includes('mending')) return
    isMending = true
    void delay(after).then(() => child.kill('SIGKILL'))
  })
  await ended
  return said.includes('done')
}

/** What is there: messages with their contents, and the names and bytes in quarantine. */
async function stateOf(
  path: string,
): Promise<Record<'messages' | 'stats' | 'kept' | 'notes', unknown>> {
  const spool = await openSpool({ path, readOnly: true })
  try {
    const { messages } = await spool.list({ limit: 1000 })
    const { outbox: _, readOnly: _readOnly, ...stats } = await spool.stats()
    const files = (await readdir(join(path, 'quarantine'))).filter(
      (name) => !name.endsWith('.json'),
    )
    const kept: [string, string][] = []
    for (const name of files.toSorted()) {
      if (name.endsWith('.tmp')) continue
      kept.push([name, (await readFile(join(path, 'quarantine', name))).toString('base64')])
    }
    const notes = (await spool.upkeep.quarantine.list({ limit: 1000 })).entries
    return { messages, stats, kept, notes: notes.map(({ time: _time, ...note }) => note) }
  } finally {
    await spool.close()
  }
}

test(`${KILLS} kills of a repair change nothing of its end`, {
  timeout: 60_000 + KILLS * 10_000,
}, async () => {
  const directory = await temporaryDirectory()
  const path = join(directory, 'spool')
  const spool = await temporarySpool({ path })
  for (let i = 0; i < 150; i++) {
    const rcptto = Array.from({ length: 1 + (i % 3) }, (_, n) => `r${n}@d${i % 5}.example`)
    await spool.swapOut(message(bytes((i % 40) * 1000, i), { rcptto }))
  }
  await spool.close()
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  const every = (name: 'messages' | 'chunks' | 'queue' | 'refs', n: number) =>
    [...store.db(name).getKeys()].filter((_, i) => i % n === 0)
  const damaged = { metas: every('messages', 7), chunks: every('chunks', 5) }
  const removed = { queue: every('queue', 3), refs: every('refs', 2) }
  await store.write(() => {
    for (const key of damaged.metas) void store.db('messages').put(key, Buffer.from('nonsense'))
    for (const key of damaged.chunks) void store.db('chunks').remove(key)
    for (const key of removed.queue) void store.db('queue').remove(key)
    for (const key of removed.refs) void store.db('refs').remove(key)
  })
  await store.close()

  const undisturbed = join(directory, 'undisturbed')
  await cp(path, undisturbed, { recursive: true })
  const { after, quarantined } = await repairSpool(undisturbed)
  expect(after.found).toBe(0)
  expect(quarantined).toBeGreaterThan(50)

  let kills = 0
  const damagedCopy = join(directory, 'damaged')
  await cp(path, damagedCopy, { recursive: true })
  for (;;) {
    if (!(await repairAndKill(path, Math.random() * (kills < KILLS ? 60 : 60_000)))) kills++
    else if (kills > 0) break
    else {
      // It was faster than who was to kill it: once more from the beginning.
      await rm(path, { recursive: true })
      await cp(damagedCopy, path, { recursive: true })
    }
  }
  await repairSpool(path)
  expect(await checkSpool(path)).toMatchObject({ found: 0 })
  const end = await stateOf(path)
  const expected = await stateOf(undisturbed)
  for (const part of ['messages', 'stats', 'notes', 'kept'] as const) {
    expect(JSON.stringify(end[part], null, 1), part).toBe(JSON.stringify(expected[part], null, 1))
  }
})
