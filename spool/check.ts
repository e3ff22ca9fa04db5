/**
 * Compares everything in a spool with everything else: chunks, bodies and counts, index, counters, outbox.
 * Reads all of it, changes nothing. A body in `staged` belongs to no message, which is no problem: it is
 * being taken in, or the next open deletes it.
 */
import { createHash } from 'node:crypto'
import {
  CHUNK_BYTES,
  chunkKey,
  decodeCounters,
  decodeJournalState,
  decodeMeta,
  journalStateKey,
  type MessageRecord,
  queueRow,
  STATE_COUNTERS,
  splitChunkKey,
  splitOutboxKey,
  splitQueueKey,
} from './layout.js'
import { formatId, ID_BYTES } from './message-id.js'
import { unpackRow } from './outbox-store.js'
import { Store } from './store.js'

export const PROBLEMS = [
  'meta-undecodable',
  'body-chunk-missing',
  'body-size-wrong',
  'body-hash-wrong',
  'body-orphaned',
  'refs-wrong',
  'queue-without-message',
  'message-without-queue',
  'queue-wrong',
  'staged-has-message',
  'counter-wrong',
  'outbox-undecodable',
  'outbox-gap',
] as const

export interface Problem {
  readonly problem: (typeof PROBLEMS)[number]
  /** Which row, and what was found against what was expected. */
  readonly what: string
}

export interface CheckReport {
  readonly messages: number
  readonly bodies: number
  readonly bytes: number
  readonly staged: number
  readonly problems: Problem[]
}

interface Body {
  readonly record: MessageRecord
  messages: number
}

/** For a spool at rest: writes made meanwhile would look like problems. */
export async function checkSpool(path: string): Promise<CheckReport> {
  const store = await Store.open({ path, readOnly: true, mode: 0, mapSize: undefined })
  try {
    return checkStore(store)
  } finally {
    await store.close()
  }
}

export function checkStore(store: Store): CheckReport {
  const problems: Problem[] = []
  const report = (problem: Problem['problem'], what: string) => problems.push({ problem, what })

  const bodies = new Map<string, Body>()
  const queued = new Set<string>()
  let messages = 0
  let scheduled = 0
  for (const { key, value } of store.db('messages').getRange({})) {
    const id = Buffer.from(key)
    messages++
    let record: MessageRecord
    try {
      record = decodeMeta(id, value)
    } catch {
      report('meta-undecodable', formatId(id))
      continue
    }
    if (record.nextAttempt !== null) scheduled++
    const row = queueRow(id, record)
    queued.add(row.key.toString('latin1'))
    const stored = store.db('queue').get(row.key)
    if (stored === undefined) report('message-without-queue', formatId(id))
    else if (!row.value.equals(stored)) report('queue-wrong', formatId(id))
    const body = record.body.toString('hex')
    const known = bodies.get(body)
    if (known === undefined) bodies.set(body, { record, messages: 1 })
    else known.messages++
  }

  for (const key of store.db('queue').getKeys({})) {
    const row = Buffer.from(key)
    if (queued.has(row.toString('latin1'))) continue
    report('queue-without-message', formatId(Buffer.from(splitQueueKey(row).id)))
  }

  const staged = new Set<string>()
  for (const key of store.db('staged').getKeys({})) {
    const body = Buffer.from(key).toString('hex')
    staged.add(body)
    if (bodies.has(body)) report('staged-has-message', body)
  }

  let bytes = 0
  for (const [body, { record, messages: users }] of bodies) {
    bytes += record.size
    checkBody(store, body, record, report)
    const refs = store.db('refs').get(record.body)?.readUInt32BE() ?? 1
    if (refs !== users) report('refs-wrong', `body ${body}: ${refs} stored, ${users} messages`)
  }
  for (const key of store.db('refs').getKeys({})) {
    const body = Buffer.from(key).toString('hex')
    if (!bodies.has(body)) report('refs-wrong', `body ${body}: counted, but no message has it`)
  }

  let last = ''
  for (const key of store.db('chunks').getKeys({})) {
    const { body, n } = splitChunkKey(Buffer.from(key))
    const hex = body.toString('hex', 0, ID_BYTES)
    const owner = bodies.get(hex)
    if (owner === undefined) {
      if (hex !== last && !staged.has(hex)) report('body-orphaned', hex)
    } else if (n * CHUNK_BYTES >= owner.record.size) {
      report('body-size-wrong', `body ${hex}: chunk ${n} is beyond its ${owner.record.size} bytes`)
    }
    last = hex
  }

  const outbox = checkOutbox(store, report)
  const counters = decodeCounters(store.db('state').get(STATE_COUNTERS)).counters
  const expected = { bodies: bodies.size, bytes, scheduled, ...outbox }
  for (const [name, value] of Object.entries(expected)) {
    const stored = counters[name as keyof typeof expected]
    if (stored !== value) report('counter-wrong', `${name}: ${stored} stored, ${value} counted`)
  }
  return { messages, bodies: bodies.size, bytes, staged: staged.size, problems }
}

type Report = (problem: Problem['problem'], what: string) => void

function checkBody(store: Store, name: string, record: MessageRecord, report: Report): void {
  const hashing = createHash('sha256')
  for (let n = 0, at = 0; at < record.size; n++, at += CHUNK_BYTES) {
    const chunk = store.db('chunks').get(chunkKey(record.body, n))
    if (chunk === undefined) {
      report('body-chunk-missing', `body ${name}: chunk ${n}`)
      return
    }
    const expected = Math.min(CHUNK_BYTES, record.size - at)
    if (chunk.length !== expected) {
      report('body-size-wrong', `body ${name}: chunk ${n} has ${chunk.length}, not ${expected}`)
      return
    }
    hashing.update(chunk)
  }
  if (!hashing.digest().equals(record.sha256)) report('body-hash-wrong', `body ${name}`)
}

/** What the counters should say of the outbox. */
function checkOutbox(store: Store, report: Report): { outboxRecords: number; outboxBytes: number } {
  const expected = new Map<string, number>()
  let outboxRecords = 0
  let outboxBytes = 0
  for (const { key, value } of store.db('outbox').getRange({})) {
    const { journal, firstSeq } = splitOutboxKey(Buffer.from(key))
    const next = expected.get(journal)
    if (next !== undefined && next !== firstSeq) {
      report('outbox-gap', `journal ${journal}: ${firstSeq} follows ${next - 1}`)
    }
    const done = doneUpTo(store, journal)
    try {
      const records = unpackRow(firstSeq, value)
      expected.set(journal, firstSeq + records.length)
      for (const { seq, payload } of records) {
        if (seq <= done) continue
        outboxRecords++
        outboxBytes += payload.length
      }
    } catch {
      report('outbox-undecodable', `journal ${journal}: row ${firstSeq}`)
      expected.delete(journal)
    }
  }
  return { outboxRecords, outboxBytes }
}

function doneUpTo(store: Store, journal: string): number {
  return decodeJournalState(store.db('state').get(journalStateKey(journal)))[0]
}
