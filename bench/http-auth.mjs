// What it costs POST /v1/messages, 10 KiB over 64 connections, that callers have tokens: without any, with one token, with a hundred, and
// with requests counted. Each service is a process of its own; they take turns. Read the CPU time, which others disturb least.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createToken } from '../dist/src/tokens.js'
import { ENVELOPE, load, MAIL, median, ROUNDS, startService } from './http-setup.mjs'

const tokens = Array.from({ length: 100 }, (_, i) => createToken(`t${i}`, ['inject']))
const lines = (count) => ({
  BOBBIN_SECURITY_TOKENS: tokens
    .slice(0, count)
    .map(({ line }) => line)
    .join(','),
})
const kinds = {
  open: {},
  'one token': lines(1),
  'a hundred': lines(100),
  counted: { ...lines(1), BOBBIN_LIMITS_RATE: '1000000000' },
}

const data = await mkdtemp(join(tmpdir(), 'bobbin-bench-'))
const rows = []
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const [kind, env] of Object.entries(kinds)) {
      const server = await startService(join(data, kind + round), env)
      const headers = kind === 'open' ? {} : { authorization: `Bearer ${tokens[0].token}` }
      const { cpu, ...result } = await load(server, ENVELOPE, 'message/rfc822', MAIL, headers)
      rows.push({ kind, round, ...result, 'cpu µs/request': Math.round(cpu) })
      await server.stop()
    }
  }
} finally {
  await rm(data, { recursive: true, force: true })
}
console.table(rows)
const cost = (name) =>
  median(rows.filter(({ kind }) => kind === name).map((row) => row['cpu µs/request']))
for (const kind of Object.keys(kinds)) {
  console.log(`${kind}: ${cost(kind)} µs, ${(cost(kind) / cost('open')).toFixed(2)} of open`)
}
