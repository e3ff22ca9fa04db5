/** Checks the outbox and the rows of `state`: what can be decoded, what is there already, what is missing. */
import type { Findings } from './check-report.js'
import type { Pace } from './jobs.js'
import {
  decodeCounters,
  decodeJournalState,
  gapsKey,
  isKnownGap,
  journalStateKey,
  STATE_COUNTERS,
  STATE_FORMAT,
  STATE_JOURNAL_PREFIX,
  splitOutboxKey,
  unpack,
} from './layout.js'
import { unpackRow } from './outbox-store.js'
import type { Snapshot } from './snapshot.js'

/** What the counters should say of the outbox. */
export async function checkOutbox(
  snapshot: Snapshot,
  findings: Findings,
  pace: Pace,
): Promise<{ outboxRecords: number; outboxBytes: number }> {
  let outboxRecords = 0
  let outboxBytes = 0
  let journal = ''
  /** null: not known. */
  let next: number | null = null
  let done = 0
  for (const { key, value } of snapshot.range('outbox')) {
    await pace.step()
    const place = placeOf(key)
    if (place === undefined) {
      const what = `outbox: ${key.toString('hex')}`
      findings.add({ problem: 'row-malformed', what, db: 'outbox', key })
      continue
    }
    if (place.journal !== journal) {
      journal = place.journal
      done = doneUpTo(snapshot, journal)
      next = done + 1
    }
    const { firstSeq } = place
    const lengths = lengthsOf(firstSeq, value)
    if (lengths === undefined) {
      const what = `journal ${journal}: row ${firstSeq}`
      findings.add({ problem: 'outbox-undecodable', what, db: 'outbox', key })
      next = null
      continue
    }
    const last = firstSeq + lengths.length - 1
    if (last <= done) {
      const what = `journal ${journal}: ${firstSeq} to ${last}`
      findings.add({ problem: 'outbox-relayed', what, db: 'outbox', key })
      continue
    }
    if (next !== null && firstSeq > next && !isKnown(snapshot, journal, next, firstSeq - 1)) {
      const what = `journal ${journal}: ${firstSeq} follows ${next - 1}`
      const gap = { journal, from: next, to: firstSeq - 1 }
      findings.add({ problem: 'outbox-gap', what, db: 'outbox', key, gap })
    }
    for (const [i, length] of lengths.entries()) {
      if (firstSeq + i <= done) continue
      outboxRecords++
      outboxBytes += length
    }
    next = last + 1
  }
  return { outboxRecords, outboxBytes }
}

/** Rows of `state` that cannot be read: with one of them the spool does not open. */
export function checkState(snapshot: Snapshot, findings: Findings): void {
  for (const { key, value } of snapshot.range('state')) {
    if (isStateSound(key, value)) continue
    const what = `state: ${key.toString('latin1')}`
    findings.add({ problem: 'state-undecodable', what, db: 'state', key })
  }
}

export function isStateSound(key: Buffer, value: Buffer): boolean {
  try {
    if (key.equals(STATE_COUNTERS)) return Array.isArray(unpack(value))
    if (key.equals(STATE_FORMAT)) return typeof unpack(value) === 'number'
    if (!key.toString('latin1').startsWith(STATE_JOURNAL_PREFIX)) return true
    const [done, after, upTo] = decodeJournalState(value)
    return Number.isSafeInteger(done) && Number.isSafeInteger(upTo) && isTextOrNull(after)
  } catch {
    return false
  }
}

/** What the counters say; all zero when they cannot be read. */
export function storedCounters(snapshot: Snapshot): ReturnType<typeof decodeCounters> {
  const row = snapshot.get('state', STATE_COUNTERS)
  return decodeCounters(row !== undefined && isStateSound(STATE_COUNTERS, row) ? row : undefined)
}

function isTextOrNull(value: unknown): boolean {
  return value === null || typeof value === 'string'
}

function placeOf(key: Buffer): { journal: string; firstSeq: number } | undefined {
  if (key.length < 10 || key[key.length - 9] !== 0) return undefined
  const place = splitOutboxKey(key)
  return Number.isSafeInteger(place.firstSeq) && place.firstSeq > 0 ? place : undefined
}

/** Of the payloads; undefined for what is no row of records. */
function lengthsOf(firstSeq: number, row: Buffer): number[] | undefined {
  try {
    const records = unpackRow(firstSeq, row)
    return records.length === 0 ? undefined : records.map(({ payload }) => payload.length)
  } catch {
    return undefined
  }
}

/** Whether repair has noted that these records were lost. */
function isKnown(snapshot: Snapshot, journal: string, from: number, to: number): boolean {
  return isKnownGap(snapshot.get('state', gapsKey(journal)), from, to)
}

function doneUpTo(snapshot: Snapshot, journal: string): number {
  const key = journalStateKey(journal)
  const row = snapshot.get('state', key)
  return row !== undefined && isStateSound(key, row) ? decodeJournalState(row)[0] : 0
}
