/**
 * One consistent look at the store: every read sees the same commit, whatever is written meanwhile. While
 * it is held LMDB cannot reuse pages, so the file of a busy spool grows: let go of it soon.
 */
import type { Transaction } from 'lmdb'
import { assertEnded } from './range-end.js'
import type { DatabaseName } from './rows.js'
import type { Store } from './store.js'

export interface SnapshotRange {
  start?: Buffer
  end?: Buffer
  limit?: number
}

export class Snapshot {
  readonly #store: Store
  readonly #transaction: Transaction

  constructor(store: Store) {
    this.#store = store
    this.#transaction = store.beginRead()
  }

  get(db: DatabaseName, key: Buffer): Buffer | undefined {
    return this.#store.db(db).get(key, { transaction: this.#transaction })
  }

  /** Keys and values are the caller's. Throws SPOOL_ERR_CORRUPT at a page that cannot be read, where the range is not bounded. */
  *range(
    db: DatabaseName,
    range: SnapshotRange = {},
  ): Generator<{ key: Buffer; value: Buffer }, void, void> {
    const options = { ...range, transaction: this.#transaction }
    let last: Buffer | null = null
    for (const { key, value } of this.#store.db(db).getRange(options)) {
      last = Buffer.from(key)
      yield { key: last, value }
    }
    this.#assertEnded(db, last, range)
  }

  *keys(db: DatabaseName, range: SnapshotRange = {}): Generator<Buffer, void, void> {
    const options = { ...range, transaction: this.#transaction }
    let last: Buffer | null = null
    for (const key of this.#store.db(db).getKeys(options)) {
      last = Buffer.from(key)
      yield last
    }
    this.#assertEnded(db, last, range)
  }

  #assertEnded(db: DatabaseName, last: Buffer | null, { start, end, limit }: SnapshotRange): void {
    // What is missing of a bounded one, as of the chunks of a body, is found by what names it.
    if (end !== undefined || limit !== undefined) return
    assertEnded(this.#store, db, last, { start, transaction: this.#transaction })
  }

  /** Once. */
  done(): void {
    this.#store.endRead(this.#transaction)
  }
}
