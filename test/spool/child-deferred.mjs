// Stores messages, deferred and not, into the spool in argv[2]; says on standard output what it was answered,
// a JSON line each, and waits to be killed.
import { writeSync } from 'node:fs'
import { openSpool } from '../../dist/spool/index.js'

const spool = await openSpool({
  path: process.argv[2],
  unsafeSpooling: true,
  maxResidentMessages: 20,
  events: { format: 'json', journalOf: () => 'mainlog' },
})
for (let n = 0; n < 60; n++) {
  const durability = n % 4 === 3 ? 'durable' : 'deferred'
  const answer = await spool.swapOut({
    mailfrom: '',
    rcptto: ['a@example.com'],
    body: Buffer.from(`body ${n}`),
    durability,
  })
  writeSync(1, `${JSON.stringify({ ...answer, n })}\n`)
}
const { messages } = await spool.claim({ limit: 1 })
await spool.dispose(messages[0].id, { type: 'delivery' })
writeSync(1, `${JSON.stringify({ delivered: messages[0].id })}\n`)
setInterval(() => undefined, 1000)
