/**
 * How the answers kept under idempotency keys lie in LMDB, in the database `idempotency`: a row by the
 * key's hash, so that keys of any length cost the same, and an empty row that sorts by when it ends. A
 * row has a checksum: an answer that was damaged must not be given again as if it were right.
 */
import { hash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { cut, DUE_BYTES, pack, unpack } from './layout-bytes.js'
import { ID_BYTES } from './message-id.js'

const KEPT = 'y'.charCodeAt(0)
const END = 'z'.charCodeAt(0)
const KEY_BYTES = 1 + ID_BYTES
const END_KEY_BYTES = 1 + DUE_BYTES + ID_BYTES

const VERSION = 1
/** version (1), CRC-32 of what follows (4), end (6), fingerprint (32) */
const HEADER_BYTES = 43

/** What was stored under a key. */
export interface KeptAnswer {
  /** When it ends, milliseconds since the epoch. */
  readonly until: number
  /** SHA-256 of all that was asked for. */
  readonly fingerprint: Buffer
  readonly results: readonly KeptResult[]
}

export interface KeptResult {
  readonly ids: readonly Buffer[]
  readonly size: number
  readonly sha256: Buffer
}

/** Of a caller's key: the first half of its SHA-256. */
export function keptKey(key: string): Buffer {
  return keyOf(hash('sha256', key, 'buffer'))
}

function keyOf(digest: Buffer): Buffer {
  const key = cut(KEY_BYTES)
  key[0] = KEPT
  key.set(digest.subarray(0, ID_BYTES), 1)
  return key
}

/** For a key of `keptKey`. */
export function keptEndKey(until: number, key: Buffer): Buffer {
  const end = cut(END_KEY_BYTES)
  end[0] = END
  end.writeUIntBE(until, 1, DUE_BYTES)
  end.set(key.subarray(1), 1 + DUE_BYTES)
  return end
}

export function isKeptKey(key: Buffer): boolean {
  return key.length === KEY_BYTES && key[0] === KEPT
}

export function isKeptEndKey(key: Buffer): boolean {
  return key.length === END_KEY_BYTES && key[0] === END
}

export function splitKeptEnd(end: Buffer): { until: number; key: Buffer } {
  return { until: end.readUIntBE(1, DUE_BYTES), key: keyOf(end.subarray(1 + DUE_BYTES)) }
}

/** The range of those that end up to and including `until`. */
export function keptEnds(until: number): { start: Buffer; end: Buffer } {
  return { start: Buffer.from([END]), end: keptEndKey(until + 1, Buffer.alloc(KEY_BYTES)) }
}

export function encodeKept({ until, fingerprint, results }: KeptAnswer): Buffer {
  const rest = pack(results.map(({ ids, size, sha256 }) => [size, sha256, Buffer.concat(ids)]))
  const row = cut(HEADER_BYTES + rest.length)
  row[0] = VERSION
  row.writeUIntBE(until, 5, DUE_BYTES)
  row.set(fingerprint, 11)
  row.set(rest, HEADER_BYTES)
  row.writeUInt32BE(crc32(row.subarray(5)), 1)
  return row
}

/** undefined for what is no such row. */
export function decodeKept(row: Buffer): KeptAnswer | undefined {
  if (row.length <= HEADER_BYTES || row[0] !== VERSION) return undefined
  if (row.readUInt32BE(1) !== crc32(row.subarray(5, row.length))) return undefined
  const results = unpack(row.subarray(HEADER_BYTES, row.length)) as [number, Buffer, Buffer][]
  return {
    until: row.readUIntBE(5, DUE_BYTES),
    fingerprint: Buffer.from(row.subarray(11, HEADER_BYTES)),
    results: results.map(([size, sha256, ids]) => ({ size, sha256, ids: split(ids) })),
  }
}

function split(ids: Buffer): Buffer[] {
  return Array.from({ length: ids.length / ID_BYTES }, (_, i) =>
    ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES),
  )
}
