/**
 * Sidecar checksums: an optional file beside each segment, `<segment>.sum`, that libjlog ignores. With it a flipped bit
 * in a payload is found, which the jlog format alone cannot see.
 *
 * An entry a record, 24 bytes, little-endian: u64 offset of the record, u32 payload bytes as stored, u32 CRC-32 of the
 * header, u32 CRC-32 of the payload as stored, u32 CRC-32 of these 20 bytes.
 *
 * How a writer uses it, under the segment's lock, which covers this file, too: `ChecksumAppender.open(dir, log, end)`
 * when it opens or rolls to a segment that ends at `end`; `note(offset, record)` for each record it has written to the
 * segment; `flush(end)` before it lets go of the lock, with the end of the segment before these records. When appends
 * are synced, sync the segment first, then `sync()`. How a reader uses it: `SegmentChecksums.open(dir, log, file)`
 * (null: there are none), then `verify(offset, end)` for each record, in order.
 *
 * Nothing here is needed to read a journal, and nothing is believed that may be out of date. Entries are missing for
 * records of foreign writers and after a crash: such records are `unknown`, as without checksums. Entries may outlive
 * their records (a crash that lost the segment's end but not this file's): an entry speaks against a record only
 * where half of it still fits, or where an entry after it fits, for what is out of date is so up to the end.
 */
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { errnoOf, JournalFile } from './file.js'
import { segmentFile } from './format.js'

export const CHECKSUM_ENTRY_BYTES = 24
const FLUSH_BYTES = 64 * 1024
const WINDOW_ENTRIES = 4096
const PIECE_BYTES = 1024 * 1024
/** So many entries are searched for a record that is not where its entry says. */
const SEARCHED_ENTRIES = 64
const SUM_MODE = 0o640

export function checksumFile(log: number): string {
  return `${segmentFile(log)}.sum`
}

export interface ChecksumEntry {
  readonly offset: number
  /** Payload bytes as stored. */
  readonly length: number
  readonly header: number
  readonly payload: number
}

export type ChecksumVerdict = 'good' | 'damaged' | 'unknown'

export class ChecksumAppender {
  readonly #file: JournalFile
  #end: number
  #buffer = Buffer.allocUnsafeSlow(FLUSH_BYTES)
  #used = 0

  private constructor(file: JournalFile, end: number) {
    this.#file = file
    this.#end = end
  }

  /**
   * @param segmentEnd where the segment's last record ends; entries for anything after it are dropped
   * @throws JlogError JLOG_ERR_FILE_*
   */
  static async open(
    dir: string,
    log: number,
    segmentEnd: number,
    mode = SUM_MODE,
  ): Promise<ChecksumAppender> {
    return ChecksumAppender.openPath(join(dir, checksumFile(log)), segmentEnd, mode)
  }

  static async openPath(path: string, segmentEnd: number, mode = SUM_MODE) {
    const file = await JournalFile.open(path, { create: mode })
    const appender = new ChecksumAppender(file, file.size())
    try {
      await appender.#cutBack(segmentEnd)
    } catch (error) {
      await file.close()
      throw error
    }
    return appender
  }

  /** Notes one record that stands at `offset` of the segment: header and stored payload. */
  note(offset: number, record: Uint8Array, headerBytes: number): void {
    this.noteEntry({
      offset,
      length: record.length - headerBytes,
      header: crc32(record.subarray(0, headerBytes)),
      payload: crc32(record.subarray(headerBytes)),
    })
  }

