/**
 * Records that were read to index a segment, kept for the subscriber who is to get them next, so that a segment is
 * read once and not twice. Holds a bounded number of bytes, always a run of records without gaps.
 */
import type { BatchLimits, RecordBatch } from './record-batch.js'

/** Twice the default size of a segment. */
const MOST_BYTES = 8 * 1024 * 1024

export class KeptBatches {
  #batches: RecordBatch[] = []
  #bytes = 0

  /**
   * Takes a batch in, if it goes on where the last one ends and there is room.
   * @param passed records up to this marker will not be asked for
   * @returns whether it is kept; otherwise it stays the caller's
   */
  keep(batch: RecordBatch, passed: number): boolean {
    const last = this.#batches.at(-1)
    const follows = last === undefined || last.last.marker + 1 === batch.marker(0)
    const fits = this.#bytes + batch.storedBytes <= MOST_BYTES
    if (batch.last.marker <= passed || !follows || !fits) return false
    this.#batches.push(batch)
    this.#bytes += batch.storedBytes
    return true
  }

  /** Gives away the records from `marker` on, if they are here; those before them are wanted no more. */
  take(marker: number, limits: BatchLimits): RecordBatch | null {
    for (let head = this.#batches[0]; head !== undefined; head = this.#batches[0]) {
      const from = marker - head.marker(0)
      if (from < 0) break
      this.#batches.shift()
      this.#bytes -= head.storedBytes
      if (from >= head.length) {
        head.release()
        continue
      }
      const count = head.fitting(from, limits)
      if (count === head.length) return head
      const rest = head.slice(from + count)
      if (rest.length > 0) {
        this.#batches.unshift(rest)
        this.#bytes += rest.storedBytes
      }
      return head.slice(from, from + count)
    }
    this.clear()
    return null
  }

  clear(): void {
    for (const batch of this.#batches) batch.release()
    this.#batches = []
    this.#bytes = 0
  }
}
