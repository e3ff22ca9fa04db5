// POST /v1/messages/batch, messages of 10 KiB, durable and logged, over 64 connections, against POST /v1/messages one by one,
// on services of their own that take turns. BATCH is how many go in one request, TYPE json or ndjson.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ENVELOPE, load, MAIL, median, ROUNDS, startService } from './http-setup.mjs'

const BATCH = Number(process.env.BATCH ?? 50)
const isNdjson = process.env.TYPE !== 'json'
const item = JSON.stringify({
  mailfrom: 'sender@example.com',
  rcptto: ['rcpt@example.net'],
  content: MAIL.toString(),
})
const items = Array(BATCH).fill(item)
const kinds = {
  single: { path: ENVELOPE, type: 'message/rfc822', body: MAIL, messages: 1 },
  batch: isNdjson
    ? { type: 'application/x-ndjson', body: `${items.join('\n')}\n` }
    : { type: 'application/json', body: `[${items.join()}]` },
}
Object.assign(kinds.batch, { path: '/v1/messages/batch', messages: BATCH })

const data = await mkdtemp(join(tmpdir(), 'bobbin-bench-'))
const rows = []
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const [kind, { path, type, body, messages }] of Object.entries(kinds)) {
      const directory = join(data, kind + round)
      const server = await startService(directory)
      const { rate, cpu, p50, p99 } = await load(server, path, type, body)
      const perMessage = Math.round(cpu / messages)
      rows.push({
        kind,
        round,
        'messages/s': rate * messages,
        p50,
        p99,
        'cpu µs/message': perMessage,
      })
      await server.stop()
      await rm(directory, { recursive: true, force: true })
    }
  }
} finally {
  await rm(data, { recursive: true, force: true })
}
const of = (wanted, column) =>
  median(rows.filter(({ kind }) => kind === wanted).map((row) => row[column]))
console.table(rows)
const ratio = of('batch', 'messages/s') / of('single', 'messages/s')
const cpuRatio = of('single', 'cpu µs/message') / of('batch', 'cpu µs/message')
console.log(
  JSON.stringify({
    bench: 'http-batch',
    batch: BATCH,
    ratio: Number(ratio.toFixed(2)),
    cpu: Number(cpuRatio.toFixed(2)),
    target: 2.5,
  }),
)
