/**
 * Message ids: UUID version 7 (RFC 9562 section 5.7), so that they sort by time of creation. Within a
 * spool each is above the one before, also when the clock steps back: the 12 bits after the time count
 * (RFC 9562 section 6.2, method 1), and the time runs ahead when they are used up.
 */
import { randomFillSync } from 'node:crypto'
import { invalid } from './errors.js'

export const ID_BYTES = 16

const TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
const RANDOM_BYTES = 8192

export class IdGenerator {
  #time = 0
  #count = 0
  readonly #random = Buffer.alloc(RANDOM_BYTES)
  #randomUsed = RANDOM_BYTES

  /** Never gives an id at or below this one. */
  startAfter(id: Buffer): void {
    const time = id.readUIntBE(0, 6)
    const count = id.readUInt16BE(6) & 0xfff
    if (time > this.#time || (time === this.#time && count > this.#count)) {
      this.#time = time
      this.#count = count
    }
  }

  /** Every id given so far is at or below this one, without its random bits. */
  get last(): Buffer {
    const id = Buffer.alloc(ID_BYTES)
    id.writeUIntBE(this.#time, 0, 6)
    id.writeUInt16BE(0x7000 | this.#count, 6)
    return id
  }

  next(now: number = Date.now()): Buffer {
    if (this.#randomUsed + 10 > RANDOM_BYTES) {
      randomFillSync(this.#random)
      this.#randomUsed = 0
    }
    const at = this.#randomUsed
    this.#randomUsed += 10
    if (now > this.#time) {
      this.#time = now
      // Half the range stays free for the ids of the same millisecond.
      this.#count = this.#random.readUInt16BE(at + 8) & 0x7ff
    } else if (++this.#count > 0xfff) {
      this.#time++
      this.#count = 0
    }
    const id = Buffer.allocUnsafe(ID_BYTES)
    id.writeUIntBE(this.#time, 0, 6)
    id.writeUInt16BE(0x7000 | this.#count, 6)
    this.#random.copy(id, 8, at, at + 8)
    id[8] = ((id[8] as number) & 0x3f) | 0x80
    return id
  }
}

/** An id as of this time, for a message that is older than its place in this spool; above and below none. */
export function idAt(time: number): Buffer {
  const id = randomFillSync(Buffer.allocUnsafe(ID_BYTES))
  id.writeUIntBE(Math.floor(time), 0, 6)
  id[6] = ((id[6] as number) & 0x0f) | 0x70
  id[8] = ((id[8] as number) & 0x3f) | 0x80
  return id
}

export function formatId(id: Buffer): string {
  const hex = id.toString('hex', 0, ID_BYTES)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** Throws SPOOL_ERR_INVALID for what is no UUID. */
export function parseId(text: string, field = 'id', what = 'a message id'): Buffer {
  if (typeof text !== 'string' || !TEXT.test(text)) throw invalid(field, `not ${what} (a UUID)`)
  return Buffer.from(text.replaceAll('-', ''), 'hex')
}

/** The token of a claim, which is a UUID, too. Throws SPOOL_ERR_INVALID. */
export function parseToken(text: string, field = 'id'): Buffer {
  return parseId(text, field, 'the token of a claim')
}
