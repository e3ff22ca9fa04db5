// Claiming 100 due messages, of any kind, of a domain, of a binding, of both: from a spool of a million and
// from one of ten thousand in the same run. The rounds of both take turns. MESSAGES sets the larger one.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSpool } from '../dist/spool/index.js'

const MESSAGES = Number(process.env.MESSAGES ?? 1_000_000)
const SMALL = 10_000
const ROUNDS = Number(process.env.ROUNDS ?? 31)
const RARE = 200

const directory = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'bobbin-bench-'))
const body = Buffer.alloc(512, 'x')

async function fill(name, count) {
  const spool = await openSpool({ path: join(directory, name) })
  for (let at = 0; at < count; ) {
    const waves = []
    for (let i = 0; i < 20 && at < count; i++) {
      const rcptto = []
      // One domain and one binding in the middle of all that have few messages.
      for (let n = 0; n < 100; n++, at++) {
        const rare = at % Math.floor(count / RARE) === 0
        rcptto.push(`u${at}@${rare ? 'rare' : `domain${at % 10}`}.example`)
      }
      waves.push(spool.swapOut({ mailfrom: '', rcptto, body, binding: `b${(at / 100) % 5}` }))
    }
    await Promise.all(waves)
  }
  return spool
}

const spools = { small: await fill('small', SMALL), large: await fill('large', MESSAGES) }
const filters = {
  any: {},
  domain: { domain: 'domain7.example' },
  'rare domain': { domain: 'rare.example' },
  binding: { binding: 'b3' },
  both: { domain: 'domain7.example', binding: 'b3' },
}
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]
const rows = []
for (const [name, filter] of Object.entries(filters)) {
  const times = { small: [], large: [] }
  let claimed = 0
  for (let round = -3; round < ROUNDS; round++) {
    for (const [size, spool] of Object.entries(spools)) {
      const begin = performance.now()
      const { lease, messages } = await spool.claim({ limit: 100, leaseSeconds: 600, ...filter })
      const took = performance.now() - begin
      claimed = messages.length
      if (lease !== null) await spool.releaseClaim(lease)
      if (round >= 0) times[size].push(took)
    }
  }
  const [small, large] = [median(times.small), median(times.large)]
  rows.push({
    claim: name,
    claimed,
    'ms of 10,000': Number(small.toFixed(2)),
    [`ms of ${MESSAGES}`]: Number(large.toFixed(2)),
    ratio: Number((large / small).toFixed(2)),
  })
}
console.table(rows)
for (const spool of Object.values(spools)) await spool.close()
await rm(directory, { recursive: true, force: true })
