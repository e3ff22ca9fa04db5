/**
 * How the spool lies in LMDB: the one place that knows its bytes. Integers are big-endian, so that keys
 * sort by number. The databases:
 *
 *     messages  id (16)                                → meta record: fixed header, then msgpack
 *     chunks    body id (16), n (4)                    → up to 16,000 bytes of the body
 *     refs      body id (16)                           → messages that share the body (4); no row means one
 *     staged    body id (16)                           → a body without message: being taken in, or to be deleted
 *     queue     due (6) id (16)                        → binding 0 domain; the index by due time, a leased
 *                                                        message standing where its lease ends
 *     lanes     0 binding 0 due (6) id (16)            → domain; the index by binding and by domain,
 *               1 domain 0 binding 0 due (6) id (16)   → ''; behind `queue` by what `lanelog` has
 *     lanelog   n (8)                                  → what a commit changed of `queue` (lanes.ts)
 *     leases    't' token (16)                         → a claim: its end, its messages
 *               'u' end (6) token (16)                 → ''; the claims by their ends
 *     expiry    time (6) id (16)                       → ''; messages with a retention of their own
 *     outbox    journal 0 first seq (8)                → the log records of one commit, packed
 *     state     a name                                 → counters, and a row for each journal
 *
 * A chunk of 16,000 bytes takes four pages and no more, so freed space fits whatever comes next. Records
 * carry a version and name their fields by position: a structure shared between records would have to be
 * as durable as each of them, and LMDB stores it apart.
 */
import { Packr } from 'msgpackr'
import { SpoolError } from './errors.js'
import { MESSAGE_STATES, type MessageMeta, type MessageState } from './message.js'
import { formatId, ID_BYTES } from './message-id.js'

export const CHUNK_BYTES = 16_000
export const FORMAT_VERSION = 2

const META_VERSION = 2
/** version (1), state (1), size (6), body id (16), sha256 (32), end of its own retention (6) or 0 */
const HEADER_BYTES = 62
const EXPIRES_AT = 56
const DUE_BYTES = 6
export const CHUNK_KEY_BYTES = ID_BYTES + 4
/** Sorts after every time: not scheduled. */
const NEVER = 2 ** 48 - 1

/** Everything a meta record holds. `body` and `sha256` are bytes here. */
export interface MessageRecord {
  readonly state: MessageState
  readonly size: number
  readonly body: Buffer
  readonly sha256: Buffer
  readonly mailfrom: string
  readonly rcptto: string
  readonly created: number
  readonly nextAttempt: number | null
  readonly retries: number
  readonly version: number
  readonly batchId: string
  readonly connectionId: string
  readonly protocol: string
  readonly bindingGroup: string
  readonly binding: string
  readonly retention: number | null
  readonly peer: string
  /** Keys and values in turn, in key order. */
  readonly conn: readonly string[]
  readonly mess: readonly string[]
  /** Of a message in state `leased`. */
  readonly lease: Lease | null
}

export interface Lease {
  readonly token: Buffer
  /** When it ends, milliseconds since the epoch. */
  readonly until: number
  /** The message is to be removed when the lease lets go. */
  readonly unlink: boolean
}

export interface BodyRef {
  readonly size: number
  readonly body: Buffer
  readonly sha256: Buffer
}

const NO_BODY = Buffer.alloc(ID_BYTES)

/** Of a message whose content was dropped: a body id of zeros, which is no body. */
export const DROPPED: BodyRef = { size: 0, body: NO_BODY, sha256: Buffer.alloc(32) }

export function isDropped({ body }: Pick<BodyRef, 'body'>): boolean {
  return NO_BODY.equals(body)
}

const packr = new Packr({ useRecords: false })

// Small values are cut from larger buffers: lmdb-js asks for the address of each buffer once.
const SLAB_BYTES = 64 * 1024
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
let slabUsed = 0

