/**
 * Group commit: operations queue up while a transaction is under way and go into the next one together.
 * At most one LMDB transaction is under way, so an operation sees everything before it: what is
 * committed, and what earlier operations of its group wrote. An operation that throws leaves nothing; the
 * others of its group are not touched. An operation is answered when its group is on the disk.
 *
 * When a commit fails, nothing of the group is acknowledged. A full disk is the callers' error and the
 * next group tries again; after any other failure (the kernel may have dropped the pages of a failed
 * sync) the committer takes no more writes.
 */
import { statfsSync } from 'node:fs'
import { type Activity, NO_ACTIVITY, type SpoolObserver, type Waiting } from './activity.js'
import { SpoolError } from './errors.js'
import type { EventType } from './event-types.js'
import { CHUNK_BYTES, type Counters } from './layout.js'
import type { DatabaseName, RowStore } from './rows.js'

/** Databases whose rows are read, changed and written back within a transaction. */
const TRACKED: ReadonlySet<DatabaseName> = new Set([
  'messages',
  'refs',
  'staged',
  'leases',
  'imports',
  'state',
  'idempotency',
])

/** Enough work for the writing thread to start on when it is idle; the rest is prepared meanwhile. */
const START_WEIGHT = 512 * 1024
/** An operation weighs its bytes and this much. */
const OPERATION_WEIGHT = 1024
const MAX_GROUP_WEIGHT = 8 * 1024 * 1024

/** The spool's sums, which are written with each commit, and those that are not. */
export type AllCounters = Counters & Activity
type CounterName = keyof AllCounters

interface Write {
  readonly db: DatabaseName
  readonly key: Buffer
  /** undefined: remove. */
  readonly value: Buffer | undefined
  /** What the overlay held before, for a tracked database. */
  readonly before: Buffer | null | undefined
  readonly track: string | undefined
}

/** A log record on its way into the outbox. */
export interface LoggedRecord {
  readonly journal: string
  readonly sec: number
  readonly usec: number
  readonly payload: string
}

/** What an operation works on. */
export class Transaction {
  readonly writes: Write[] = []
  readonly records: LoggedRecord[] = []
  /** What happened to messages, whether or not it is logged. */
  readonly events: EventType[] = []
  readonly #store: RowStore
  readonly #overlay = new Map<string, Buffer | null>()
  #counters: Record<CounterName, number>

  constructor(store: RowStore, counters: AllCounters) {
    this.#store = store
    this.#counters = { ...counters }
  }

  get counters(): AllCounters {
    return this.#counters
  }

  /** A row of a tracked database as it will be. */
  get(db: DatabaseName, key: Buffer): Buffer | undefined {
    const seen = this.#overlay.get(db + key.toString('latin1'))
    return seen === undefined ? this.#store.db(db).get(key) : (seen ?? undefined)
  }

  /** Whether this transaction wrote or removed the row of a tracked database. */
  wrote(db: DatabaseName, key: Buffer): boolean {
    return this.#overlay.has(db + key.toString('latin1'))
  }

  put(db: DatabaseName, key: Buffer, value: Buffer): void {
    this.#write(db, key, value)
  }

  /** As `put`, for a row that no other operation of this transaction can know of: its id is new. */
  putNew(db: DatabaseName, key: Buffer, value: Buffer): void {
    this.writes.push({ db, key, value, before: undefined, track: undefined })
  }

  remove(db: DatabaseName, key: Buffer): void {
    this.#write(db, key, undefined)
  }

  add(counter: CounterName, delta: number): void {
    this.#counters[counter] += delta
  }

  log(record: LoggedRecord): void {
    this.records.push(record)
  }

  /** Runs an operation; when it throws, takes back what it wrote. */
  run<T>(operation: (tx: Transaction) => T): T {
    const writes = this.writes.length
    const records = this.records.length
    const events = this.events.length
    const counters = this.#counters
    this.#counters = { ...counters }
    try {
      return operation(this)
    } catch (error) {
      while (this.writes.length > writes) this.#undo(this.writes.pop() as Write)
      this.records.length = records
      this.events.length = events
      this.#counters = counters
      throw error
    }
  }

  #write(db: DatabaseName, key: Buffer, value: Buffer | undefined): void {
    if (!TRACKED.has(db)) {
      this.writes.push({ db, key, value, before: undefined, track: undefined })
      return
    }
    const track = db + key.toString('latin1')
    this.writes.push({ db, key, value, before: this.#overlay.get(track), track })
    this.#overlay.set(track, value ?? null)
  }

  #undo({ track, before }: Write): void {
    if (track === undefined) return
    if (before === undefined) this.#overlay.delete(track)
    else this.#overlay.set(track, before)
  }
}

export type Operation<T> = (tx: Transaction) => T

interface Queued {
  run(tx: Transaction): void
  readonly weight: number
  /** When it was submitted. */
  readonly since: number
  settle(): void
  fail(error: SpoolError): void
}

