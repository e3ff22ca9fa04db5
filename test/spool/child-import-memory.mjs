// Imports a message of argv[3] MiB from an mbox into the spool in argv[2] and exports it again, and prints by how
// much the process grew at most, in bytes, beyond what it was after a first small one.
import { open, rm } from 'node:fs/promises'
import { exportMessages, exportSource, openSpool } from '../../dist/spool/index.js'

const [path, mebibytes] = process.argv.slice(2)
const line = `${'abcdefghij'.repeat(7)}\n`
const piece = Buffer.from(line.repeat(Math.floor((1024 * 1024) / line.length)))

async function through(count, name) {
  const file = await open(`${path}.${name}`, 'w')
  await file.write(`From a@example.org now\nX-Envelope-To: ${name}@example.com\n\n`)
  for (let i = 0; i < count; i++) await file.write(piece)
  await file.close()
  const spool = await openSpool({ path })
  const report = await spool.importFrom(`${path}.${name}`)
  await spool.close()
  const reading = await openSpool({ path, readOnly: true })
  const out = await exportMessages(exportSource(reading), `${path}.out-${name}`, { format: 'mbox' })
  await reading.close()
  if (report.imported !== 1 || out.failed + out.skipped > 0) throw new Error('not all of it')
  await rm(`${path}.${name}`)
}

await through(1, 'small')
const before = process.memoryUsage.rss()
let most = before
const watch = setInterval(() => {
  most = Math.max(most, process.memoryUsage.rss())
}, 5)
await through(Number(mebibytes), 'large')
clearInterval(watch)
most = Math.max(most, process.memoryUsage.rss())
console.log(JSON.stringify({ before, most, grown: most - before }))
