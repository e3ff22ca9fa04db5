/** Rows of `outbox` and `state`: records on their way to a journal, how far each journal is, and sums. */
import { cut, pack, unpack } from './layout-bytes.js'
import { ID_BYTES } from './message-id.js'

export function outboxKey(journal: string, firstSeq: number): Buffer {
  const nameBytes = Buffer.byteLength(journal)
  const key = cut(nameBytes + 9)
  key.write(journal, 0)
  key[nameBytes] = 0
  key.writeBigUInt64BE(BigInt(firstSeq), nameBytes + 1)
  return key
}

export function splitOutboxKey(key: Buffer): { journal: string; firstSeq: number } {
  const end = key.length - 9
  return {
    journal: key.toString('utf8', 0, end),
    firstSeq: Number(key.readBigUInt64BE(end + 1)),
  }
}

export const STATE_COUNTERS = Buffer.from('counters')
export const STATE_FORMAT = Buffer.from('format')
export const STATE_JOURNAL_PREFIX = 'journal:'

export function journalStateKey(journal: string): Buffer {
  return Buffer.from(STATE_JOURNAL_PREFIX + journal)
}

/** The spool's sums, kept in each transaction so that nobody has to count. */
export interface Counters {
  readonly bodies: number
  /** Of all bodies, each counted once. */
  readonly bytes: number
  /** Messages that have a next attempt. */
  readonly scheduled: number
  /** Messages of that state; the others are queued. */
  readonly deferred: number
  readonly leased: number
  /** Records that are not done. */
  readonly outboxRecords: number
  readonly outboxBytes: number
}

/** States that have a counter of their own. */
export const COUNTED_STATES = ['deferred', 'leased'] as const

/** With the last id given out, so that a clock that steps back over a restart gives none twice. */
export function encodeCounters(counters: Counters, lastId: Buffer): Buffer {
  const { bodies, bytes, scheduled, outboxRecords, outboxBytes, deferred, leased } = counters
  return pack([bodies, bytes, scheduled, outboxRecords, outboxBytes, lastId, deferred, leased])
}

export function decodeCounters(row: Buffer | undefined): {
  counters: Counters
  lastId: Buffer | undefined
} {
  const fields = row === undefined ? [] : (unpack(row) as (number | Buffer)[])
  const count = (i: number) => (typeof fields[i] === 'number' ? fields[i] : 0)
  const lastId = fields[5]
  return {
    counters: {
      bodies: count(0),
      bytes: count(1),
      scheduled: count(2),
      outboxRecords: count(3),
      outboxBytes: count(4),
      deferred: count(6),
      leased: count(7),
    },
    lastId: lastId instanceof Uint8Array && lastId.length === ID_BYTES ? lastId : undefined,
  }
}

/** How far the relay is with a journal, and the batch it noted. */
export type JournalStateRow = [doneUpTo: number, after: string | null, upTo: number]

export function decodeJournalState(row: Buffer | undefined): JournalStateRow {
  return row === undefined ? [0, null, 0] : (unpack(row) as JournalStateRow)
}

/** Numbers of records that were lost and will not come: first and last of each stretch. */
export function gapsKey(journal: string): Buffer {
  return Buffer.from(`gaps:${journal}`)
}

export function decodeGaps(row: Buffer | undefined): [from: number, to: number][] {
  return row === undefined ? [] : (unpack(row) as [number, number][])
}

/** Whether a row of gaps says so of all these records. */
export function isKnownGap(row: Buffer | undefined, from: number, to: number): boolean {
  return decodeGaps(row).some((gap) => gap[0] <= from && gap[1] >= to)
}
