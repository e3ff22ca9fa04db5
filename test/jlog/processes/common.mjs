/**
 * What the processes of the multi-process runs share: records that show whose they are, which, and whether they are
 * whole; output that is written when the call returns, so that a kill takes back nothing that was said.
 */
import { readFileSync, writeSync } from 'node:fs'
import { crc32 } from 'node:zlib'

/** Bytes of a line that acknowledges a record, so that a file's size tells how many there are. */
export const ACK_BYTES = 40

/** Most are short; some are longer than a page, or a few. */
export function payloadOf(who, n) {
  const padding = n % 499 === 498 ? 9000 : (n * 7919) % 180
  const text = `${who} ${n} ${'.'.repeat(padding)}`
  return `${text} ${crc32(text).toString(16).padStart(8, '0')}`
}

/** @returns `<who> <n>`, or `torn` when these are not the bytes that were written */
export function labelOf(payload) {
  const text = payload.toString('latin1')
  const [who, n] = text.split(' ', 2)
  return text === payloadOf(who, Number(n)) ? `${who} ${n}` : 'torn'
}

/** Lines on stdout, which is a file: written when `flush` returns. */
export class Output {
  #lines = []

  line(text) {
    this.#lines.push(text)
  }

  flush() {
    if (this.#lines.length === 0) return
    const bytes = Buffer.from(`${this.#lines.join('\n')}\n`)
    this.#lines = []
    for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done)
  }
}

/** The id at which everything ends, once the file that says so is there. */
export function finalId(file) {
  try {
    const [log, marker] = readFileSync(file, 'utf8').split(' ').map(Number)
    return { log, marker }
  } catch {
    return null
  }
}

export function reached(id, final) {
  return (
    final !== null && (id.log > final.log || (id.log === final.log && id.marker >= final.marker))
  )
}

/** As random as needed, and the same each time for the same seed. */
export function randomFrom(seed) {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 0x1_0000_0000
  }
}
