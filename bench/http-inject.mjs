// POST /v1/messages, 10 KiB, durable and logged, over 64 connections, against a bare Fastify route that reads the same body.
// Each server is a process of its own, as is the load; they take turns, because these machines are noisy.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'

const SECONDS = Number(process.env.BENCH_SECONDS ?? 5)
const ROUNDS = 3
const BODY = Buffer.alloc(10 * 1024, 'Received: from somewhere by something; a line of mail\r\n')

async function start(args, env = {}) {
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, address } = JSON.parse(line)
    if (msg !== 'ready') continue
    child.stdout.resume()
    return { child, address }
  }
  throw new Error('the server ended')
}

async function load(url) {
  const { requests, latency, non2xx, errors } = await autocannon({
    url,
    connections: 64,
    duration: SECONDS,
    method: 'POST',
    headers: { 'content-type': 'message/rfc822' },
    body: BODY,
  })
  if (non2xx || errors) throw new Error(`${non2xx} refused, ${errors} failed`)
  return { rate: requests.average, p50: latency.p50, p99: latency.p99 }
}

/** User and system time of all threads: less noisy than the rate where others use the machine. */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

const data = await mkdtemp(join(tmpdir(), 'bobbin-bench-'))
const main = fileURLToPath(new URL('../dist/src/main.js', import.meta.url))
const bare = fileURLToPath(new URL('./http-bare.mjs', import.meta.url))
const query = '/v1/messages?from=sender@example.com&to=rcpt@example.net'
const rows = []
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, args] of [
      ['bare Fastify', [bare]],
      ['bobbin', [main, 'serve', '--listen', '127.0.0.1:0', '--data', join(data, String(round))]],
    ]) {
      const { child, address } = await start(args)
      const before = cpuSeconds(child.pid)
      const result = await load(address + query)
      const cpu = ((cpuSeconds(child.pid) - before) * 1e6) / (result.rate * SECONDS)
      rows.push({ server: name, round, ...result, 'cpu µs/request': Math.round(cpu) })
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
  }
} finally {
  await rm(data, { recursive: true, force: true })
}
const median = (name) =>
  rows
    .filter(({ server }) => server === name)
    .map(({ rate }) => rate)
    .sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]
console.table(rows)
console.log(
  `bobbin / bare Fastify: ${(median('bobbin') / median('bare Fastify')).toFixed(2)} (target 0.65)`,
)
