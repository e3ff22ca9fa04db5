/**
 * How long a record takes from its append to those who follow the journal, and what following costs when nothing comes. A process of its own
 * appends at a steady rate, each record with the time of its append; the tails are all in this process, as a service has them.
 * Usage: node bench/jlog-live.mjs [--dir DIR] [--rate N] [--seconds N] [--tails N,N] [--size BYTES]
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHistogram } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createJournal, follow, openWriter } from '../dist/jlog/index.js'

const { values } = parseArgs({
  options: {
    dir: { type: 'string', default: tmpdir() },
    rate: { type: 'string', default: '5000' },
    seconds: { type: 'string', default: '4' },
    tails: { type: 'string', default: '1,100' },
    size: { type: 'string', default: '100' },
    'append-to': { type: 'string' },
  },
})
const RATE = Number(values.rate)
const SECONDS = Number(values.seconds)
const MS = 1_000_000

/** At the rate, in steps of a millisecond or what the timer makes of it. */
async function append(dir) {
  const writer = await openWriter(dir)
  const size = Math.max(8, Number(values.size))
  const start = performance.now()
  for (let sent = 0; sent < RATE * SECONDS; ) {
    const due = Math.min(RATE * SECONDS, ((performance.now() - start) * RATE) / 1000)
    const pending = []
    for (; sent < due; sent++) {
      const payload = Buffer.alloc(size)
      payload.writeBigUInt64LE(process.hrtime.bigint())
      pending.push(writer.append(payload))
    }
    await Promise.all(pending)
    await delay(1)
  }
  await writer.close()
}

if (values['append-to'] !== undefined) {
  await append(values['append-to'])
  process.exit()
}

const scratch = await mkdtemp(join(values.dir, 'bobbin-bench-'))

/** So many tails, from before the first append to the last record. */
async function deliver(count) {
  const dir = join(scratch, `${count}`)
  await createJournal(dir)
  const waited = createHistogram()
  const stop = new AbortController()
  const tails = Array.from({ length: count }, async () => {
    let seen = 0
    for await (const batch of follow(dir, { from: 'begin', signal: stop.signal })) {
      const now = process.hrtime.bigint()
      for (let i = 0; i < batch.length; i++)
        waited.record(Math.max(1, Number(now - batch.payload(i).readBigUInt64LE())))
      seen += batch.length
      batch.release()
      if (seen === RATE * SECONDS) break
    }
    return seen
  })
  const before = process.cpuUsage()
  const writer = spawn(
    process.execPath,
    [import.meta.filename, ...process.argv.slice(2), '--append-to', dir],
    { stdio: 'inherit' },
  )
  await once(writer, 'exit')
  await Promise.race([Promise.all(tails), delay(5000, undefined, { ref: false })])
  const { user, system } = process.cpuUsage(before)
  stop.abort()
  const seen = await Promise.all(tails)
  return {
    'p50 ms': Number((waited.percentile(50) / MS).toFixed(2)),
    'p99 ms': Number((waited.percentile(99) / MS).toFixed(2)),
    'max ms': Number((waited.max / MS).toFixed(2)),
    'CPU of a core': `${((user + system) / 1e4 / SECONDS).toFixed(1)} %`,
    missed: seen.reduce((sum, n) => sum + RATE * SECONDS - n, 0),
  }
}

/** Tails of a journal that nobody writes to. */
async function idle(count) {
  const dir = join(scratch, `idle-${count}`)
  await createJournal(dir)
  const writer = await openWriter(dir)
  await writer.append('one')
  await writer.close()
  const stop = new AbortController()
  const tails = Array.from({ length: count }, async () => {
    for await (const _ of follow(dir, { from: 'end', signal: stop.signal }));
  })
  await delay(500)
  const before = process.cpuUsage()
  await delay(SECONDS * 1000)
  const { user, system } = process.cpuUsage(before)
  stop.abort()
  await Promise.all(tails)
  return { 'CPU of a core': `${((user + system) / 1e4 / SECONDS).toFixed(2)} %` }
}

const table = {}
for (const tails of values.tails.split(',').map(Number)) {
  table[`${tails} idle`] = await idle(tails)
  table[`${tails} at ${RATE}/s`] = await deliver(tails)
}
rmSync(scratch, { recursive: true })
console.table(table)
