/**
 * A writer in a process of its own, to be raced, limited and killed. Prints a line for each acknowledged record,
 * `<n> <log> <marker>`, and last one JSON document of how it ended.
 * Usage: append-child.mjs DIR PREFIX COUNT IN_FLIGHT BYTES DIRECT
 */
import { openWriter } from '../../dist/jlog/index.js'

const [dir, prefix, count, inFlight, bytes, direct] = process.argv.slice(2)
const writer = await openWriter(dir, { direct: direct === 'true' })
const outcome = { acknowledged: 0, failure: null, refused: null, closed: null }
let next = 0

async function caller() {
  while (next < Number(count)) {
    const n = next++
    const text = `${prefix} ${n} `
    const id = await writer.append(text.padEnd(Number(bytes), '.'))
    outcome.acknowledged++
    process.stdout.write(`${n} ${id.log} ${id.marker}\n`)
  }
}

const code = (error) => error.code
await Promise.allSettled(Array.from({ length: Number(inFlight) }, caller))
outcome.failure = writer.failure && code(writer.failure)
if (writer.failure) outcome.refused = await writer.append('one more').then(() => 'taken', code)
outcome.closed = await writer.close().then(() => true, code)
process.stdout.write(`${JSON.stringify(outcome)}\n`)
