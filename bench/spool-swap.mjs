// swap_out and swap_in of 10 KiB messages against bare lmdb-js putting and getting the same chunks in the
// same run: the rounds of both take turns, so that a slow moment of the disk meets both. What is
// compared is the median round.
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open } from 'lmdb'
import { openSpool } from '../dist/spool/index.js'

const SIZE = Number(process.env.SIZE ?? 10 * 1024)
const IN_FLIGHT = Number(process.env.IN_FLIGHT ?? 256)
const ROUNDS = Number(process.env.ROUNDS ?? 9)
const MESSAGES = Number(process.env.MESSAGES ?? 20_000)
const DOMAINS = Number(process.env.DOMAINS ?? 100)
const CHUNK = 16_000

const directory = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'bobbin-bench-'))
const bodies = Array.from({ length: 64 }, () => randomBytes(SIZE))

const bare = open({
  path: join(directory, 'bare'),
  overlappingSync: false,
  encoding: 'binary',
  keyEncoding: 'binary',
  noSubdir: false,
  mapSize: 2 ** 36,
})
const spool = await openSpool({
  path: join(directory, 'spool'),
  events: { format: 'json', journalOf: () => 'mainlog' },
})

let bareKeys = []
let ids = []
let next = 0

function chunkKey(message, n) {
  const key = Buffer.alloc(20)
  key.writeUInt32BE(message, 12)
  key.writeUInt32BE(n, 16)
  return key
}

async function barePut() {
  const message = next++
  const body = bodies[message & 63]
  let last
  for (let at = 0, n = 0; at < body.length; at += CHUNK, n++) {
    last = bare.put(chunkKey(message, n), body.subarray(at, at + CHUNK))
  }
  await last
  bareKeys.push(message)
}

async function swapOut() {
  const n = next++
  const { ids: made } = await spool.swapOut({
    mailfrom: 'sender@example.org',
    rcptto: [`recipient${n % 1000}@domain${n % DOMAINS}.example`],
    body: bodies[n & 63],
    connectionId: 'connection',
    batchId: 'batch',
    context: { conn: { remote_ip: '192.0.2.1', helo: 'mx.example.org' }, mess: { campaign: '17' } },
  })
  ids.push(made[0])
}

async function bareGet(i) {
  const message = bareKeys[i]
  for (let at = 0, n = 0; at < SIZE; at += CHUNK, n++) bare.get(chunkKey(message, n))
}

async function swapIn(i) {
  const body = await spool.swapIn(ids[i])
  await body.buffer()
}

/** Operations a second, `IN_FLIGHT` at a time. */
async function rate(count, operation) {
  let started = 0
  const begin = process.hrtime.bigint()
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (started < count) await operation(started++)
    }),
  )
  return (count * 1e9) / Number(process.hrtime.bigint() - begin)
}

/** The relay's part: without it the outbox would grow for ever. */
async function relayAll() {
  for (;;) {
    const records = spool.outbox.pending('mainlog', { maxRecords: 10_000, maxBytes: 1 << 24 })
    if (records.length === 0) return
    await spool.outbox.done('mainlog', records.at(-1).seq)
  }
}

async function removeAll() {
  await bare.batch(() => {
    for (const message of bareKeys) {
      for (let n = 0; n * CHUNK < SIZE; n++) void bare.remove(chunkKey(message, n))
    }
  })
  await Promise.all(ids.map((id) => spool.swapRemove(id)))
  bareKeys = []
  ids = []
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]
const rates = { barePut: [], swapOut: [], bareGet: [], swapIn: [] }
for (let round = -1; round < ROUNDS; round++) {
  next = 0
  const put = await rate(MESSAGES, barePut)
  next = 0
  const out = await rate(MESSAGES, swapOut)
  const get = await rate(MESSAGES, bareGet)
  const into = await rate(MESSAGES, swapIn)
  await relayAll()
  await removeAll()
  if (process.env.V) console.error(round, put | 0, out | 0, get | 0, into | 0)
  if (round < 0) continue // warming up
  rates.barePut.push(put)
  rates.swapOut.push(out)
  rates.bareGet.push(get)
  rates.swapIn.push(into)
}

const report = Object.fromEntries(Object.entries(rates).map(([k, v]) => [k, Math.round(median(v))]))
console.log(
  JSON.stringify({
    bench: 'spool-swap',
    size: SIZE,
    inFlight: IN_FLIGHT,
    unit: 'messages/s',
    ...report,
    swapOutRatio: Number((report.swapOut / report.barePut).toFixed(2)),
    swapInRatio: Number((report.swapIn / report.bareGet).toFixed(2)),
  }),
)
await spool.close()
await bare.close()
await rm(directory, { recursive: true, force: true })
