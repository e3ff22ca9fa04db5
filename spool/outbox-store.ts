/**
 * The outbox in LMDB. The records that one commit adds to a journal lie packed in one row (or a few, of
 * chunk size), so a record costs no row of its own. How far the relay is, and the batch it noted, is one
 * row a journal; a row of records goes when its last record is done.
 */
import type { Committer, LoggedRecord, Transaction } from './committer.js'
import { SpoolError } from './errors.js'
import {
  CHUNK_BYTES,
  decodeJournalState,
  gapsKey,
  isKnownGap,
  type JournalStateRow,
  journalStateKey,
  outboxKey,
  pack,
  STATE_JOURNAL_PREFIX,
  splitOutboxKey,
} from './layout.js'
import type {
  Outbox,
  OutboxBacklog,
  OutboxBatch,
  OutboxLimits,
  OutboxRecord,
  OutboxSize,
} from './outbox.js'
import { assertEnded, unreachable } from './range-end.js'
import type { RowStore } from './rows.js'
import { checkJournal } from './validate.js'

const RECORD_HEADER = 12

interface JournalState {
  /** The next record's number. */
  nextSeq: number
  /** Records up to here are done. */
  doneUpTo: number
  batch: OutboxBatch | null
}

export class OutboxStore implements Outbox {
  readonly #store: RowStore
  readonly #committer: () => Committer
  readonly #journals = new Map<string, JournalState>()
  readonly #listeners = new Set<(journal: string) => void>()
  /** What the transaction under way makes of `nextSeq`. */
  #coming = new Map<string, number>()

  /** Throws SPOOL_ERR_CORRUPT when its last records cannot be reached, unless the store is only read. */
  constructor(store: RowStore, committer: () => Committer) {
    this.#store = store
    this.#committer = committer
    this.#load()
  }

  journals(): string[] {
    const names: string[] = []
    for (const [name, { nextSeq, doneUpTo, batch }] of this.#journals) {
      if (nextSeq - 1 > doneUpTo || batch !== null) names.push(name)
    }
    return names
  }

