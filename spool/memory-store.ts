/**
 * Rows in memory, in key order: what messages lie in that are not spooled yet. Nothing of it outlives the
 * process. Rows are copied as they come, so that none holds a larger buffer.
 */
import {
  BEGINNING,
  DATABASES,
  type DatabaseName,
  type RowDb,
  type RowRange,
  type RowStore,
} from './rows.js'

/** What a row takes beside its bytes, roughly. */
const ROW_BYTES = 250
const BLOCK = 512

export class MemoryStore implements RowStore {
  readonly path: string
  readonly readOnly = false
  readonly wantsRemap = false
  readonly #databases: Record<DatabaseName, MemoryDb>

  /** `path`: of the spool it belongs to. */
  constructor(path: string) {
    this.path = path
    const entries = DATABASES.map((name) => [name, new MemoryDb()])
    this.#databases = Object.fromEntries(entries) as Record<DatabaseName, MemoryDb>
  }

  db(name: DatabaseName): RowDb {
    return this.#databases[name]
  }

  async write(writes: () => void): Promise<void> {
    writes()
  }

  count(name: DatabaseName): number {
    return this.#databases[name].size
  }

  /** What all rows take. */
  get bytes(): number {
    return DATABASES.reduce((sum, name) => sum + this.#databases[name].bytes, 0)
  }

  touched(): void {}

  streamed(): void {}

  remap(): void {}
}

interface Row {
  readonly key: Buffer
  readonly value: Buffer
}

/** Keys lie sorted in blocks, so that none takes long to put in or take out. */
class MemoryDb implements RowDb {
  bytes = 0
  /** By key, a character a byte: in this form keys compare as their bytes do. */
  readonly #rows = new Map<string, Row>()
  #blocks: string[][] = [[]]

  get size(): number {
    return this.#rows.size
  }

  get(key: Buffer): Buffer | undefined {
    return this.#rows.get(nameOf(key))?.value
  }

  getBinaryFast(key: Buffer): Buffer | undefined {
    return this.get(key)
  }

  *getKeys(range: RowRange = {}): Generator<Buffer, void, void> {
    for (const { key } of this.getRange(range)) yield key
  }

  getKeysCount(range: RowRange): number {
    let count = 0
    for (const _ of this.getRange(range)) count++
    return count
  }

  *getRange({
    offset = 0,
    limit = Number.POSITIVE_INFINITY,
    reverse = false,
    start = reverse ? undefined : BEGINNING,
    end = reverse ? BEGINNING : undefined,
    exclusiveStart = false,
  }: RowRange): Generator<Row, void, void> {
    const from = start && nameOf(start)
    const to = end && nameOf(end)
    let before = offset
    let left = limit
    for (const name of reverse ? this.#down(from) : this.#up(from)) {
      if (exclusiveStart && name === from) continue
      if (to !== undefined && (reverse ? name <= to : name >= to)) return
      if (before-- > 0) continue
      if (left-- <= 0) return
      yield this.#rows.get(name) as Row
    }
  }

  put(key: Buffer, value: Buffer): void {
    const name = nameOf(key)
    const before = this.#rows.get(name)
    const row = { key: before?.key ?? copyOf(key), value: copyOf(value) }
    this.#rows.set(name, row)
    this.bytes += value.length - (before?.value.length ?? -(key.length + ROW_BYTES))
    if (before !== undefined) return
    const i = this.#blockOf(name)
    const block = this.#blocks[i] as string[]
    block.splice(placeIn(block, name), 0, name)
    if (block.length > BLOCK) this.#blocks.splice(i + 1, 0, block.splice(BLOCK >> 1))
  }

  remove(key: Buffer): void {
    const name = nameOf(key)
    const row = this.#rows.get(name)
    if (row === undefined) return
    this.#rows.delete(name)
    this.bytes -= row.value.length + row.key.length + ROW_BYTES
    const i = this.#blockOf(name)
    const block = this.#blocks[i] as string[]
    block.splice(placeIn(block, name), 1)
    if (block.length === 0 && this.#blocks.length > 1) this.#blocks.splice(i, 1)
  }

  *#up(from: string | undefined): Generator<string, void, void> {
    const first = from === undefined ? 0 : this.#blockOf(from)
    for (let i = first; i < this.#blocks.length; i++) {
      const block = this.#blocks[i] as string[]
      let n = i === first && from !== undefined ? placeIn(block, from) : 0
      for (; n < block.length; n++) yield block[n] as string
    }
  }

  *#down(from: string | undefined): Generator<string, void, void> {
    const first = from === undefined ? this.#blocks.length - 1 : this.#blockOf(from)
    for (let i = first; i >= 0; i--) {
      const block = this.#blocks[i] as string[]
      let n = block.length - 1
      if (i === first && from !== undefined) {
        n = placeIn(block, from)
        if (block[n] !== from) n--
      }
      for (; n >= 0; n--) yield block[n] as string
    }
  }

  /** The last block that begins at or before the name; the first when none does. */
  #blockOf(name: string): number {
    let low = 0
    let high = this.#blocks.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      const first = this.#blocks[middle]?.[0]
      if (first !== undefined && first <= name) low = middle
      else high = middle - 1
    }
    return low
  }
}

/** Where the name stands, or would. */
function placeIn(block: readonly string[], name: string): number {
  let low = 0
  let high = block.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((block[middle] as string) < name) low = middle + 1
    else high = middle
  }
  return low
}

function nameOf(key: Buffer): string {
  return key.toString('latin1')
}

function copyOf(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  copy.set(bytes)
  return copy
}
