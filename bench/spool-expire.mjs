// What leaves by itself, and what others' commits take meanwhile: messages whose retention has ended (their own, the
// spool's), and leases that have ended. Baseline: the same commits before. BENCH_MESSAGES sets how many messages there are.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { openSpool } from '../dist/spool/index.js'

const MESSAGES = Number(process.env.BENCH_MESSAGES ?? 50_000)
const SECONDS = Number(process.env.BENCH_SECONDS ?? 3)
const directory = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'bobbin-bench-'))
const body = Buffer.alloc(512, 'x')
const other = { mailfrom: '', rcptto: ['a@b'], body: Buffer.alloc(10_240), nextAttempt: 2 ** 42 }

async function fill(spool, more) {
  for (let at = 0; at < MESSAGES; ) {
    const wave = []
    for (let i = 0; i < 20 && at < MESSAGES; i++) {
      const rcptto = []
      for (let n = 0; n < 100; n++, at++) rcptto.push(`u${at}@domain${at % 10}.example`)
      wave.push(spool.swapOut({ mailfrom: '', rcptto, body, ...more }))
    }
    await Promise.all(wave)
  }
}

/** Commits of others so far. */
let sentSoFar = 0

/** Commits one after the other, until `isOver`; milliseconds each. */
async function commits(spool, isOver) {
  const took = []
  const begin = performance.now()
  while (!(await isOver(performance.now() - begin))) {
    sentSoFar++
    const sent = performance.now()
    await spool.swapOut(other)
    took.push(performance.now() - sent)
    await delay(5)
  }
  took.sort((a, b) => a - b)
  const at = (share) => Number(took[Math.floor(took.length * share)].toFixed(1))
  return { p50: at(0.5), p99: at(0.99), max: at(0.9999) }
}

const rows = []
async function measure(name, { more = {}, prepare = async () => undefined, reopen = {}, left }) {
  sentSoFar = 0
  const path = join(directory, name.replaceAll(' ', '-'))
  let spool = await openSpool({ path })
  await fill(spool, more)
  await prepare(spool)
  const before = await commits(spool, (ms) => ms > SECONDS * 1000)
  const begun = await left(spool)
  await spool.close()
  spool = await openSpool({ path, ...reopen })
  let first
  const during = await commits(spool, async () => {
    const now = await left(spool)
    if (now < begun) first ??= performance.now()
    return now === 0
  })
  const seconds = (performance.now() - first) / 1000
  rows.push({
    ends: name,
    count: begun,
    'a second': Math.round(begun / seconds),
    before: `${before.p50} / ${before.p99} / ${before.max}`,
    meanwhile: `${during.p50} / ${during.p99} / ${during.max}`,
  })
  await spool.close()
}

const stored = async (spool) => (await spool.stats()).messages - sentSoFar
const seconds = Math.ceil(MESSAGES / 5000) + SECONDS
await measure('own retention', { more: { retention: seconds }, left: stored })
await measure('retention of the spool', { reopen: { maxRetention: SECONDS }, left: stored })
await measure('leases', {
  prepare: async (spool) => {
    const end = Date.now() + seconds * 1000
    for (let left = MESSAGES; left > 0; ) {
      const leaseSeconds = (end - Date.now()) / 1000
      left -= (await spool.claim({ limit: 1000, leaseSeconds })).messages.length
    }
  },
  left: async (spool) => (await spool.stats()).leased,
})
console.log('commits of others in ms: p50 / p99 / max')
console.table(rows)
await rm(directory, { recursive: true, force: true })
