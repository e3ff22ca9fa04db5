/** Rows of bytes in key order, in named databases: what the spool's parts need of a store. */
export const DATABASES = [
  'messages',
  'chunks',
  'refs',
  'staged',
  'queue',
  'lanes',
  'lanelog',
  'leases',
  'expiry',
  'outbox',
  'state',
  'idempotency',
  'imports',
] as const
export type DatabaseName = (typeof DATABASES)[number]

/**
 * From `start`, inclusive, up to `end`, exclusive; with `reverse` downwards. Without them a range is bounded by
 * `BEGINNING`: `exclusiveStart` alone passes that key over, and so does `reverse` without `end`. No key of ours is it.
 */
export interface RowRange {
  start?: Buffer
  end?: Buffer
  /** So many are passed over. */
  offset?: number
  limit?: number
  reverse?: boolean
  exclusiveStart?: boolean
}

/** Where lmdb-js lets ranges begin, and those in reverse end, unless told. */
export const BEGINNING = Buffer.from([0])

export interface RowDb {
  get(key: Buffer): Buffer | undefined
  /** As `get`; the bytes stand only until the next call, and the buffer may be larger than its length says. */
  getBinaryFast(key: Buffer): Buffer | undefined
  /** Keys stand until the next one. */
  getKeys(range?: RowRange): Iterable<Buffer>
  getKeysCount(range: RowRange): number
  getRange(range: RowRange): Iterable<{ key: Buffer; value: Buffer }>
  put(key: Buffer, value: Buffer): unknown
  remove(key: Buffer): unknown
}

export interface RowStore {
  readonly path: string
  readonly readOnly: boolean
  db(name: DatabaseName): RowDb
  /** What `writes` puts and removes, all of it or nothing; kept as well as this store keeps when it resolves. */
  write(writes: () => void): Promise<unknown>
  count(name: DatabaseName): number
  /** Counts bytes read, for a store that has to hand pages back. */
  touched(bytes: number): void
  streamed(bytes: number): void
  readonly wantsRemap: boolean
  remap(): void
}
