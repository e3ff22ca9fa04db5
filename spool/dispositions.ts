/**
 * What an MTA reports of a message: attempted, delivered, transferred, failed for now or for good. The log
 * record and what it does to the message are one transaction: after a crash there are both or neither.
 */
import type { Bodies } from './bodies.js'
import type { Clock } from './clock.js'
import type { Committer, Transaction } from './committer.js'
import { invalid, SpoolError } from './errors.js'
import {
  type AccountEvent,
  type EventOptions,
  formatEvent,
  type ImportEvent,
  type LogEvent,
  type MessageEvent,
  type MessageFacts,
  STAGES,
  splitAddress,
  UNKNOWN_STAGE,
} from './events.js'
import { decodeMeta, type MessageRecord } from './layout.js'
import { Leases } from './leases.js'
import { formatId, parseId, parseToken } from './message-id.js'
import type { MetaWrites } from './meta-writes.js'
import { removeMessage } from './removal.js'
import { type NextAttempt, nextAttempt, type RetrySchedule } from './schedule.js'
import { checkJournal, isCount, name, time } from './validate.js'

export const DISPOSITIONS = [
  'attempt',
  'delivery',
  'transfer',
  'transient_failure',
  'permanent_failure',
  'rejection',
] as const

export type DispositionType = (typeof DISPOSITIONS)[number]

export interface Disposition {
  type: DispositionType
  /** Refuse with SPOOL_ERR_LEASE unless this claim holds the message. */
  lease?: string | undefined
  /** The host it was tried with; `unknown` when not given. */
  peer?: string | undefined
  /** The domain it was tried to; the recipient's when not given. */
  domain?: string | undefined
  /** How far the session was, 0 to 22; 22, unknown, when not given. */
  stage?: number | undefined
  bytesSent?: number | undefined
  /** What the other side said, or why. */
  note?: string | undefined
  /** Of a transient failure: instead of the schedule's. */
  nextAttempt?: number | Date | undefined
}

export interface Disposed {
  /** `deferred`: what was logged is durable, the message is still in memory. */
  result: 'complete' | 'deferred'
  /**
   * `removed`: the message is gone. `deferred`: it is tried again at `nextAttempt`. `expired`: the
   * schedule has no further attempt, the message is gone. `logged`: nothing else was done.
   */
  outcome: 'removed' | 'deferred' | 'expired' | 'logged'
  nextAttempt: number | null
}

/** A message that never was in the spool: refused at reception. */
export interface Rejection {
  type: 'rejection'
  mailfrom?: string | undefined
  rcptto?: string | undefined
  connectionId?: string | undefined
  batchId?: string | undefined
  size?: number | undefined
  protocol?: string | undefined
  bindingGroup?: string | undefined
  binding?: string | undefined
  peer?: string | undefined
  stage?: number | undefined
  note?: string | undefined
}

/** An event that is of no message in the spool. */
export type FreeEvent =
  | Rejection
  | (Partial<Omit<AccountEvent, 'type' | 'time'>> & Pick<AccountEvent, 'type'>)
  | Omit<ImportEvent, 'time'>
  | { type: 'heartbeat' }

export interface DispositionParts {
  readonly committer: () => Committer
  readonly metas: MetaWrites
  readonly bodies: () => Bodies
  readonly leases: Leases
  readonly clock: Clock
  readonly events: EventOptions | undefined
  readonly schedule: RetrySchedule
}

/** A disposition, checked. */
interface Report {
  readonly type: DispositionType
  readonly lease: string | undefined
  readonly peer: string
  readonly domain: string | undefined
  readonly stage: number
  readonly bytesSent: number
  readonly note: string
  readonly nextAttempt: number | undefined
}

const MAX_NOTE_BYTES = 8192

export class Dispositions {
  readonly #parts: DispositionParts

  constructor(parts: DispositionParts) {
    this.#parts = parts
  }

