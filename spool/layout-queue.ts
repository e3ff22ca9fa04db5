/** Rows of the indexes: the queue by due time, the lanes by binding and domain, and their log. */
import { cut, DUE_BYTES, NEVER } from './layout-bytes.js'
import type { MessageRecord } from './layout-meta.js'
import { ID_BYTES } from './message-id.js'

export const QUEUE_KEY_BYTES = DUE_BYTES + ID_BYTES

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