export interface CommitterHooks {
  /** What has to be durable elsewhere before the transaction is written; fails it when that fails. */
  settle?(tx: Transaction): Promise<void>
  /** Called last in each transaction that has something to write; may write more. */
  beforeCommit(tx: Transaction): void
  /** Called once that transaction is committed. */
  afterCommit(tx: Transaction): void
}

export class Committer {
  readonly #store: RowStore
  readonly #hooks: CommitterHooks
  readonly #observer: SpoolObserver | undefined
  #counters: AllCounters
  #queue: Queued[] = []
  #queuedWeight = 0
  #underWay = false
  /** Of the group under way: its weight, and when its first was submitted. */
  #weight = 0
  #since = 0
  #scheduled = false
  #refusal: SpoolError | null = null
  #idle: (() => void)[] = []
  #alone: (() => Promise<unknown>)[] = []

  constructor(
    store: RowStore,
    counters: Counters,
    hooks: CommitterHooks,
    observer?: SpoolObserver,
  ) {
    this.#store = store
    this.#counters = { ...counters, ...NO_ACTIVITY }
    this.#observer = observer
    this.#hooks = hooks
  }

  /** As of the last commit. */
  get counters(): AllCounters {
    return this.#counters
  }

  get waiting(): Waiting {
    const since = this.#underWay ? this.#since : (this.#queue[0]?.since ?? null)
    return {
      bytes: this.#queuedWeight + (this.#underWay ? this.#weight : 0),
      milliseconds: since === null ? 0 : performance.now() - since,
    }
  }

  /** Why no writes are taken; null when they are. */
  get refusal(): SpoolError | null {
    return this.#refusal
  }