  /** Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_INVALID, SPOOL_ERR_LEASE. */
  async dispose(id: string, disposition: Disposition): Promise<Disposed> {
    const key = parseId(id)
    const report = check(disposition)
    const { metas, committer } = this.#parts
    const { disposed, afterwards } = await metas.during(key, async () => {
      const done = await committer().submit((tx) => this.#apply(tx, key, id, report), 512)
      metas.forget(key)
      return done
    })
    afterwards()
    return disposed
  }

  /** Logs an event of no message. Answers when it is durable. Throws SPOOL_ERR_INVALID. */
  async log(event: FreeEvent): Promise<void> {
    const complete = completed(event, Date.now())
    await this.#parts.committer().submit((tx) => this.record(tx, complete), 512)
  }

  /** Within the transaction: the message outlived its retention. */
  expire(tx: Transaction, key: Buffer, record: MessageRecord): () => void {
    const note = '554 5.4.7 [internal] the message stayed longer than its retention'
    this.record(tx, eventOf('expiration', key, record, report(note)))
    return this.#remove(tx, key)
  }

  /** Within the transaction: puts the event's record into the outbox. */
  record(tx: Transaction, event: LogEvent): void {
    tx.events.push(event.type)
    const { events } = this.#parts
    const journal = events?.journalOf(event.type) ?? null
    if (events === undefined || journal === null) return
    tx.log({
      journal: checkJournal(journal),
      sec: Math.floor(event.time / 1000),
      usec: (event.time % 1000) * 1000,
      payload: formatEvent(event, events),
    })
  }

  #apply(
    tx: Transaction,
    key: Buffer,
    id: string,
    report: Report,
  ): { disposed: Disposed; afterwards: () => void } {
    const { metas, leases } = this.#parts
    const record = metas.current(tx, key)
    if (record === undefined) {
      throw new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
    }
    if (report.lease !== undefined) leases.checkHeld(record, id, report.lease)
    this.record(tx, eventOf(report.type, key, record, report))
    switch (report.type) {
      case 'attempt':
      case 'rejection':
        return answer('logged', record.nextAttempt)
      case 'delivery':
      case 'transfer':
      case 'permanent_failure':
        return answer('removed', null, this.#remove(tx, key))
      case 'transient_failure':
        return this.#defer(tx, key, record, report)
    }
  }

  #defer(tx: Transaction, key: Buffer, record: MessageRecord, report: Report) {
    const retries = record.retries + 1
    const next = this.#next(record, retries, report.nextAttempt)
    if (next.expired) {
      const [type, note] = EXPIRED[next.why]
      const text = report.note === '' ? note : `${note}: ${report.note}`
      this.record(tx, eventOf(type, key, record, { ...report, note: text }))
      return answer('expired', null, this.#remove(tx, key))
    }
    if (record.lease?.unlink) return answer('removed', null, this.#remove(tx, key))
    const deferred = Leases.letGo({
      ...record,
      retries,
      nextAttempt: next.at,
      version: record.version + 1,
    })
    this.#parts.metas.propose(tx, key, deferred)
    return answer('deferred', next.at)
  }

  /** A time that is given holds, but not beyond what the schedule allows at all. */
  #next(record: MessageRecord, failures: number, given: number | undefined): NextAttempt {
    const { clock, schedule } = this.#parts
    const next = nextAttempt({ created: record.created, failures }, clock.now(), schedule)
    return next.expired || given === undefined ? next : { expired: false, at: given }
  }

  #remove(tx: Transaction, key: Buffer): () => void {
    const stored = tx.get('messages', key) as Buffer
    return removeMessage(tx, this.#parts.bodies(), key, decodeMeta(key, stored))
  }
}

const EXPIRED = {
  never_retry: ['permanent_failure', '554 5.4.7 [internal] not retried'],
  max_retries: ['permanent_failure', '554 5.4.7 [internal] too many retries'],
  message_expiration: ['expiration', '554 5.4.7 [internal] exceeded the time for delivery'],
} as const

function answer(
  outcome: Disposed['outcome'],
  next: number | null,
  afterwards: () => void = () => undefined,
): { disposed: Disposed; afterwards: () => void } {
  return { disposed: { result: 'complete', outcome, nextAttempt: next }, afterwards }
}

function eventOf(
  type: MessageEvent['type'],
  key: Buffer,
  record: MessageRecord,
  report: Report,
): MessageEvent {
  const now = Date.now()
  return {
    ...factsOf(key, record),
    type,
    time: now,
    retries: record.retries,
    age: Math.max(0, now - record.created) / 1000,
    peer: report.peer,
    domain: report.domain ?? splitAddress(record.rcptto).domain,
    stage: report.stage,
    bytesSent: report.bytesSent,
    note: report.note,
  }
}

/** What a record says of its message, for an event. */
export function factsOf(key: Buffer, record: MessageRecord): MessageFacts {
  return {
    id: formatId(key),
    batchId: record.batchId,
    connectionId: record.connectionId,
    mailfrom: record.mailfrom,
    rcptto: record.rcptto,
    size: record.size,
    protocol: record.protocol,
    bindingGroup: record.bindingGroup,
    binding: record.binding,
    peer: record.peer,
    context(dictionary, name) {
      const stored = record[dictionary]
      for (let i = 0; i < stored.length; i += 2) if (stored[i] === name) return stored[i + 1]
      return undefined
    },
  }
}

function report(note: string): Report {
  return check({ type: 'attempt', note, stage: 0 })
}

function check(disposition: Disposition): Report {
  if (typeof disposition !== 'object' || disposition === null) {
    throw invalid('event', 'not an object')
  }
  const { type, lease, stage, bytesSent = 0 } = disposition
  if (!DISPOSITIONS.includes(type)) throw invalid('type', `not one of ${DISPOSITIONS.join(', ')}`)
  if (lease !== undefined) parseToken(lease, 'lease')
  if (!isCount(bytesSent)) throw invalid('bytesSent', 'not a count')
  if (disposition.nextAttempt !== undefined && type !== 'transient_failure') {
    throw invalid('nextAttempt', 'goes with a transient failure')
  }
  return {
    type,
    lease,
    peer: name('peer', disposition.peer, 'unknown'),
    domain: disposition.domain === undefined ? undefined : name('domain', disposition.domain, ''),
    stage: checkStage(stage),
    bytesSent,
    note: checkNote(disposition.note),
    nextAttempt:
      disposition.nextAttempt === undefined
        ? undefined
        : time('nextAttempt', disposition.nextAttempt),
  }
}

function checkStage(stage: number | undefined): number {
  if (stage === undefined) return UNKNOWN_STAGE
  if (isCount(stage) && stage < STAGES.length) return stage
  throw invalid('stage', `not a number from 0 to ${STAGES.length - 1}`)
}

function checkNote(note: string | undefined): string {
  if (note === undefined) return ''
  if (typeof note !== 'string') throw invalid('note', 'not a string')
  if (Buffer.byteLength(note) > MAX_NOTE_BYTES)
    throw invalid('note', `over ${MAX_NOTE_BYTES} bytes`)
  // A surrogate without its other half has no UTF-8.
  return Buffer.from(note).toString()
}

/** The event with everything that was not given. */
function completed(event: FreeEvent, now: number): LogEvent {
  switch (event.type) {
    case 'heartbeat':
      return { type: 'heartbeat', time: now }
    case 'import':
      return { ...event, time: now }
    case 'authentication':
    case 'administration':
      return {
        type: event.type,
        time: now,
        connectionId: name('connectionId', event.connectionId, ''),
        peer: name('peer', event.peer, 'unknown'),
        user: name('user', event.user, ''),
        note: checkNote(event.note),
      }
    case 'rejection':
      return {
        type: 'rejection',
        time: now,
        id: '',
        batchId: name('batchId', event.batchId, ''),
        connectionId: name('connectionId', event.connectionId, ''),
        mailfrom: checkNote(event.mailfrom),
        rcptto: checkNote(event.rcptto),
        size: event.size === undefined || isCount(event.size) ? (event.size ?? 0) : wrongSize(),
        protocol: name('protocol', event.protocol, 'esmtp'),
        bindingGroup: name('bindingGroup', event.bindingGroup, 'default'),
        binding: name('binding', event.binding, 'default'),
        peer: name('peer', event.peer, 'unknown'),
        retries: 0,
        age: 0,
        domain: splitAddress(event.rcptto ?? '').domain,
        stage: checkStage(event.stage),
        bytesSent: 0,
        note: checkNote(event.note),
        context: () => undefined,
      }
  }
}

function wrongSize(): never {
  throw invalid('size', 'not a count')
}