/** `size` bytes that stay the caller's. */
export function cut(size: number): Buffer {
  if (size > SLAB_BYTES >> 2) return Buffer.allocUnsafeSlow(size)
  if (slabUsed + size > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
    slabUsed = 0
  }
  const bytes = slab.subarray(slabUsed, slabUsed + size)
  slabUsed += size
  return bytes
}

export function encodeMeta(record: MessageRecord): Buffer {
  const rest = packr.pack([
    record.mailfrom,
    record.rcptto,
    record.created,
    record.nextAttempt,
    record.retries,
    record.version,
    record.batchId,
    record.connectionId,
    record.protocol,
    record.bindingGroup,
    record.binding,
    record.retention,
    record.peer,
    record.conn,
    record.mess,
    record.lease === null
      ? null
      : ([record.lease.token, record.lease.until, record.lease.unlink] satisfies LeaseFields),
  ])
  const bytes = cut(HEADER_BYTES + rest.length)
  bytes[0] = META_VERSION
  bytes[1] = MESSAGE_STATES.indexOf(record.state)
  bytes.writeUIntBE(record.size, 2, 6)
  bytes.set(record.body, 8)
  bytes.set(record.sha256, 24)
  bytes.writeUIntBE(ownExpiry(record) ?? 0, EXPIRES_AT, 6)
  bytes.set(rest, HEADER_BYTES)
  return bytes
}

/** When a message's own retention ends; null when it has none of its own. */
export function ownExpiry({
  created,
  retention,
}: Pick<MessageRecord, 'created' | 'retention'>): number | null {
  return retention === null ? null : Math.min(created + retention * 1000, NEVER)
}

/** As `ownExpiry`, read from the header alone; null also for what is no meta record. */
export function decodeExpiry(bytes: Buffer): number | null {
  if (bytes.length < HEADER_BYTES || bytes[0] !== META_VERSION) return null
  return bytes.readUIntBE(EXPIRES_AT, 6) || null
}

type LeaseFields = [token: Buffer, until: number, unlink: boolean]

type MetaFields = [
  mailfrom: string,
  rcptto: string,
  created: number,
  nextAttempt: number | null,
  retries: number,
  version: number,
  batchId: string,
  connectionId: string,
  protocol: string,
  bindingGroup: string,
  binding: string,
  retention: number | null,
  peer: string,
  conn: string[],
  mess: string[],
  lease: LeaseFields | null,
]

/** Throws SPOOL_ERR_CORRUPT for what is no meta record. */
export function decodeMeta(id: Buffer, bytes: Buffer): MessageRecord {
  const { size, body, sha256 } = decodeBodyRef(id, bytes)
  let fields: MetaFields
  try {
    fields = packr.unpack(bytes.subarray(HEADER_BYTES, bytes.length)) as MetaFields
  } catch (cause) {
    throw corruptMeta(id, cause)
  }
  const state = MESSAGE_STATES[bytes[1] as number]
  if (!Array.isArray(fields) || fields.length < 16 || state === undefined) throw corruptMeta(id)
  return {
    state,
    size,
    body,
    sha256,
    mailfrom: fields[0],
    rcptto: fields[1],
    created: fields[2],
    nextAttempt: fields[3],
    retries: fields[4],
    version: fields[5],
    batchId: fields[6],
    connectionId: fields[7],
    protocol: fields[8],
    bindingGroup: fields[9],
    binding: fields[10],
    retention: fields[11],
    peer: fields[12],
    conn: fields[13],
    mess: fields[14],
    lease: decodeLease(id, fields[15]),
  }
}

function decodeLease(id: Buffer, lease: MetaFields[15]): MessageRecord['lease'] {
  if (!lease) return lease
  const [token, until, unlink] = lease
  if (!(token instanceof Uint8Array) || typeof until !== 'number') throw corruptMeta(id)
  return { token: Buffer.from(token), until, unlink }
}

