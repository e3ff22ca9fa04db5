// A message's whole life over REST (inject, claim, swap in, delivery) against injection alone, 10 KiB, durable and logged,
// over 64 connections. The two take turns on services of their own. Claims take 100, reports go in bulk; SINGLE=1 reports
// each delivery in a request of its own.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const MESSAGES = Number(process.env.MESSAGES ?? 10_000)
const ROUNDS = Number(process.env.ROUNDS ?? 3)
const CONNECTIONS = 64
const FRONT_ENDS = 4
const BODY = Buffer.alloc(10 * 1024, 'Received: from somewhere by something; a line of mail\r\n')
const main = fileURLToPath(new URL('../dist/src/main.js', import.meta.url))

async function start(data) {
  const args = [main, 'serve', '--listen', '127.0.0.1:0', '--data', data]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, address } = JSON.parse(line)
    if (msg !== 'ready') continue
    child.stdout.resume()
    return { child, address }
  }
  throw new Error('the server ended')
}

function client(address) {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const { hostname, port } = new URL(address)
  return (method, path, type, body) =>
    new Promise((resolve, reject) => {
      const headers =
        body === undefined ? {} : { 'content-type': type, 'content-length': body.length }
      const sent = request({ agent, hostname, port, method, path, headers }, (response) => {
        const parts = []
        response.on('data', (part) => parts.push(part))
        response.on('error', reject)
        response.on('end', () => {
          const answer = Buffer.concat(parts)
          if (response.statusCode >= 300) reject(new Error(answer.toString()))
          else resolve(answer)
        })
      })
      sent.on('error', reject)
      sent.end(body)
    })
}

async function pool(size, work) {
  await Promise.all(Array.from({ length: size }, work))
}

async function inject(call, connections) {
  let started = 0
  await pool(connections, async () => {
    while (started++ < MESSAGES) {
      await call('POST', '/v1/messages?from=a@example.com&to=b@example.net', 'message/rfc822', BODY)
    }
  })
}

async function deliver(call) {
  let left = MESSAGES
  await pool(FRONT_ENDS, async () => {
    while (left > 0) {
      const claim = Buffer.from('{"limit":100,"lease_seconds":60}')
      const { messages } = JSON.parse(await call('POST', '/v1/claims', 'application/json', claim))
      left -= messages.length
      const lines = await Promise.all(
        messages.map(async ({ id, lease }) => {
          await call('GET', `/v1/messages/${id}/content`)
          const event = { type: 'delivery', lease, peer: '192.0.2.1' }
          if (!process.env.SINGLE) return JSON.stringify({ id, ...event })
          const body = Buffer.from(JSON.stringify(event))
          return call('POST', `/v1/messages/${id}/events`, 'application/json', body)
        }),
      )
      if (process.env.SINGLE || lines.length === 0) continue
      const body = Buffer.from(lines.join('\n'))
      const { failed } = JSON.parse(await call('POST', '/v1/events', 'application/x-ndjson', body))
      if (failed > 0) throw new Error(`${failed} reports failed`)
    }
  })
}

const directory = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'bobbin-bench-'))
const rates = { inject: [], life: [] }
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const kind of ['inject', 'life']) {
      const { child, address } = await start(join(directory, `${kind}${round}`))
      const call = client(address)
      const begin = performance.now()
      // In a whole life both go on at once, as they do in a service.
      if (kind === 'inject') await inject(call, CONNECTIONS)
      else await Promise.all([inject(call, CONNECTIONS / 2), deliver(call)])
      rates[kind].push((MESSAGES * 1000) / (performance.now() - begin))
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
  }
} finally {
  await rm(directory, { recursive: true, force: true })
}
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]
const [injection, life] = [median(rates.inject), median(rates.life)]
console.log(
  JSON.stringify({
    bench: 'http-life',
    unit: 'messages/s',
    injection: Math.round(injection),
    life: Math.round(life),
    ratio: Number((life / injection).toFixed(2)),
    target: 0.3,
  }),
)
