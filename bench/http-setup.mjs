// What the benchmarks over HTTP share: servers in processes of their own, load from autocannon, and what a server's CPU cost.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'

export const SECONDS = Number(process.env.BENCH_SECONDS ?? 5)
export const ROUNDS = Number(process.env.ROUNDS ?? 3)
export const CONNECTIONS = 64
export const MAIL = Buffer.alloc(
  10 * 1024,
  'Received: from somewhere by something; a line of mail\r\n',
)
export const ENVELOPE = '/v1/messages?from=sender@example.com&to=rcpt@example.net'

const main = fileURLToPath(new URL('../dist/src/main.js', import.meta.url))
const bare = fileURLToPath(new URL('./http-bare.mjs', import.meta.url))

/** A Fastify route that reads the body and does nothing. */
export const startBare = () => start([bare])
export const startService = (data, env = {}) =>
  start([main, 'serve', '--listen', '127.0.0.1:0', '--data', data], env)

/** A server on a free port. */
async function start(args, env = {}) {
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, address } = JSON.parse(line)
    if (msg !== 'ready') continue
    child.stdout.resume()
    return {
      pid: child.pid,
      address,
      stop: () => {
        child.kill('SIGTERM')
        return once(child, 'exit')
      },
    }
  }
  throw new Error('the server ended')
}

/** Requests a second, latencies in milliseconds, and the server's CPU time, user and system, by request in µs. */
export async function load({ pid, address }, path, type, body, headers = {}) {
  const before = cpuSeconds(pid)
  const { requests, latency, non2xx, errors } = await autocannon({
    url: address + path,
    connections: CONNECTIONS,
    duration: SECONDS,
    method: 'POST',
    headers: { 'content-type': type, ...headers },
    body,
  })
  if (non2xx || errors) throw new Error(`${non2xx} refused, ${errors} failed`)
  const cpu = ((cpuSeconds(pid) - before) * 1e6) / requests.total
  return { rate: requests.average, p50: latency.p50, p99: latency.p99, cpu }
}

/** Of all threads: less noisy than the rate where others use the machine. */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

export const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]