/** The body of a message, read from the header alone; copied, so `bytes` may be volatile. */
export function decodeBodyRef(id: Buffer, bytes: Buffer): BodyRef {
  if (bytes.length < HEADER_BYTES || bytes[0] !== META_VERSION) throw corruptMeta(id)
  const copy = Buffer.allocUnsafe(48)
  copy.set(new Uint8Array(bytes.buffer, bytes.byteOffset + 8, 48))
  return {
    size: bytes.readUIntBE(2, 6),
    body: copy.subarray(0, ID_BYTES),
    sha256: copy.subarray(ID_BYTES),
  }
}

function corruptMeta(id: Buffer, cause?: unknown): SpoolError {
  const text = formatId(id)
  return new SpoolError('SPOOL_ERR_CORRUPT', `the meta record of ${text} cannot be read`, {
    id: text,
    cause,
    advice: 'stop the service and run the spool check',
  })
}

export function metaOf(id: Buffer, record: MessageRecord): MessageMeta {
  return {
    id: formatId(id),
    mailfrom: record.mailfrom,
    rcptto: record.rcptto,
    size: record.size,
    sha256: isDropped(record) ? null : record.sha256.toString('hex'),
    state: record.state,
    created: record.created,
    nextAttempt: record.nextAttempt,
    retries: record.retries,
    version: record.version,
    batchId: record.batchId,
    connectionId: record.connectionId,
    protocol: record.protocol,
    bindingGroup: record.bindingGroup,
    binding: record.binding,
    retention: record.retention,
    peer: record.peer,
    context: { conn: unpairs(record.conn), mess: unpairs(record.mess) },
  }
}

/** A dictionary as it is stored: keys and values in turn, in key order. */
export function pairs(dictionary: Record<string, string> | undefined): string[] {
  if (dictionary === undefined) return []
  const entries = Object.entries(dictionary)
  if (entries.length === 0) return []
  return entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).flat()
}

export function unpairs(stored: readonly string[]): Record<string, string> {
  const entries: [string, string][] = []
  for (let i = 0; i + 1 < stored.length; i += 2) {
    entries.push([stored[i] as string, stored[i + 1] as string])
  }
  return Object.fromEntries(entries)
}

export function chunkKey(body: Buffer, n: number): Buffer {
  const key = cut(ID_BYTES + 4)
  key.set(body)
  key.writeUInt32BE(n, ID_BYTES)
  return key
}

export function chunkCount(size: number): number {
  return Math.ceil(size / CHUNK_BYTES)
}

export function splitChunkKey(key: Buffer): { body: Buffer; n: number } {
  return { body: key.subarray(0, ID_BYTES), n: key.readUInt32BE(ID_BYTES) }
}

/** `due` null: not scheduled, which sorts last. */
export function queueKey(due: number | null, id: Buffer): Buffer {
  const key = cut(DUE_BYTES + ID_BYTES)
  key.writeUIntBE(due === null ? NEVER : due, 0, DUE_BYTES)
  key.set(id, DUE_BYTES)
  return key
}

/** What a list is filtered by without a look at the message. Names hold no control characters. */
export function queueValue(binding: string, domain: string): Buffer {
  const bindingBytes = Buffer.byteLength(binding)
  const value = cut(bindingBytes + 1 + Buffer.byteLength(domain))
  value.write(binding, 0)
  value[bindingBytes] = 0
  value.write(domain, bindingBytes + 1)
  return value
}

export function splitQueueKey(key: Buffer): { due: number | null; id: Buffer } {
  const due = key.readUIntBE(0, DUE_BYTES)
  return { due: due === NEVER ? null : due, id: key.subarray(DUE_BYTES) }
}

/** A leased message stands where its lease ends: then it is due again by itself. */
export function queueRow(id: Buffer, record: MessageRecord): { key: Buffer; value: Buffer } {
  return {
    key: queueKey(record.lease === null ? record.nextAttempt : record.lease.until, id),
    value: queueValue(record.binding, domainOf(record.rcptto)),
  }
}

/** The recipient's domain in lower case; '' when there is none. */
export function domainOf(address: string): string {
  const at = address.lastIndexOf('@')
  return at < 0 ? '' : address.slice(at + 1).toLowerCase()
}

export const QUEUE_KEY_BYTES = DUE_BYTES + ID_BYTES

