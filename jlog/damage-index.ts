/**
 * What a segment's index can testify about damage. It is a witness only as far as it agrees with every record found
 * so far ("sound up to there"); from the first disagreement on nothing it says is used. Reads, never writes.
 */

import type { DamageBytes } from './damage-bytes.js'
import { INDEX_ENTRY_BYTES } from './format.js'

const NOWHERE = -1

export class IndexWitness {
  readonly #bytes: DamageBytes | null
  /** Entries, without the closing one. */
  readonly #count: number
  /** Ends with the entry that says "this segment is finished". */
  readonly closed: boolean
  readonly #oddSize: boolean
  #at = 0
  #sound = true
  /** End of the last record that was met: no entry may lie before it, unless it was met, too. */
  #settled = 0
  #matched = false
  /** Met an entry whose record is lost. */
  #skipped = false

  constructor(bytes: DamageBytes | null) {
    this.#bytes = bytes
    const entries = bytes === null ? 0 : Math.floor(bytes.size / INDEX_ENTRY_BYTES)
    this.#oddSize = bytes !== null && bytes.size % INDEX_ENTRY_BYTES !== 0
    // A lone 0 is the offset of the first record, not an end.
    this.closed = entries > 1 && this.#entry(entries - 1) === 0
    this.#count = this.closed ? entries - 1 : entries
  }

  /**
   * Tells that something begins at `offset`, in ascending order: a record, or damage where a record should be.
   * @returns the ordinal of what begins there (from 1), or 0 when the index does not say
   */
  meet(offset: number): number {
    this.#matched = false
    if (this.#bytes === null || !this.#sound) return 0
    while (this.#at < this.#count) {
      const entry = this.#entry(this.#at)
      if (entry === offset) {
        this.#matched = true
        return this.#at + 1
      }
      if (entry > offset) {
        this.#sound = false
        return 0
      }
      // An entry before this place stands for a record that was lost, so it must lie in what was cut.
      if (entry < this.#settled || !this.#ascends(this.#at)) {
        this.#sound = false
        return 0
      }
      this.#skipped = true
      this.#at++
    }
    return 0
  }

  /** After `meet(offset)` knew it: where the index says that the next record begins; -1 when it does not say. */
  next(): number {
    if (!this.#matched || this.#at + 1 >= this.#count || !this.#ascends(this.#at + 1))
      return NOWHERE
    return this.#entry(this.#at + 1)
  }

  /** Tells that the record just met is kept and ends at `end`. */
  keep(end: number): void {
    this.#settled = end
    if (this.#matched) this.#at++
    this.#matched = false
  }

  /**
   * After the scan: `sound` when the index, as it stands, is one for just the records that were kept.
   * @param records how many there are
   */
  verdict(records: number): 'absent' | 'sound' | 'unsound' {
    if (this.#bytes === null) return 'absent'
    if (this.#oddSize || !this.#sound || this.#skipped || this.#at < this.#count) return 'unsound'
    return this.closed && this.#at < records ? 'unsound' : 'sound'
  }

  /** From here on nothing it says is used. */
  distrust(): void {
    if (this.#count > 0) this.#sound = false
  }

  /** Offset in the last entry; -1 when there is none. */
  get last(): number {
    return this.#count === 0 ? NOWHERE : this.#entry(this.#count - 1)
  }

  #ascends(i: number): boolean {
    return i === 0 ? this.#entry(0) === 0 : this.#entry(i) > this.#entry(i - 1)
  }

  #entry(i: number): number {
    const at = i * INDEX_ENTRY_BYTES
    this.#bytes!.slide(at)
    return this.#bytes!.word(at) + this.#bytes!.word(at + 4) * 0x1_0000_0000
  }
}
