// A service over a million due messages against one over ten thousand, both in this run: how long it takes to be ready,
// claims of 100, injection (10 KiB, 64 connections), and its memory before and after. MESSAGES sets the larger spool.
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSpool } from '../dist/spool/index.js'
import { ENVELOPE, load, MAIL, median, ROUNDS, startService } from './http-setup.mjs'

const MESSAGES = Number(process.env.MESSAGES ?? 1_000_000)
const SIZES = { small: 10_000, large: MESSAGES }
const CLAIMS = 51
const MIB = 1024 * 1024

async function fill(data, count) {
  const spool = await openSpool({ path: join(data, 'spool') })
  const body = Buffer.alloc(512, 'x')
  for (let at = 0; at < count; ) {
    const wave = []
    for (let i = 0; i < 20 && at < count; i++) {
      const rcptto = []
      for (let n = 0; n < 100; n++, at++) rcptto.push(`u${at}@domain${at % 10}.example`)
      wave.push(spool.swapOut({ mailfrom: '', rcptto, body, binding: `b${(at / 100) % 5}` }))
    }
    await Promise.all(wave)
  }
  await spool.close()
}

/** MiB: what the process itself holds, and all that is mapped into it, pages of the page cache included. */
function memory(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const of = (name) => (Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1]) * 1024) / MIB
  return { own: of('RssAnon'), all: of('VmRSS') }
}

async function claim({ address }) {
  const begin = performance.now()
  const answer = await fetch(`${address}/v1/claims`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"limit":100,"lease_seconds":600}',
  })
  const { lease, messages } = await answer.json()
  const took = performance.now() - begin
  if (messages.length !== 100) throw new Error(`${messages.length} claimed`)
  const released = await fetch(`${address}/v1/claims/${lease}`, { method: 'DELETE' })
  await released.arrayBuffer()
  return took
}

const directory = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'bobbin-bench-'))
const found = {}
const running = {}
try {
  for (const [size, count] of Object.entries(SIZES)) {
    await fill(join(directory, size), count)
    found[size] = { ready: [], claim: [], rate: [] }
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const size of Object.keys(SIZES)) {
      await running[size]?.stop()
      const begin = performance.now()
      running[size] = await startService(join(directory, size))
      found[size].ready.push(performance.now() - begin)
      found[size].idle = memory(running[size].pid)
    }
    for (let i = -5; i < CLAIMS; i++) {
      for (const [size, service] of Object.entries(running)) {
        const took = await claim(service)
        if (i >= 0) found[size].claim.push(took)
      }
    }
    const turns = Object.entries(running)
    if (round % 2 === 1) turns.reverse()
    for (const [size, service] of turns) {
      found[size].claimed = memory(service.pid)
      found[size].rate.push((await load(service, ENVELOPE, 'message/rfc822', MAIL)).rate)
      found[size].loaded = memory(service.pid)
    }
  }
} finally {
  for (const service of Object.values(running)) await service.stop()
  await rm(directory, { recursive: true, force: true })
}
const row = (name, of, digits = 0) => {
  const [small, large] = [of(found.small), of(found.large)]
  const round = (value) => Number(value.toFixed(digits))
  return {
    '': name,
    'of 10,000': round(small),
    [`of ${MESSAGES}`]: round(large),
    ratio: Number((large / small).toFixed(2)),
    more: round(large - small),
  }
}
console.table([
  row('ms to ready', ({ ready }) => median(ready)),
  row('ms of a claim of 100', ({ claim }) => median(claim), 2),
  row('injections a second', ({ rate }) => median(rate)),
  ...['idle', 'claimed', 'loaded'].flatMap((when) => [
    row(`MiB of its own, ${when}`, (one) => one[when].own),
    row(`MiB with mapped pages, ${when}`, (one) => one[when].all),
  ]),
])