/** Lanes by binding, and by domain and then binding. */
export type LaneKind = 'binding' | 'domain'
const LANE_KINDS: readonly LaneKind[] = ['binding', 'domain']
const EMPTY = Buffer.alloc(0)

/** What the keys of a lane begin with; of a domain's lanes, when no binding is given. */
export function lanePrefix(kind: LaneKind, name: string, binding?: string): Buffer {
  const names = binding === undefined ? `${name}\0` : `${name}\0${binding}\0`
  return Buffer.from(`\u0000${names}`).fill(LANE_KINDS.indexOf(kind), 0, 1)
}

/** Of a lane row: by binding its value is the domain, by domain there is none. */
export function laneRow(
  kind: LaneKind,
  queue: Buffer,
  binding: string,
  domain: string,
): { key: Buffer; value: Buffer } {
  return kind === 'domain'
    ? { key: Buffer.concat([lanePrefix(kind, domain, binding), queue]), value: EMPTY }
    : { key: Buffer.concat([lanePrefix(kind, binding), queue]), value: Buffer.from(domain) }
}

/** The names in a key of a domain's lane, and the key of `queue` at its end. */
export function splitDomainLane(key: Buffer): { domain: string; binding: string; queue: Buffer } {
  const end = key.length - QUEUE_KEY_BYTES
  const middle = key.indexOf(0, 1)
  return {
    domain: key.toString('utf8', 1, middle),
    binding: key.toString('utf8', middle + 1, end - 1),
    queue: key.subarray(end),
  }
}

export function laneLogKey(n: number): Buffer {
  const key = cut(8)
  key.writeBigUInt64BE(BigInt(n))
  return key
}

export function splitLaneLogKey(key: Buffer): number {
  return Number(key.readBigUInt64BE())
}

const CLAIM = 't'.charCodeAt(0)
const CLAIM_END = 'u'.charCodeAt(0)

export function claimKey(token: Buffer): Buffer {
  return Buffer.concat([Buffer.from([CLAIM]), token])
}

export function claimEndKey(until: number, token: Buffer): Buffer {
  return Buffer.concat([Buffer.from([CLAIM_END]), queueKey(until, token)])
}

/** Before and after all claims in the order of their ends. */
export const CLAIM_ENDS = { start: Buffer.from([CLAIM_END]), end: Buffer.from([CLAIM_END + 1]) }

export function splitClaimEnd(key: Buffer): { until: number; token: Buffer } {
  return {
    until: key.readUIntBE(1, DUE_BYTES),
    token: Buffer.from(key.subarray(1 + DUE_BYTES)),
  }
}

/** A claim: when it ends, who made it, and its messages. */
export interface ClaimRow {
  readonly until: number
  readonly owner: string
  readonly ids: readonly Buffer[]
}

export function encodeClaim({ until, owner, ids }: ClaimRow): Buffer {
  return pack([until, owner, Buffer.concat(ids)])
}

export function decodeClaim(row: Buffer): ClaimRow {
  const [until, owner, bytes] = unpack(row) as [number, string, Uint8Array]
  const all = Buffer.from(bytes)
  const ids: Buffer[] = []
  for (let at = 0; at < all.length; at += ID_BYTES) ids.push(all.subarray(at, at + ID_BYTES))
  return { until, owner, ids }
}

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
  /** Records that are not done. */
  readonly outboxRecords: number
  readonly outboxBytes: number
}

/** With the last id given out, so that a clock that steps back over a restart gives none twice. */
export function encodeCounters(counters: Counters, lastId: Buffer): Buffer {
  const { bodies, bytes, scheduled, outboxRecords, outboxBytes } = counters
  return pack([bodies, bytes, scheduled, outboxRecords, outboxBytes, lastId])
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

/** A small row of `state`. */
export function pack(value: unknown): Buffer {
  const packed = packr.pack(value)
  const bytes = cut(packed.length)
  bytes.set(packed)
  return bytes
}

export function unpack(bytes: Buffer): unknown {
  return packr.unpack(bytes)
}
