/** The meta record: a fixed header that can be read alone, then msgpack. Fields go by position. */
import { SpoolError } from './errors.js'
import { cut, NEVER, packr } from './layout-bytes.js'
import { MESSAGE_STATES, type MessageMeta, type MessageState } from './message.js'
import { formatId, ID_BYTES } from './message-id.js'

const META_VERSION = 2
/** version (1), state (1), size (6), body id (16), sha256 (32), end of its own retention (6) or 0 */
const HEADER_BYTES = 62
const EXPIRES_AT = 56

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