  noteEntry(entry: ChecksumEntry): void {
    if (
      this.#used === this.#buffer.length ||
      this.#used + CHECKSUM_ENTRY_BYTES > this.#buffer.length
    ) {
      this.#buffer = Buffer.concat([this.#buffer, Buffer.allocUnsafeSlow(this.#buffer.length)])
    }
    encodeEntry(this.#buffer, this.#used, entry)
    this.#used += CHECKSUM_ENTRY_BYTES
  }

  /**
   * Writes what was noted.
   * @param segmentEnd the segment's end before the records noted: entries of others for anything after it are dropped
   */
  async flush(segmentEnd?: number): Promise<void> {
    if (segmentEnd !== undefined) await this.#cutBack(segmentEnd)
    await this.#file.write(this.#buffer.subarray(0, this.#used), this.#end)
    this.#end += this.#used
    this.#used = 0
    if (this.#buffer.length > 16 * FLUSH_BYTES) this.#buffer = Buffer.allocUnsafeSlow(FLUSH_BYTES)
  }

  async sync(): Promise<void> {
    await this.#file.sync()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  /** Drops a torn last entry, and entries for what the segment does not hold. */
  async #cutBack(segmentEnd: number): Promise<void> {
    const size = this.#file.size()
    let end = size - (size % CHECKSUM_ENTRY_BYTES)
    while (end > 0) {
      const entry = decodeEntry(
        await this.#file.read(end - CHECKSUM_ENTRY_BYTES, CHECKSUM_ENTRY_BYTES),
        0,
      )
      if (entry !== null && entry.offset < segmentEnd) break
      end -= CHECKSUM_ENTRY_BYTES
    }
    if (end < size) await this.#file.truncate(end)
    this.#end = end
  }
}

/** The checksums of one segment, asked in the order of its records. */
export class SegmentChecksums {
  readonly #sums: JournalFile
  readonly #segment: JournalFile
  readonly #headerBytes: number
  readonly #count: number
  #window: Buffer = Buffer.alloc(0)
  #windowStart = 0
  /** The next entry that may matter. */
  #at = 0
  /** How far records lie from where their entries say: bytes inserted before them, or lost. */
  #shift = 0
  #piece: Buffer = Buffer.alloc(0)
  #last: ChecksumEntry | null = null

  private constructor(sums: JournalFile, segment: JournalFile, headerBytes: number) {
    this.#sums = sums
    this.#segment = segment
    this.#headerBytes = headerBytes
    this.#count = Math.floor(sums.size() / CHECKSUM_ENTRY_BYTES)
  }

  /** @returns null when the segment has no checksums */
  static async open(
    dir: string,
    log: number,
    segment: JournalFile,
    headerBytes: number,
  ): Promise<SegmentChecksums | null> {
    try {
      const sums = await JournalFile.open(join(dir, checksumFile(log)))
      return new SegmentChecksums(sums, segment, headerBytes)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    }
  }

  /** The entry of the record that was last found `good`, else null. */
  get last(): ChecksumEntry | null {
    return this.#last
  }

  /** Whether the record at [offset, end) of the segment is what was written. Reads all of it, in pieces. */
  async verify(offset: number, end: number): Promise<ChecksumVerdict> {
    this.#last = null
    while (this.#at < this.#count) {
      const entry = await this.#entry(this.#at)
      if (entry !== null && entry.offset + this.#shift >= offset) break
      this.#at++
    }
    if (this.#at >= this.#count) return 'unknown'
    const found = await this.#sum(offset, end)
    for (let i = this.#at; i < Math.min(this.#count, this.#at + SEARCHED_ENTRIES); i++) {
      const entry = await this.#entry(i)
      if (entry === null || !same(entry, found)) continue
      this.#at = i + 1
      this.#shift = offset - entry.offset
      this.#last = found
      return 'good'
    }
    const entry = await this.#entry(this.#at)
    if (entry === null || entry.offset + this.#shift !== offset) return 'unknown'
    const header = entry.header === found.header
    const payload = entry.length === found.length && entry.payload === found.payload
    if (header || (payload && entry.length > 0)) return 'damaged'
    return (await this.#goodFrom(this.#at + 1)) === undefined ? 'unknown' : 'damaged'
  }

  /** First offset from `from` on at which a record is good, by an entry for it. */
  async nextGood(from: number): Promise<number | undefined> {
    let i = this.#at
    for (; i < this.#count; i++) {
      const entry = await this.#entry(i)
      if (entry !== null && entry.offset + this.#shift >= from) break
    }
    return this.#goodFrom(i)
  }

  /**
   * The end of the damaged record at `offset`, or of a damaged one that follows it, by their entries.
   * @param accept says whether a record can begin there, or the segment end
   */
  async nextBoundary(
    offset: number,
    accept: (end: number) => boolean,
  ): Promise<number | undefined> {
    let at = offset
    for (let i = Math.max(0, this.#at - 1); i < this.#count; i++) {
      const entry = await this.#entry(i)
      const begin = entry === null ? -1 : entry.offset + this.#shift
      if (begin < offset) continue
      if (entry === null || begin !== at || i > this.#at + SEARCHED_ENTRIES) return undefined
      at = begin + this.#headerBytes + entry.length
      if (accept(at)) return at
    }
    return undefined
  }

  async close(): Promise<void> {
    await this.#sums.close()
  }

  async #goodFrom(first: number): Promise<number | undefined> {
    const size = this.#segment.size()
    for (let i = first; i < Math.min(this.#count, first + SEARCHED_ENTRIES); i++) {
      const entry = await this.#entry(i)
      if (entry === null) continue
      const offset = entry.offset + this.#shift
      const end = offset + this.#headerBytes + entry.length
      if (offset >= 0 && end <= size && same(entry, await this.#sum(offset, end))) return offset
    }
    return undefined
  }

  async #sum(offset: number, end: number): Promise<ChecksumEntry> {
    const header = crc32(await this.#segment.read(offset, this.#headerBytes))
    const from = offset + this.#headerBytes
    let payload = 0
    for (let at = from; at < end; ) {
      const wanted = Math.min(PIECE_BYTES, end - at)
      if (this.#piece.length < wanted) this.#piece = Buffer.allocUnsafeSlow(Math.max(wanted, 4096))
      const piece = this.#piece.subarray(0, wanted)
      const got = await this.#segment.readAt(piece, at)
      payload = crc32(piece.subarray(0, got), payload)
      if (got < wanted) break
      at += got
    }
    return { offset, length: end - from, header, payload }
  }

  /** @returns null for an entry that is damaged itself */
  async #entry(i: number): Promise<ChecksumEntry | null> {
    if (
      i < this.#windowStart ||
      (i + 1 - this.#windowStart) * CHECKSUM_ENTRY_BYTES > this.#window.length
    ) {
      this.#windowStart = i
      const entries = Math.min(WINDOW_ENTRIES, this.#count - i)
      this.#window = await this.#sums.read(i * CHECKSUM_ENTRY_BYTES, entries * CHECKSUM_ENTRY_BYTES)
      if (this.#window.length < CHECKSUM_ENTRY_BYTES) return null
    }
    return decodeEntry(this.#window, (i - this.#windowStart) * CHECKSUM_ENTRY_BYTES)
  }
}

function same(a: ChecksumEntry, b: ChecksumEntry): boolean {
  return a.length === b.length && a.header === b.header && a.payload === b.payload
}

function encodeEntry(bytes: Buffer, at: number, entry: ChecksumEntry): void {
  bytes.writeUInt32LE(entry.offset % 0x1_0000_0000, at)
  bytes.writeUInt32LE(Math.floor(entry.offset / 0x1_0000_0000), at + 4)
  bytes.writeUInt32LE(entry.length, at + 8)
  bytes.writeUInt32LE(entry.header, at + 12)
  bytes.writeUInt32LE(entry.payload, at + 16)
  bytes.writeUInt32LE(crc32(bytes.subarray(at, at + 20)), at + 20)
}

function decodeEntry(bytes: Buffer, at: number): ChecksumEntry | null {
  if (at + CHECKSUM_ENTRY_BYTES > bytes.length) return null
  if (crc32(bytes.subarray(at, at + 20)) !== bytes.readUInt32LE(at + 20)) return null
  return {
    offset: bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x1_0000_0000,
    length: bytes.readUInt32LE(at + 8),
    header: bytes.readUInt32LE(at + 12),
    payload: bytes.readUInt32LE(at + 16),
  }
}
