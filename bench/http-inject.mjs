// POST /v1/messages, 10 KiB, durable and logged, over 64 connections, against a bare Fastify route that reads the same body.
// Each server is a process of its own, as is the load; they take turns, because these machines are noisy.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ENVELOPE, load, MAIL, median, ROUNDS, startBare, startService } from './http-setup.mjs'

const data = await mkdtemp(join(tmpdir(), 'bobbin-bench-'))
const rows = []
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, start] of [
      ['bare Fastify', startBare],
      ['bobbin', () => startService(join(data, String(round)))],
    ]) {
      const server = await start()
      const { cpu, ...result } = await load(server, ENVELOPE, 'message/rfc822', MAIL)
      rows.push({ server: name, round, ...result, 'cpu µs/request': Math.round(cpu) })
      await server.stop()
    }
  }
} finally {
  await rm(data, { recursive: true, force: true })
}
const rate = (name) => median(rows.filter(({ server }) => server === name).map(({ rate }) => rate))
console.table(rows)
console.log(
  `bobbin / bare Fastify: ${(rate('bobbin') / rate('bare Fastify')).toFixed(2)} (target 0.65)`,
)
