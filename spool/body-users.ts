/**
 * Which bodies messages have, and how many messages each: what counts are held against. Messages do not
 * lie in the order of their bodies, so all pairs are gathered in a table of fixed size; bodies that do
 * not fit are left for a further pass over the messages (`next`). Half a million bodies fit into one pass.
 */
import { ID_BYTES } from './message-id.js'

/** body (16), a message that has it (16), digest of size and hash (4), messages (4) */
const ROW = 40
const AT_ID = 16
const AT_DIGEST = 32
const AT_USERS = 36

export interface BodyUse {
  readonly body: Buffer
  /** One of the messages. */
  readonly id: Buffer
  readonly users: number
  /** Messages disagree about what the body is. */
  readonly disagree: boolean
}

export class BodyUsers {
  readonly #capacity: number
  #rows: Buffer
  #size = 0
  /** Bodies up to here were in passes before; undefined on the first. */
  #after: Buffer | undefined
  /** Bodies beyond are left for the next pass; undefined: none. */
  #last: Buffer | undefined
  readonly #disagreeing = new Set<number>()

  constructor(capacity = 1 << 19) {
    this.#capacity = capacity
    this.#rows = Buffer.alloc(Math.min(capacity, 1024) * ROW)
  }

  /** The bodies of this pass: above the first, up to the second. */
  get window(): { after: Buffer | undefined; last: Buffer | undefined } {
    return { after: this.#after, last: this.#last }
  }

  add(body: Buffer, id: Buffer, digest: number): void {
    if (this.#after !== undefined && body.compare(this.#after) <= 0) return
    if (this.#last !== undefined && body.compare(this.#last) > 0) return
    if (this.#size === this.#capacity) {
      this.#merge()
      if (this.#size > this.#capacity >> 1) this.#cut()
      if (this.#last !== undefined && body.compare(this.#last) > 0) return
    }
    this.#append(body, id, digest >>> 0, 1)
  }

  /** After the last `add` of a pass. */
  finish(): void {
    this.#merge()
  }

  /** Begins the pass after this one; false when there is none. */
  next(): boolean {
    if (this.#last === undefined) return false
    this.#after = this.#last
    this.#last = undefined
    this.#size = 0
    this.#disagreeing.clear()
    return true
  }

  get size(): number {
    return this.#size
  }

  at(i: number): BodyUse {
    const at = i * ROW
    return {
      body: Buffer.from(this.#rows.subarray(at, at + ID_BYTES)),
      id: Buffer.from(this.#rows.subarray(at + AT_ID, at + AT_ID + ID_BYTES)),
      users: this.#rows.readUInt32BE(at + AT_USERS),
      disagree: this.#disagreeing.has(i),
    }
  }

  /** The row of a body, after `finish`; -1 when no message has it. */
  find(body: Buffer): number {
    if (body.length !== ID_BYTES) return -1
    let low = 0
    let high = this.#size - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const order = this.#compareBody(middle, body)
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle - 1
    }
    return -1
  }

  #append(body: Buffer, id: Buffer, digest: number, users: number): void {
    const at = this.#size++ * ROW
    if (at === this.#rows.length) {
      const rows = Buffer.alloc(Math.min(this.#capacity * ROW, this.#rows.length * 2))
      this.#rows.copy(rows)
      this.#rows = rows
    }
    body.copy(this.#rows, at, 0, ID_BYTES)
    id.copy(this.#rows, at + AT_ID, 0, ID_BYTES)
    this.#rows.writeUInt32BE(digest, at + AT_DIGEST)
    this.#rows.writeUInt32BE(users, at + AT_USERS)
  }

  /** Sorts by body, and makes one row of all that have the same. */
  #merge(): void {
    const rows = this.#rows
    const order = new Uint32Array(this.#size)
    for (let i = 0; i < order.length; i++) order[i] = i
    let isSorted = true
    for (let i = 1; i < order.length && isSorted; i++) isSorted = this.#compare(i - 1, i) <= 0
    if (!isSorted) order.sort((a, b) => this.#compare(a, b))
    const disagreeing = new Set<number>()
    const merged = isSorted ? rows : Buffer.allocUnsafe(rows.length)
    let size = 0
    for (const i of order) {
      const from = i * ROW
      const before = (size - 1) * ROW
      if (
        size > 0 &&
        rows.compare(merged, before, before + ID_BYTES, from, from + ID_BYTES) === 0
      ) {
        const users = merged.readUInt32BE(before + AT_USERS) + rows.readUInt32BE(from + AT_USERS)
        merged.writeUInt32BE(users, before + AT_USERS)
        const same = merged.readUInt32BE(before + AT_DIGEST) === rows.readUInt32BE(from + AT_DIGEST)
        if (!same || this.#disagreeing.has(i)) disagreeing.add(size - 1)
        continue
      }
      if (this.#disagreeing.has(i)) disagreeing.add(size)
      if (merged !== rows || from !== size * ROW) rows.copy(merged, size * ROW, from, from + ROW)
      size++
    }
    this.#rows = merged
    this.#size = size
    this.#disagreeing.clear()
    for (const i of disagreeing) this.#disagreeing.add(i)
  }

  /** Leaves the upper half for the next pass. */
  #cut(): void {
    this.#size = Math.max(1, this.#capacity >> 1)
    const at = (this.#size - 1) * ROW
    this.#last = Buffer.from(this.#rows.subarray(at, at + ID_BYTES))
    for (const i of this.#disagreeing) if (i >= this.#size) this.#disagreeing.delete(i)
  }

  #compare(a: number, b: number): number {
    const rows = this.#rows
    return rows.compare(rows, b * ROW, b * ROW + ID_BYTES, a * ROW, a * ROW + ID_BYTES)
  }

  #compareBody(i: number, body: Buffer): number {
    return this.#rows.compare(body, 0, ID_BYTES, i * ROW, i * ROW + ID_BYTES)
  }
}
