// From append to delivery by Server-Sent Events: records are appended over REST at a steady rate, each with the time of its
// append, while one tail follows the journal, and then a hundred. Service, appender and tails are a process each.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHistogram } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const RATE = 5000
const SECONDS = Number(process.env.BENCH_SECONDS ?? 5)
const SIZE = 100
const EVERY_MS = 5
const DATA = '"data":"'

if (process.argv[2] === 'append') {
  await append(process.argv[3])
} else if (process.argv[2] === 'tail') {
  await tail(process.argv[3], Number(process.argv[4]))
} else {
  await main()
}

/** Batches of records over one connection, as they fall due. */
async function append(url) {
  const agent = new Agent({ keepAlive: true, maxSockets: 4 })
  const start = performance.now()
  let failed = 0
  const answers = []
  for (let sent = 0; sent < RATE * SECONDS; ) {
    const due = Math.min(RATE * SECONDS, Math.floor(((performance.now() - start) * RATE) / 1000))
    if (due > sent) {
      const line = `${process.hrtime.bigint() / 1000n}`.padEnd(SIZE, '.')
      answers.push(post(url, agent, `${line}\n`.repeat(due - sent)).catch(() => failed++))
      sent = due
    }
    await delay(EVERY_MS)
  }
  await Promise.all(answers)
  agent.destroy()
  if (failed > 0) throw new Error(`${failed} appends failed`)
}

async function post(url, agent, body) {
  const headers = { 'content-type': 'application/x-ndjson' }
  const sent = request(url, { agent, method: 'POST', headers })
  sent.end(body)
  const [answer] = await once(sent, 'response')
  answer.resume()
  await once(answer, 'end')
  if (answer.statusCode !== 201) throw new Error(`status ${answer.statusCode}`)
}

/** `count` tails; the age of the oldest record of each piece that arrives, and how many records arrived. */
async function tail(url, count) {
  const ages = createHistogram()
  const tails = []
  for (let n = 0; n < count; n++) {
    const sent = request(url, { agent: false })
    sent.end()
    const [answer] = await once(sent, 'response')
    const state = { records: 0, answer }
    answer.on('data', (piece) => take(state, piece, ages))
    tails.push(state)
  }
  process.send('ready')
  await once(process, 'message')
  // What is under way arrives; there is no last event to wait for.
  await delay(500)
  const records = tails.map((state) => state.records)
  process.send({
    records: Math.min(...records),
    p50: ages.percentile(50),
    p99: ages.percentile(99),
  })
  for (const { answer } of tails) answer.destroy()
  process.disconnect()
}

function take(state, piece, ages) {
  const now = Number(process.hrtime.bigint() / 1000n)
  for (let at = piece.indexOf('\n\n'); at >= 0; at = piece.indexOf('\n\n', at + 2)) state.records++
  const at = piece.indexOf(DATA)
  // A piece may begin in the middle of an event, and the field may be cut.
  if (at < 0 || at + 40 > piece.length) return
  const text = Buffer.from(piece.toString('latin1', at + DATA.length, at + 32), 'base64').toString()
  ages.record(Math.max(1, now - Number.parseInt(text, 10)))
}

async function main() {
  const data = await mkdtemp(join(tmpdir(), 'bobbin-bench-'))
  const program = fileURLToPath(new URL('../dist/src/main.js', import.meta.url))
  const serve = ['serve', '--listen', '127.0.0.1:0', '--data', data]
  const server = spawn(process.execPath, [program, ...serve], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const address = await ready(server)
    console.log(`${RATE} records/s of ${SIZE} bytes for ${SECONDS} s; ms from append to delivery`)
    for (const count of [1, 100]) {
      const journal = `${address}/v1/journals/tails-${count}`
      await fetch(journal, { method: 'PUT' })
      const self = fileURLToPath(import.meta.url)
      const tails = spawn(process.execPath, [self, 'tail', `${journal}/tail`, String(count)], {
        stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
      })
      await once(tails, 'message')
      const appender = spawn(process.execPath, [self, 'append', `${journal}/records`], {
        stdio: 'inherit',
      })
      const [code] = await once(appender, 'exit')
      if (code !== 0) throw new Error('the appender failed')
      tails.send('done')
      const [{ records, p50, p99 }] = await once(tails, 'message')
      console.log(
        `${String(count).padStart(3)} tails: p50 ${(p50 / 1000).toFixed(1)}, p99 ${(p99 / 1000).toFixed(1)}`,
        `(target 50); each got ${records} of ${RATE * SECONDS}`,
      )
    }
  } finally {
    server.kill('SIGTERM')
    await once(server, 'exit')
    await rm(data, { recursive: true, force: true })
  }
}

async function ready(server) {
  for await (const line of createInterface({ input: server.stdout })) {
    const { msg, address } = JSON.parse(line)
    if (msg !== 'ready') continue
    server.stdout.resume()
    return address
  }
  throw new Error('the server ended')
}
