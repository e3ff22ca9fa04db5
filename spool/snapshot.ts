/**
 * One consistent look at the store: every read sees the same commit, whatever is written meanwhile. While
 * it is held LMDB cannot reuse pages, so the file of a busy spool grows: let go of it soon.
 */
import type { Transaction } from 'lmdb'
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

  /** Keys and values are the caller's. */
  *range(
    db: DatabaseName,
    range: SnapshotRange = {},
  ): Generator<{ key: Buffer; value: Buffer }, void, void> {
    const options = { ...range, transaction: this.#transaction }
    for (const { key, value } of this.#store.db(db).getRange(options)) {
      yield { key: Buffer.from(key), value }
    }
  }

  *keys(db: DatabaseName, range: SnapshotRange = {}): Generator<Buffer, void, void> {
    const options = { ...range, transaction: this.#transaction }
    for (const key of this.#store.db(db).getKeys(options)) yield Buffer.from(key)
  }

  /** Once. */
  done(): void {
    this.#store.endRead(this.#transaction)
  }
}
