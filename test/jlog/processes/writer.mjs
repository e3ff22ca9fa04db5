/**
 * Appends records `<who> <n>`, n counting from 0, at about RATE a millisecond until the file STOP is there. Prints a
 * line for each that was acknowledged. Usage: writer.mjs DIR WHO STOP RATE OPTIONS(JSON)
 */
import { existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { openWriter } from '../../../dist/jlog/index.js'
import { ACK_BYTES, Output, payloadOf } from './common.mjs'

const [dir, who, stop, rate, options] = process.argv.slice(2)
const MOST_AT_A_TIME = 256
const output = new Output()
const writer = await openWriter(dir, JSON.parse(options))
const start = performance.now()
let next = 0

function acknowledge(n, { log, marker }) {
  output.line(`${n} ${log} ${marker}`.padEnd(ACK_BYTES - 1))
}

while (!existsSync(stop)) {
  const due = Math.floor((performance.now() - start) * Number(rate)) - next
  if (due <= 0) {
    await delay(1)
    continue
  }
  const from = next
  next += Math.min(due, MOST_AT_A_TIME)
  const payloads = Array.from({ length: next - from }, (_, i) => payloadOf(who, from + i))
  if (from % 3 === 0) {
    const { first } = await writer.appendBatch(payloads)
    for (let n = from; n < next; n++)
      acknowledge(n, { log: first.log, marker: first.marker + n - from })
  } else {
    const ids = await Promise.all(payloads.map((payload) => writer.append(payload)))
    for (let n = from; n < next; n++) acknowledge(n, ids[n - from])
  }
  output.flush()
}
await writer.close()
