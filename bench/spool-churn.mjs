// Steady churn: messages of 0.5 KiB to 2 MiB come and go at random while so many bytes are live. How the last tenth of the time compares
// with the first, and how large the file is beside the most bytes that were ever live. Usage: [BENCH_MINUTES=10] node bench/spool-churn.mjs
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSpool } from '../dist/spool/index.js'

const MINUTES = Number(process.env.BENCH_MINUTES ?? 1)
const LIVE_BYTES = 256 * 1024 * 1024
const IN_FLIGHT = 32
const SMALLEST = 512
const LARGEST = 2 * 1024 * 1024
const TENTHS = 10

const content = Buffer.alloc(
  LARGEST,
  'a line of mail, as long as lines of mail often are, or nearly\r\n',
)

/** Small ones are many, large ones few: each doubling of the size is as likely. */
function randomBody() {
  const size = Math.floor(SMALLEST * (LARGEST / SMALLEST) ** Math.random())
  return content.subarray(0, size)
}

const path = await mkdtemp(join(tmpdir(), 'bobbin-bench-'))
const spool = await openSpool({ path })
const live = []
let liveBytes = 0
let mostLive = 0
let stored = 0

async function storeOne() {
  const body = randomBody()
  const { ids } = await spool.swapOut({
    mailfrom: 'a@example.com',
    rcptto: ['b@example.net'],
    body,
  })
  live.push({ id: ids[0], size: body.length })
  liveBytes += body.length
  mostLive = Math.max(mostLive, liveBytes)
  stored++
}

async function removeOne() {
  const at = Math.floor(Math.random() * live.length)
  const message = live[at]
  live[at] = live[live.length - 1]
  live.pop()
  liveBytes -= message.size
  await spool.swapRemove(message.id)
}

async function lane(until) {
  while (performance.now() < until) {
    await storeOne()
    while (liveBytes > LIVE_BYTES) await removeOne()
  }
}

async function fill() {
  while (liveBytes < LIVE_BYTES) await storeOne()
}

try {
  await Promise.all(Array.from({ length: IN_FLIGHT }, fill))
  const rates = []
  for (let tenth = 0; tenth < TENTHS; tenth++) {
    const before = stored
    const start = performance.now()
    const until = start + (MINUTES * 60_000) / TENTHS
    await Promise.all(Array.from({ length: IN_FLIGHT }, () => lane(until)))
    rates.push(((stored - before) / (performance.now() - start)) * 1000)
    const { size } = await stat(join(path, 'data.mdb'))
    console.log(
      `${String((tenth + 1) * 10).padStart(3)} %: ${rates.at(-1).toFixed(0).padStart(6)} stored/s,`,
      `${live.length} live, file ${(size / mostLive).toFixed(2)} of the most live bytes`,
    )
  }
  console.log(
    `last tenth / first: ${(rates.at(-1) / rates[0]).toFixed(2)} (target 0.95), over ${MINUTES} minutes`,
  )
} finally {
  await spool.close()
  await rm(path, { recursive: true, force: true })
}
