/**
 * The bytes of a journal, and the only place that knows them: record headers, metastore, checkpoints, index
 * entries and the names of files. Little-endian unless said otherwise. Nothing here does I/O.
 */
import { JlogError } from './errors.js'
import { hex8, type LogId } from './log-id.js'

/** `reserved` word of a record in a plain journal. */
export const PLAIN_MAGIC = 0x663a7318
/** High bytes of `reserved` in a compressed journal; the low byte is the provider. */
export const COMPRESSED_MAGIC = 0x15106a00

export const DEFAULT_UNIT_LIMIT = 4 * 1024 * 1024
export const PLAIN_HEADER_BYTES = 16
export const COMPRESSED_HEADER_BYTES = 20
export const METASTORE_BYTES = 16
export const LEGACY_METASTORE_BYTES = 12
export const CHECKPOINT_BYTES = 8
export const INDEX_ENTRY_BYTES = 8
export const PRE_COMMIT_HEADER_BYTES = 4

export const METASTORE_FILE = 'metastore'
export const PRE_COMMIT_FILE = 'pre_commit'

export const COMPRESSION_PROVIDERS = { none: 0, lz4: 1 } as const

/** When metastore and checkpoints are synced; in Bobbin also when an append is (see writer). */
export const SAFETY = { unsafe: 0, almostSafe: 1, safe: 2 } as const
export type Safety = (typeof SAFETY)[keyof typeof SAFETY]

/** The four words of a metastore. */
export interface Metastore {
  /** Number of the segment being written. */
  readonly storageLog: number
  /** A segment of at least so many bytes is finished. */
  readonly unitLimit: number
  readonly safety: Safety
  /** What every record's first word must be. 0 in a legacy journal. */
  readonly hdrMagic: number
}

export interface RecordHeader {
  readonly magic: number
  readonly sec: number
  readonly usec: number
  /** Payload bytes as the reader gets them. */
  readonly length: number
  /** Payload bytes as they stand on disk; differs from `length` in compressed journals. */
  readonly storedLength: number
}

export function isCompressed(hdrMagic: number): boolean {
  return (hdrMagic & COMPRESSED_MAGIC) === COMPRESSED_MAGIC
}

export function compressionProvider(hdrMagic: number): number {
  return hdrMagic & 0xff
}

export function headerBytes(hdrMagic: number): number {
  return isCompressed(hdrMagic) ? COMPRESSED_HEADER_BYTES : PLAIN_HEADER_BYTES
}

/** Reads the header at `at`; the caller knows that `headerBytes(hdrMagic)` bytes are there. */
export function readRecordHeader(bytes: Buffer, at: number, hdrMagic: number): RecordHeader {
  const length = bytes.readUInt32LE(at + 12)
  return {
    magic: bytes.readUInt32LE(at),
    sec: bytes.readUInt32LE(at + 4),
    usec: bytes.readUInt32LE(at + 8),
    length,
    storedLength: isCompressed(hdrMagic) ? bytes.readUInt32LE(at + 16) : length,
  }
}

export function writeRecordHeader(bytes: Buffer, at: number, header: RecordHeader): void {
  bytes.writeUInt32LE(header.magic, at)
  bytes.writeUInt32LE(header.sec, at + 4)
  bytes.writeUInt32LE(header.usec, at + 8)
  bytes.writeUInt32LE(header.length, at + 12)
  if (isCompressed(header.magic)) bytes.writeUInt32LE(header.storedLength, at + 16)
}

/** Is it the magic of a plain, a legacy or a compressed journal? Providers that are not known yet pass. */
export function isRecordMagic(magic: number): boolean {
  return magic === PLAIN_MAGIC || magic === 0 || (magic & 0xffffff00) >>> 0 === COMPRESSED_MAGIC
}

/** @returns null when the bytes are neither a metastore nor a legacy one, also when a word is none it can hold */
export function decodeMetastore(bytes: Buffer): Metastore | null {
  if (bytes.length !== METASTORE_BYTES && bytes.length !== LEGACY_METASTORE_BYTES) return null
  const unitLimit = bytes.readUInt32LE(4)
  const safety = bytes.readUInt32LE(8)
  const hdrMagic = bytes.length === METASTORE_BYTES ? bytes.readUInt32LE(12) : 0
  if (safety !== 0 && safety !== 1 && safety !== 2) return null
  if (!isRecordMagic(hdrMagic)) return null
  return { storageLog: bytes.readUInt32LE(0), unitLimit, safety, hdrMagic }
}

/** Always the 16-byte form. */
export function encodeMetastore(meta: Metastore): Buffer {
  const bytes = Buffer.allocUnsafe(METASTORE_BYTES)
  bytes.writeUInt32LE(meta.storageLog, 0)
  bytes.writeUInt32LE(meta.unitLimit, 4)
  bytes.writeUInt32LE(meta.safety, 8)
  bytes.writeUInt32LE(meta.hdrMagic, 12)
  return bytes
}

/** @returns null when the file has the wrong size */
export function decodeCheckpoint(bytes: Buffer): LogId | null {
  if (bytes.length !== CHECKPOINT_BYTES) return null
  return { log: bytes.readUInt32LE(0), marker: bytes.readUInt32LE(4) }
}

/** @throws JlogError JLOG_ERR_ILLEGAL_LOGID for numbers that no id can have */
export function encodeCheckpoint(id: LogId): Buffer {
  for (const part of [id.log, id.marker]) {
    if (Number.isInteger(part) && part >= 0 && part <= 0xffffffff) continue
    throw new JlogError('JLOG_ERR_ILLEGAL_LOGID', `not a log id: ${id.log}, ${id.marker}`, {
      advice: 'both are whole numbers from 0 to 4294967295',
    })
  }
  const bytes = Buffer.allocUnsafe(CHECKPOINT_BYTES)
  bytes.writeUInt32LE(id.log, 0)
  bytes.writeUInt32LE(id.marker, 4)
  return bytes
}

export function segmentFile(log: number): string {
  return hex8(log)
}

export function indexFile(log: number): string {
  return `${hex8(log)}.idx`
}

/** @returns the segment number, or null when `name` is no segment's */
export function parseSegmentFile(name: string): number | null {
  return /^[0-9a-f]{8}$/.test(name) ? Number.parseInt(name, 16) : null
}

/** The name's bytes in hex; a subscriber's name is any bytes, given as UTF-8 text or as they are. */
export function checkpointFile(subscriber: string | Uint8Array): string {
  const bytes =
    typeof subscriber === 'string' ? Buffer.from(subscriber, 'utf8') : Buffer.from(subscriber)
  return `cp.${bytes.toString('hex')}`
}

/** @returns the subscriber's name as bytes (none in `cp.`, as libjlog makes it), or null when `name` is no checkpoint's */
export function parseCheckpointFile(name: string): Buffer | null {
  const match = /^cp\.((?:[0-9a-f]{2})*)$/.exec(name)
  return match ? Buffer.from(match[1]!, 'hex') : null
}
