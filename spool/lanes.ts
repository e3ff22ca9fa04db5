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
  type Changes,
  laneValue,
  latin1,
  note,
  packLog,
  sorted,
  unpackLog,
} from './lane-changes.js'
import {
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

export interface LaneFilter {
  readonly binding?: string | undefined
  /** In lower case. */
  readonly domain?: string | undefined
}

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

/** Of every domain. */
function lanesByDomain(): { start: Buffer; end: Buffer } {
  const start = lanePrefix('domain', '').subarray(0, 1)
  return { start, end: Buffer.from([(start[0] as number) + 1]) }
}
