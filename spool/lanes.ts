/**
 * The queue by binding and by domain, for claims that ask for one of them. A row a message in each of
 * them, written with the message, would touch a page a domain at every commit; so a commit only appends
 * what it changed of the queue to a log (one row), and the changes go into the index later, many at a
 * time and sorted. What the index does not have yet is held in memory, bounded, and read with it. A
 * message that comes and goes in between never reaches the index at all.
 *
 * A lane row is a hint: whoever takes one holds it against the message's record.
 */
import type { Committer, Transaction } from './committer.js'
import {
  CHUNK_BYTES,
  cut,
  laneLogKey,
  lanePrefix,
  QUEUE_KEY_BYTES,
  queueKey,
  splitDomainLane,
  splitLaneLogKey,
} from './layout.js'
import { ID_BYTES } from './message-id.js'
import type { RowStore } from './rows.js'

/** Changes that wait at most, and characters of them, for names may be long; then they go into the index. */
const MAX_WAITING = 65_536
const MAX_WAITING_BYTES = 8 * 1024 * 1024
/** A claim by lane reads what waits: with more of it, it is put into the index first. */
const MAX_WAITING_READ = 4096
/** Bindings of a domain that are read together, and those that a claim looks at, at most. */
const MAX_BINDINGS = 256
const MAX_BINDINGS_LOOKED = 4096
/** Domains with more bindings than are read together, whose turn is remembered. */
const MAX_TURNS = 1000

const FIRST_ID = Buffer.alloc(ID_BYTES)
const EMPTY = Buffer.alloc(0)

export interface LaneFilter {
  readonly binding?: string | undefined
  /** In lower case. */
  readonly domain?: string | undefined
}

/** A key of `queue` and its value in one: true is a row that was made, false one that was removed. */
type Changes = Map<string, boolean>

export class Lanes {
  readonly #store: RowStore
  readonly #committer: () => Committer
  /** Committed, in the log, not in the index. */
  #waiting: Changes = new Map()
  /** Waiting before them, on their way into the index. */
  #moving: Changes | null = null
  /** Changes in the log since `#moving`, those that took each other back included. */
  #logged = 0
  #loggedBytes = 0
  #firstSeq = 1
  #nextSeq = 1
  #coming: { changes: [string, boolean][]; nextSeq: number } | null = null
  #move: Promise<void> | null = null
  /** By domain, the last binding that was read. */
  readonly #turns = new Map<string, string>()

  constructor(store: RowStore, committer: () => Committer) {
    this.#store = store
    this.#committer = committer
    this.#load()
  }

  /** Called last in each transaction: notes what it changes of the queue. */
  include(tx: Transaction): void {
    this.#coming = null
    const made = new Map<string, Buffer>()
    const changes: [string, boolean][] = []
    const { writes } = tx
    for (let i = 0, end = writes.length; i < end; i++) {
      const { db, key, value } = writes[i] as (typeof writes)[number]
      if (db !== 'queue') continue
      const name = key.toString('latin1')
      if (value !== undefined) {
        made.set(name, value)
        changes.push([name + value.toString('latin1'), true])
        continue
      }
      const was = made.get(name) ?? this.#store.db('queue').get(key)
      made.delete(name)
      if (was !== undefined) changes.push([name + was.toString('latin1'), false])
    }
    if (changes.length === 0) return
    let seq = this.#nextSeq
    for (const row of packLog(changes)) tx.put('lanelog', laneLogKey(seq++), row)
    this.#coming = { changes, nextSeq: seq }
  }

  committed(): void {
    const coming = this.#coming
    this.#coming = null
    if (coming === null) return
    this.#nextSeq = coming.nextSeq
    for (const [row, made] of coming.changes) this.#wait(row, made)
    // Not waited for: what fails stays in the log, and is tried again with the next changes.
    if (this.#logged >= MAX_WAITING || this.#loggedBytes >= MAX_WAITING_BYTES)
      this.index().catch(() => undefined)
  }

  /** Puts so much of what waits into the index that reading it is cheap. */
  async readable(): Promise<void> {
    while (this.#waiting.size + (this.#moving?.size ?? 0) > MAX_WAITING_READ) await this.index()
  }

  /** Puts all that waits into the index. */
  index(): Promise<void> {
    this.#move ??= this.#index().finally(() => {
      this.#move = null
    })
    return this.#move
  }