  /** `weight`: bytes to be written. Resolves with the operation's result when it is on the disk. */
  submit<T>(operation: Operation<T>, weight: number): Promise<T> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal)
    return new Promise<T>((resolve, reject) => {
      let result: T
      let thrown: unknown
      let threw = false
      this.#queue.push({
        run(tx) {
          try {
            result = tx.run(operation)
          } catch (error) {
            threw = true
            thrown = error
          }
        },
        weight: weight + OPERATION_WEIGHT,
        since: performance.now(),
        settle: () => (threw ? reject(thrown) : resolve(result)),
        fail: (error) => reject(threw ? thrown : error),
      })
      this.#queuedWeight += weight + OPERATION_WEIGHT
      if (!this.#underWay) {
        if (this.#queuedWeight >= START_WEIGHT) this.#start()
        else this.#schedule()
      }
    })
  }

  /** Refuses all that comes; what is queued still goes through. */
  refuse(error: SpoolError): void {
    this.#refusal ??= error
  }

  /** Runs the task while nothing is written: what is submitted meanwhile waits for its end. */
  alone<T>(task: () => Promise<T>): Promise<T> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal)
    return new Promise<T>((resolve, reject) => {
      this.#alone.push(() => task().then(resolve, reject))
      if (!this.#underWay) this.#next()
    })
  }

  #runAlone(task: () => Promise<unknown>): void {
    this.#underWay = true
    this.#weight = 0
    this.#since = performance.now()
    void task().finally(() => {
      this.#underWay = false
      // Not the next such task: what has waited for this one comes first.
      if (this.#queue.length > 0) this.#start()
      else this.#next()
    })
  }

  /** Resolves when nothing is queued or under way. */
  idle(): Promise<void> {
    if (!this.#underWay && this.#queue.length === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  /** Asks for the store's map to be renewed at the next moment without a transaction. */
  remapSoon(): void {
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled || this.#underWay) return
    this.#scheduled = true
    // After the event turn: requests that arrived together share a commit.
    setImmediate(() => {
      this.#scheduled = false
      if (this.#underWay) return
      if (this.#wantsRemap) this.#store.remap()
      this.#start()
    })
  }

  #start(): void {
    if (this.#queue.length === 0) {
      this.#signalIdle()
      return
    }
    const queuedWeight = this.#queuedWeight
    const group = this.#take()
    this.#weight = queuedWeight - this.#queuedWeight
    this.#since = (group[0] as Queued).since
    const tx = new Transaction(this.#store, this.#counters)
    for (const queued of group) queued.run(tx)
    this.#underWay = true
    const start = performance.now()
    this.#commit(tx).then(
      () => this.#succeeded(group, tx, performance.now() - start),
      (cause: unknown) => this.#failed(group, cause),
    )
  }

  async #commit(tx: Transaction): Promise<void> {
    const { writes } = tx
    // Here, so that what it throws, over a damaged page say, fails the group and not the process.
    if (writes.length > 0 || tx.records.length > 0) this.#hooks.beforeCommit(tx)
    if (this.#hooks.settle !== undefined) await this.#hooks.settle(tx)
    if (writes.length === 0) return
    this.#store.touched(bytesMapped(writes))
    try {
      await this.#store.write(() => {
        for (const { db, key, value } of writes) {
          if (value === undefined) void this.#store.db(db).remove(key)
          else void this.#store.db(db).put(key, value)
        }
      })
    } catch (error) {
      throw await rootCause(error)
    }
  }

  #take(): Queued[] {
    if (this.#queuedWeight <= MAX_GROUP_WEIGHT) {
      const group = this.#queue
      this.#queue = []
      this.#queuedWeight = 0
      return group
    }
    let weight = 0
    let n = 0
    while (n < this.#queue.length && (n === 0 || weight < MAX_GROUP_WEIGHT)) {
      weight += (this.#queue[n] as Queued).weight
      n++
    }
    this.#queuedWeight -= weight
    return this.#queue.splice(0, n)
  }

  #succeeded(group: Queued[], tx: Transaction, milliseconds: number): void {
    this.#underWay = false
    this.#counters = tx.counters
    const isWorthTelling = tx.writes.length > 0 || tx.events.length > 0
    if (this.#observer !== undefined && isWorthTelling) {
      this.#observer.committed({ milliseconds, operations: group.length, events: tx.events })
    }
    // After a group that wrote nothing, what the hooks hold may be of one before it that failed.
    if (tx.writes.length > 0) this.#hooks.afterCommit(tx)
    // The disk first: while it works, this thread answers those it has finished with.
    this.#next()
    for (const queued of group) queued.settle()
  }

  #failed(group: Queued[], cause: unknown): void {
    this.#underWay = false
    const weight = group.reduce((sum, queued) => sum + queued.weight, 0)
    // An error of ours is one of the store that it was to be settled in.
    const error =
      cause instanceof SpoolError ? cause : describeFailure(cause, this.#store.path, weight)
    this.#observer?.commitFailed(error.code)
    if (error.code !== 'SPOOL_ERR_FULL') {
      const refusal = new SpoolError(
        'SPOOL_ERR_READ_ONLY',
        'the spool takes no writes since a write or sync failed',
        {
          file: this.#store.path,
          cause: error.cause,
          advice: 'check the disk, then restart the service',
        },
      )
      this.#refusal ??= refusal
      for (const queued of this.#queue.splice(0)) queued.fail(refusal)
      this.#queuedWeight = 0
    }
    this.#next()
    for (const queued of group) queued.fail(error)
  }

  /** Not on a disk that failed: what is mapped can still be read. */
  get #wantsRemap(): boolean {
    return (this.#refusal === null || this.#store.readOnly) && this.#store.wantsRemap
  }

  #next(): void {
    const task = this.#alone.shift()
    if (task !== undefined) this.#runAlone(task)
    else if (this.#wantsRemap) this.#schedule()
    else if (this.#queue.length > 0) this.#start()
    else this.#signalIdle()
  }

  #signalIdle(): void {
    for (const resolve of this.#idle.splice(0)) resolve()
  }
}

/**
 * Bytes of the map that a transaction has LMDB look at, at most: what it deletes, and of what it writes
 * a part (measured: about a quarter, when it reuses space).
 */
function bytesMapped(writes: readonly Write[]): number {
  let bytes = 0
  for (const { db, value } of writes) {
    if (value !== undefined) bytes += value.length >> 2
    else if (db === 'chunks') bytes += CHUNK_BYTES
  }
  return bytes
}

/** lmdb-js says only "Commit failed" and gives the reason in a promise of its own. */
async function rootCause(error: unknown): Promise<unknown> {
  const { commitError } = error as { commitError?: Promise<unknown> }
  if (commitError === undefined) return error
  try {
    await commitError
  } catch (cause) {
    return cause
  }
  return error
}

const EIO = 5
const ENOSPC = 28
const EDQUOT = 122

/** Beside what was to be written: LMDB's own pages. */
const ROOM = 1024 * 1024

function describeFailure(cause: unknown, file: string, weight: number): SpoolError {
  const code = (cause as { code?: unknown }).code
  // A write that the disk took a part of is EIO to LMDB, and that is how a disk gets full.
  const full =
    code === ENOSPC || code === EDQUOT || (code === EIO && freeBytes(file) < weight + ROOM)
  if (full) {
    return new SpoolError('SPOOL_ERR_FULL', 'no room on the disk', {
      file,
      cause,
      advice: 'free some space; writing goes on by itself',
    })
  }
  return new SpoolError('SPOOL_ERR_WRITE', 'the write failed, nothing of it was stored', {
    file,
    cause,
    advice: 'check the disk, then restart the service',
  })
}

/** ext4 keeps back up to so many blocks, 2 % of a small disk, which even root cannot have but is told are free. */
const EXT4_RESERVED_BLOCKS = 4096

/** That this process may use, at the least; infinite when it cannot be told. */
function freeBytes(path: string): number {
  try {
    const { bavail, bfree, blocks, bsize } = statfsSync(path)
    if (process.getuid?.() !== 0) return bavail * bsize
    return Math.max(0, bfree - Math.min(blocks / 50, EXT4_RESERVED_BLOCKS)) * bsize
  } catch {
    return Number.POSITIVE_INFINITY
  }
}
