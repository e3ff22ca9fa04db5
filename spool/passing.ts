/**
 * Bytes that stream by leave their buffers as garbage, and V8 is in no hurry: to its young generation a buffer is a small
 * object, however many bytes hang on it, so tens of MiB of them pile up before it looks. Who streams through here has
 * them collected on the way (measured: 50 µs a time), and the process stays small.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const COLLECT_EVERY_BYTES = 8 * 1024 * 1024

type Collect = (options: { type: 'minor' }) => void

let collect: Collect | undefined
let passed = 0

/** So many bytes have passed: collects when that is enough. */
export function passedBy(bytes: number): void {
  passed += bytes
  if (passed < COLLECT_EVERY_BYTES) return
  passed = 0
  collect ??= collector()
  collect({ type: 'minor' })
}

/** The source, as it is. */
export async function* passing(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const bytes of source) {
    passedBy(bytes.length)
    yield bytes
  }
}

/** Not before it is needed: who only embeds the spool may never let so much pass. */
function collector(): Collect {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as Collect
}