  /**
   * Keys of `queue` in due order, after `after` and up to `now`, as far as they are in the lane. With a great many
   * bindings of a domain those are read some at a time, in turns, each in its due order; a key may come twice.
   */
  *due(filter: LaneFilter, now: number, after: Buffer | undefined): Generator<Buffer, void, void> {
    const end = queueKey(now + 1, FIRST_ID)
    const { binding, domain } = filter
    const notStored = (after: Buffer | undefined) => this.#notStored(filter, after, end)
    if (domain === undefined) {
      const name = binding as string
      const stored = this.#stored(lanePrefix('binding', name), name, after, end)
      yield* merged([stored, notStored(after)])
      return
    }
    const lanes = (bindings: readonly string[], after: Buffer | undefined) =>
      bindings.map((name) =>
        this.#stored(lanePrefix('domain', domain, name), name, after, end, domain),
      )
    const bindings =
      binding === undefined ? this.#bindingsOf(domain, undefined, MAX_BINDINGS + 1) : [binding]
    if (bindings.length <= MAX_BINDINGS) {
      yield* merged([...lanes(bindings, after), notStored(after)])
      return
    }
    yield* notStored(undefined)
    for (const some of this.#inTurns(domain)) yield* merged(lanes(some, undefined))
  }

  /** Bindings of a domain, some at a time, from where it was left the last time. */
  *#inTurns(domain: string): Generator<string[], void, void> {
    const first = this.#turns.get(domain)
    let from = first
    for (let looked = 0; looked < MAX_BINDINGS_LOOKED; looked += MAX_BINDINGS) {
      const some = this.#bindingsOf(domain, from, MAX_BINDINGS)
      const last = some.at(-1)
      if (last !== undefined) {
        this.#took(domain, last)
        yield some
      }
      if (looked > 0 && (first === undefined ? last === undefined : some.includes(first))) break
      from = some.length < MAX_BINDINGS ? undefined : last
      if (from === undefined && first === undefined) break
    }
  }

  #took(domain: string, binding: string): void {
    this.#turns.delete(domain)
    this.#turns.set(domain, binding)
    const [oldest] = this.#turns.keys()
    if (this.#turns.size > MAX_TURNS) this.#turns.delete(oldest as string)
  }

  /** The rows that the index and its log stand for, as keys of `queue` with their values; for the check. */
  static *rows(store: RowStore): Generator<string, void, void> {
    const changes: Changes = new Map()
    for (const { value } of store.db('lanelog').getRange({})) {
      for (const [row, made] of unpackLog(value)) note(changes, row, made)
    }
    for (const key of store.db('lanes').getKeys(lanesByDomain())) {
      const { queue, binding, domain } = splitDomainLane(Buffer.from(key))
      const row = queue.toString('latin1') + laneValue(binding, domain)
      if (changes.get(row) !== false) yield row
    }
    for (const [row, made] of changes) if (made) yield row
  }

  async #index(): Promise<void> {
    if (this.#logged === 0) return
    const moving = this.#waiting
    const logged = this.#logged
    const loggedBytes = this.#loggedBytes
    const upTo = this.#nextSeq
    this.#moving = moving
    this.#waiting = new Map()
    this.#logged = 0
    this.#loggedBytes = 0
    try {
      await this.#committer().submit((tx) => {
        for (const { key, value, made } of sorted(moving)) {
          if (made) tx.put('lanes', key, value)
          else tx.remove('lanes', key)
        }
        for (let seq = this.#firstSeq; seq < upTo; seq++) tx.remove('lanelog', laneLogKey(seq))
      }, moving.size * 64)
      this.#firstSeq = upTo
    } catch (error) {
      const since = this.#waiting
      this.#waiting = moving
      for (const [row, made] of since) note(moving, row, made)
      this.#logged += logged
      this.#loggedBytes += loggedBytes
      throw error
    } finally {
      this.#moving = null
    }
  }

  /** `domain` undefined: a lane by binding, whose rows name theirs. */
  *#stored(
    prefix: Buffer,
    binding: string,
    after: Buffer | undefined,
    end: Buffer,
    domain?: string,
  ): Generator<Buffer, void, void> {
    const range = {
      start: after === undefined ? prefix : Buffer.concat([prefix, after]),
      exclusiveStart: after !== undefined,
      end: Buffer.concat([prefix, end]),
    }
    const common = domain === undefined ? undefined : laneValue(binding, domain)
    for (const { key, value } of this.#store.db('lanes').getRange(range)) {
      const queue = Buffer.from(key.subarray(key.length - QUEUE_KEY_BYTES))
      if (this.#waiting.size > 0 || this.#moving !== null) {
        const row =
          queue.toString('latin1') + (common ?? laneValue(binding, value.toString('utf8')))
        if ((this.#waiting.get(row) ?? this.#moving?.get(row)) === false) continue
      }
      yield queue
    }
  }

  *#notStored(
    filter: LaneFilter,
    after: Buffer | undefined,
    end: Buffer,
  ): Generator<Buffer, void, void> {
    const from = after?.toString('latin1')
    const to = end.toString('latin1')
    const value = (row: string) => row.slice(QUEUE_KEY_BYTES)
    const binding = filter.binding === undefined ? undefined : latin1(`${filter.binding}\0`)
    const domain = filter.domain === undefined ? undefined : latin1(`\0${filter.domain}`)
    const found: string[] = []
    for (const changes of [this.#moving, this.#waiting]) {
      for (const [row, made] of changes ?? []) {
        if (!made || row >= to || (from !== undefined && row.startsWith(from))) continue
        if (from !== undefined && row < from) continue
        if (changes === this.#moving && this.#waiting.get(row) === false) continue
        if (binding !== undefined && !value(row).startsWith(binding)) continue
        if (domain !== undefined && !value(row).endsWith(domain)) continue
        found.push(row)
      }
    }
    found.sort()
    for (const row of found) yield Buffer.from(row.slice(0, QUEUE_KEY_BYTES), 'latin1')
  }

  /** The first of them after `after`, at most `limit`; a look-up each. */
  #bindingsOf(domain: string, after: string | undefined, limit: number): string[] {
    const bindings: string[] = []
    const prefix = lanePrefix('domain', domain)
    const behind = (binding: string) => Buffer.concat([prefix, Buffer.from(`${binding}\u0001`)])
    let start = after === undefined ? prefix : behind(after)
    const end = Buffer.concat([prefix, Buffer.from([0xff])])
    while (bindings.length < limit) {
      const [key] = this.#store.db('lanes').getKeys({ start, end, limit: 1 })
      if (key === undefined) break
      const { binding } = splitDomainLane(Buffer.from(key))
      bindings.push(binding)
      start = behind(binding)
    }
    return bindings
  }

  #load(): void {
    let first = true
    for (const { key, value } of this.#store.db('lanelog').getRange({})) {
      const seq = splitLaneLogKey(Buffer.from(key))
      if (first) this.#firstSeq = seq
      first = false
      this.#nextSeq = seq + 1
      for (const [row, made] of unpackLog(value)) this.#wait(row, made)
    }
  }

  #wait(row: string, made: boolean): void {
    note(this.#waiting, row, made)
    this.#logged++
    this.#loggedBytes += row.length
  }
}

