/**
 * Changes of the queue that the index by binding and domain does not have yet: as they wait in memory, as they are
 * written to its log, and as rows of the index in the order of their keys.
 */
import { CHUNK_BYTES, cut, lanePrefix, QUEUE_KEY_BYTES } from './layout.js'

const EMPTY = Buffer.alloc(0)

/** A key of `queue` and its value in one: true is a row that was made, false one that was removed. */
export type Changes = Map<string, boolean>

/** What is done and undone before it reached the index need not reach it. */
export function note(changes: Changes, row: string, made: boolean): void {
  const was = changes.get(row)
  if (was === undefined) changes.set(row, made)
  else if (was !== made) changes.delete(row)
}

interface Lane {
  readonly prefix: Buffer
  readonly rows: { row: string; value: Buffer }[]
}

/** In the order of their keys, so that a page is written once. */
export function sorted(changes: Changes): { key: Buffer; value: Buffer; made: boolean }[] {
  const lanes = new Map<string, Lane>()
  const laneOf = (prefix: Buffer): Lane => {
    const name = prefix.toString('latin1')
    const lane = lanes.get(name) ?? { prefix, rows: [] }
    lanes.set(name, lane)
    return lane
  }
  // Most rows have a value that another had before: what follows from it is made once.
  const known = new Map<string, { byDomain: Lane; byBinding: Lane; value: Buffer }>()
  for (const row of changes.keys()) {
    const text = row.slice(QUEUE_KEY_BYTES)
    let lane = known.get(text)
    if (lane === undefined) {
      const { binding, domain } = splitValue(text)
      lane = {
        byDomain: laneOf(lanePrefix('domain', domain, binding)),
        byBinding: laneOf(lanePrefix('binding', binding)),
        value: Buffer.from(domain),
      }
      known.set(text, lane)
    }
    lane.byDomain.rows.push({ row, value: EMPTY })
    lane.byBinding.rows.push({ row, value: lane.value })
  }
  const found: { key: Buffer; value: Buffer; made: boolean }[] = []
  for (const { prefix, rows } of [...lanes.values()].sort((a, b) => a.prefix.compare(b.prefix))) {
    rows.sort((a, b) => (a.row < b.row ? -1 : a.row > b.row ? 1 : 0))
    for (const { row, value } of rows) {
      const key = cut(prefix.length + QUEUE_KEY_BYTES)
      key.set(prefix)
      key.write(row.slice(0, QUEUE_KEY_BYTES), prefix.length, 'latin1')
      found.push({ key, value, made: changes.get(row) as boolean })
    }
  }
  return found
}

function splitValue(value: string): { binding: string; domain: string } {
  const bytes = Buffer.from(value, 'latin1')
  const middle = bytes.indexOf(0)
  return { binding: bytes.toString('utf8', 0, middle), domain: bytes.toString('utf8', middle + 1) }
}

export function laneValue(binding: string, domain: string): string {
  return latin1(`${binding}\0${domain}`)
}

/** UTF-8, a character a byte: how rows are told apart and sorted. */
export function latin1(text: string): string {
  return Buffer.from(text).toString('latin1')
}

const MADE = 1

/** Rows of the log: for each change whether it was made (1), the length of its value (2), key and value. */
export function* packLog(changes: readonly [string, boolean][]): Generator<Buffer, void, void> {
  for (let from = 0; from < changes.length; ) {
    let bytes = 0
    let to = from
    while (to < changes.length) {
      const size = 3 + (changes[to] as [string, boolean])[0].length
      if (to > from && bytes + size > CHUNK_BYTES) break
      bytes += size
      to++
    }
    const packed = cut(bytes)
    let at = 0
    for (; from < to; from++) {
      const [row, made] = changes[from] as [string, boolean]
      packed[at] = made ? MADE : 0
      packed.writeUInt16BE(row.length - QUEUE_KEY_BYTES, at + 1)
      at += 3 + packed.write(row, at + 3, 'latin1')
    }
    yield packed
  }
}

/** What the rows of the log come to, in order, for the check. Throws for what is no such row. */
export function addLaneLog(changes: Map<string, boolean>, packed: Buffer): void {
  for (const [row, made] of unpackLog(packed)) note(changes, row, made)
}

export function* unpackLog(packed: Buffer): Generator<[string, boolean], void, void> {
  for (let at = 0; at < packed.length; ) {
    const end = at + 3 + QUEUE_KEY_BYTES + packed.readUInt16BE(at + 1)
    if (end > packed.length) throw new RangeError('a change is longer than its row')
    yield [packed.toString('latin1', at + 3, end), packed[at] === MADE]
    at = end
  }
}