  pending(journal: string, { maxRecords, maxBytes, afterSeq = 0 }: OutboxLimits): OutboxRecord[] {
    const found: OutboxRecord[] = []
    const state = this.#journals.get(journal)
    if (state === undefined) return found
    const from = Math.max(afterSeq, state.doneUpTo) + 1
    let bytes = 0
    let next = from
    for (const record of this.#records(journal, from)) {
      bytes += record.payload.length
      if (found.length >= maxRecords || (found.length > 0 && bytes > maxBytes)) break
      // What lies in a damaged page is passed over in silence: it must not be taken for relayed.
      if (record.seq !== next) this.#assertKnown(journal, next, record.seq - 1)
      found.push(record)
      next = record.seq + 1
    }
    if (found.length === 0 && from < state.nextSeq) {
      const end = outboxKey(journal, Number.MAX_SAFE_INTEGER)
      assertEnded(this.#store, 'outbox', null, { start: outboxKey(journal, from), end })
    }
    return found
  }

  noted(journal: string): OutboxBatch | null {
    const batch = this.#journals.get(journal)?.batch
    return batch ? { ...batch } : null
  }

  async note(journal: string, batch: OutboxBatch, doneUpTo?: number): Promise<void> {
    await this.#move(journal, { after: batch.after, upTo: batch.upTo }, doneUpTo)
  }

  async done(journal: string, upTo: number): Promise<void> {
    await this.#move(journal, null, upTo)
  }

  onRecords(listener: (journal: string) => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  get waiting(): number {
    return this.#committer().counters.outboxRecords
  }

  size(): OutboxSize {
    const { outboxRecords, outboxBytes } = this.#committer().counters
    const times = this.backlog().flatMap(({ oldest }) => oldest ?? [])
    const oldest = times.length === 0 ? null : Math.min(...times)
    return { records: outboxRecords, bytes: outboxBytes, oldest }
  }

  backlog(): OutboxBacklog[] {
    const all: OutboxBacklog[] = []
    for (const [journal, { nextSeq, doneUpTo }] of this.#journals) {
      const records = nextSeq - 1 - doneUpTo
      const [first] = records > 0 ? this.#records(journal, doneUpTo + 1) : []
      const oldest = first === undefined ? null : first.sec * 1000 + Math.floor(first.usec / 1000)
      all.push({ journal, records, oldest })
    }
    return all
  }

  /** Puts the transaction's records into rows. */
  pack(tx: Transaction): void {
    this.#coming = new Map()
    if (tx.records.length === 0) return
    for (const [journal, records] of byJournal(tx.records)) {
      let seq = this.#journals.get(journal)?.nextSeq ?? 1
      let row: LoggedRecord[] = []
      let bytes = 0
      const write = () => {
        tx.put('outbox', outboxKey(journal, seq), packRow(row, bytes))
        seq += row.length
        row = []
        bytes = 0
      }
      for (const record of records) {
        const payload = Buffer.byteLength(record.payload)
        const size = RECORD_HEADER + payload
        if (row.length > 0 && bytes + size > CHUNK_BYTES) write()
        row.push(record)
        bytes += size
        tx.add('outboxRecords', 1)
        tx.add('outboxBytes', payload)
      }
      write()
      this.#coming.set(journal, seq)
    }
  }

  committed(): void {
    const coming = this.#coming
    this.#coming = new Map()
    for (const [journal, nextSeq] of coming) {
      const state = this.#journals.get(journal)
      if (state === undefined) this.#journals.set(journal, { nextSeq, doneUpTo: 0, batch: null })
      else state.nextSeq = nextSeq
      // In a turn of its own, so that a listener that throws breaks nothing here.
      for (const listener of this.#listeners) queueMicrotask(() => listener(journal))
    }
  }

  async #move(journal: string, batch: OutboxBatch | null, doneUpTo?: number): Promise<void> {
    const key = journalStateKey(checkJournal(journal))
    const moved = await this.#committer().submit((tx) => {
      const [was] = decodeJournalState(tx.get('state', key))
      const upTo = Math.max(was, doneUpTo ?? 0)
      for (const { key, records } of this.#rows(journal, was + 1)) {
        const first = splitOutboxKey(key).firstSeq
        if (first > upTo) break
        for (const { seq, payload } of records) {
          if (seq <= was || seq > upTo) continue
          tx.add('outboxRecords', -1)
          tx.add('outboxBytes', -payload.length)
        }
        if (first + records.length - 1 <= upTo) tx.remove('outbox', key)
      }
      const row: JournalStateRow = [upTo, batch?.after ?? null, batch?.upTo ?? 0]
      tx.put('state', key, pack(row))
      return upTo
    }, 256)
    const state = this.#journals.get(journal)
    if (state === undefined) {
      this.#journals.set(journal, { nextSeq: moved + 1, doneUpTo: moved, batch })
    } else {
      state.doneUpTo = moved
      state.batch = batch
    }
  }

  /** Throws SPOOL_ERR_CORRUPT unless repair has noted that these records were lost. */
  #assertKnown(journal: string, from: number, to: number): void {
    if (isKnownGap(this.#store.db('state').get(gapsKey(journal)), from, to)) return
    const what = `records ${from} to ${to} of journal ${journal} cannot be read from the outbox`
    throw new SpoolError('SPOOL_ERR_CORRUPT', what, {
      file: this.#store.path,
      advice: 'stop the service and run bobbin spool repair; what follows them waits for it',
    })
  }

  *#records(journal: string, from: number): Generator<OutboxRecord, void, void> {
    for (const { records } of this.#rows(journal, from)) {
      for (const record of records) if (record.seq >= from) yield record
    }
  }