/** Of sources in order, all in order. */
function* merged(sources: Generator<Buffer, void, void>[]): Generator<Buffer, void, void> {
  const heads = sources.map((source) => source.next().value as Buffer | undefined)
  try {
    for (;;) {
      let first = -1
      for (let i = 0; i < heads.length; i++) {
        const head = heads[i]
        if (head === undefined) continue
        if (first < 0 || head.compare(heads[first] as Buffer) < 0) first = i
      }
      if (first < 0) return
      yield heads[first] as Buffer
      heads[first] = sources[first]?.next().value as Buffer | undefined
    }
  } finally {
    for (const source of sources) source.return()
  }
}

/** What is done and undone before it reached the index need not reach it. */
function note(changes: Changes, row: string, made: boolean): void {
  const was = changes.get(row)
  if (was === undefined) changes.set(row, made)
  else if (was !== made) changes.delete(row)
}

interface Lane {
  readonly prefix: Buffer
  readonly rows: { row: string; value: Buffer }[]
}

/** In the order of their keys, so that a page is written once. */
function sorted(changes: Changes): { key: Buffer; value: Buffer; made: boolean }[] {
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

/** Of every domain. */
function lanesByDomain(): { start: Buffer; end: Buffer } {
  const start = lanePrefix('domain', '').subarray(0, 1)
  return { start, end: Buffer.from([(start[0] as number) + 1]) }
}

function splitValue(value: string): { binding: string; domain: string } {
  const bytes = Buffer.from(value, 'latin1')
  const middle = bytes.indexOf(0)
  return { binding: bytes.toString('utf8', 0, middle), domain: bytes.toString('utf8', middle + 1) }
}

function laneValue(binding: string, domain: string): string {
  return latin1(`${binding}\0${domain}`)
}

/** UTF-8, a character a byte: how rows are told apart and sorted. */
function latin1(text: string): string {
  return Buffer.from(text).toString('latin1')
}

const MADE = 1

/** Rows of the log: for each change whether it was made (1), the length of its value (2), key and value. */
function* packLog(changes: readonly [string, boolean][]): Generator<Buffer, void, void> {
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

function* unpackLog(packed: Buffer): Generator<[string, boolean], void, void> {
  for (let at = 0; at < packed.length; ) {
    const end = at + 3 + QUEUE_KEY_BYTES + packed.readUInt16BE(at + 1)
    if (end > packed.length) throw new RangeError('a change is longer than its row')
    yield [packed.toString('latin1', at + 3, end), packed[at] === MADE]
    at = end
  }
}