  /** The rows that hold `from` and what follows. */
  *#rows(
    journal: string,
    from: number,
  ): Generator<{ key: Buffer; records: OutboxRecord[] }, void, void> {
    const db = this.#store.db('outbox')
    // The row that holds `from` may begin before it.
    let start = outboxKey(journal, from)
    const before = {
      start,
      end: outboxKey(journal, 0),
      reverse: true,
      limit: 1,
      inclusiveEnd: true,
    }
    for (const key of db.getKeys(before)) start = Buffer.from(key)
    for (const { key, value } of db.getRange({
      start,
      end: outboxKey(journal, Number.MAX_SAFE_INTEGER),
    })) {
      const row = Buffer.from(key)
      yield { key: row, records: unpackRow(splitOutboxKey(row).firstSeq, value) }
    }
  }

  #load(): void {
    const start = Buffer.from(STATE_JOURNAL_PREFIX)
    const end = Buffer.concat([start, Buffer.from([0xff])])
    for (const { key, value } of this.#store.db('state').getRange({ start, end })) {
      const [doneUpTo, after, upTo] = decodeJournalState(value)
      const batch = after === null ? null : { after, upTo }
      const name = Buffer.from(key).toString('utf8', start.length)
      this.#journals.set(name, { nextSeq: doneUpTo + 1, doneUpTo, batch })
    }
    let isEmpty = true
    for (const journal of this.#journalsWithRows()) {
      isEmpty = false
      let nextSeq = 0
      const last = {
        start: outboxKey(journal, Number.MAX_SAFE_INTEGER),
        end: outboxKey(journal, 0),
        reverse: true,
        limit: 1,
        inclusiveEnd: true,
      }
      for (const { key, value } of this.#store.db('outbox').getRange(last)) {
        const { firstSeq } = splitOutboxKey(Buffer.from(key))
        nextSeq = firstSeq + unpackRow(firstSeq, value).length
      }
      // Numbers that are given again would be written over records that wait.
      if (nextSeq === 0 && !this.#store.readOnly) throw unreachable(this.#store, 'outbox')
      const state = this.#journals.get(journal)
      if (state === undefined) this.#journals.set(journal, { nextSeq, doneUpTo: 0, batch: null })
      else state.nextSeq = Math.max(state.nextSeq, nextSeq)
    }
    if (isEmpty && !this.#store.readOnly && this.#store.count('outbox') > 0) {
      throw unreachable(this.#store, 'outbox')
    }
  }

  /** One look-up a journal, not one a row. */
  *#journalsWithRows(): Generator<string, void, void> {
    let start: Buffer | undefined = Buffer.from([0])
    while (start !== undefined) {
      const from: Buffer = start
      start = undefined
      for (const key of this.#store.db('outbox').getKeys({ start: from, limit: 1 })) {
        const { journal } = splitOutboxKey(Buffer.from(key))
        yield journal
        start = Buffer.concat([Buffer.from(journal), Buffer.from([1])])
      }
    }
  }
}

function byJournal(records: readonly LoggedRecord[]): Map<string, LoggedRecord[]> {
  const groups = new Map<string, LoggedRecord[]>()
  for (const record of records) {
    const group = groups.get(record.journal)
    if (group === undefined) groups.set(record.journal, [record])
    else group.push(record)
  }
  return groups
}

function packRow(records: readonly LoggedRecord[], bytes: number): Buffer {
  const row = Buffer.allocUnsafe(bytes)
  let at = 0
  for (const { sec, usec, payload } of records) {
    row.writeUInt32BE(sec, at)
    row.writeUInt32BE(usec, at + 4)
    const length = row.write(payload, at + RECORD_HEADER)
    row.writeUInt32BE(length, at + 8)
    at += RECORD_HEADER + length
  }
  return row
}

export function unpackRow(firstSeq: number, row: Buffer): OutboxRecord[] {
  const records: OutboxRecord[] = []
  for (let at = 0, seq = firstSeq; at < row.length; seq++) {
    const start = at + RECORD_HEADER
    const end = start > row.length ? start : start + row.readUInt32BE(at + 8)
    if (end > row.length) {
      throw new SpoolError('SPOOL_ERR_CORRUPT', `row ${firstSeq} of the outbox cannot be read`, {
        advice: 'stop the service and run bobbin spool repair',
      })
    }
    records.push({
      seq,
      sec: row.readUInt32BE(at),
      usec: row.readUInt32BE(at + 4),
      payload: row.subarray(start, end),
    })
    at = end
  }
  return records
}
