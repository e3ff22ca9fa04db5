/**
 * The pre-commit buffer: whole records that are safe in `pre_commit` but in no segment yet. For a single writer.
 *
 * Promises: a pending record reaches the segment exactly once, also when its writer dies at any moment of the move:
 * whoever opens next compares the end of the segment with the buffer, and moves only what is not there. That
 * comparison cannot mistake an older record for a pending one, because a record equal to the segment's last
 * (same time, same bytes) is never put into the buffer: `mayHold` says so, and the writer flushes instead.
 */
import { join } from 'node:path'
import { JlogError } from './errors.js'
import { JournalFile, PRE_COMMIT_FILE_ERRORS, syncDirectory } from './file.js'
import { PRE_COMMIT_FILE, PRE_COMMIT_HEADER_BYTES } from './format.js'
import { quarantineFileRange } from './quarantine.js'
import { RecordOffsets, walkRecords } from './segment.js'

/** The buffer is held in memory while a writer is open. */
export const MAX_PRE_COMMIT_BYTES = 256 * 1024 * 1024

export class PreCommit {
  readonly #file: JournalFile
  readonly #hdrMagic: number
  readonly #buffer: Buffer
  readonly #offsets = new RecordOffsets()
  #used = 0
  /** Bytes that stand in the file, and are counted by its count word. */
  #stored = 0
  /** The segment's last record, null where there is none, undefined when not known; see the head of this file. */
  #lastInSegment: Buffer | null | undefined

  private constructor(file: JournalFile, hdrMagic: number, buffer: Buffer) {
    this.#file = file
    this.#hdrMagic = hdrMagic
    this.#buffer = buffer
  }

  /**
   * Opens the buffer, made without room (as libjlog makes it) where there is none.
   * Bytes in it that are no whole records go into quarantine.
   * @throws JlogError JLOG_ERR_PRE_COMMIT_OPEN
   */
  static async open(dir: string, hdrMagic: number, fileMode: number): Promise<PreCommit> {
    const path = join(dir, PRE_COMMIT_FILE)
    const file = await JournalFile.open(path, { create: fileMode, errors: PRE_COMMIT_FILE_ERRORS })
    try {
      let size = file.size()
      if (size === 0) {
        await file.write(Buffer.alloc(PRE_COMMIT_HEADER_BYTES), 0)
        await file.sync()
        await syncDirectory(dir)
        size = PRE_COMMIT_HEADER_BYTES
      }
      if (size < PRE_COMMIT_HEADER_BYTES || size > PRE_COMMIT_HEADER_BYTES + MAX_PRE_COMMIT_BYTES) {
        throw new JlogError(
          'JLOG_ERR_PRE_COMMIT_OPEN',
          `a buffer of ${size} bytes cannot be used`,
          {
            file: path,
            advice: 'repair the journal',
          },
        )
      }
      const bytes = await file.read(0, size)
      const preCommit = new PreCommit(file, hdrMagic, bytes.subarray(PRE_COMMIT_HEADER_BYTES))
      await preCommit.#load(bytes.readUInt32LE(0))
      return preCommit
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** Bytes of records that the buffer can hold; 0: the feature is off. */
  get capacity(): number {
    return this.#buffer.length
  }

  get records(): number {
    return this.#offsets.length
  }

  /** The pending records' bytes: a view, right until the next change. */
  get pending(): Buffer {
    return this.#buffer.subarray(0, this.#used)
  }

  /** May these whole records be put into the buffer as it is? */
  mayHold(records: Buffer): boolean {
    if (records.length > this.capacity - this.#used) return false
    const last = this.#lastInSegment
    if (last === undefined) return false
    return last === null || records.indexOf(last) < 0
  }

  /** Puts whole records into the buffer; they are in the file after `store`. */
  put(records: Buffer): void {
    records.copy(this.#buffer, this.#used)
    const end = this.#used + records.length
    walkRecords(this.#buffer, this.#used, end, this.#hdrMagic, this.#offsets)
    this.#used = end
  }

  /** Writes to the file what was put since; with `durable` it is on the disk, and never a count without its records. */
  async store(durable: boolean): Promise<void> {
    if (this.#stored === this.#used) return
    const at = PRE_COMMIT_HEADER_BYTES + this.#stored
    await this.#file.write(this.#buffer.subarray(this.#stored, this.#used), at)
    if (durable) await this.#file.sync()
    await this.#count(this.#used)
    if (durable) await this.#file.sync()
  }

  /**
   * Lets go of what another process has moved to the segment since: whoever opens the journal for writing does so, also a `jlogctl` that only
   * looks, and says so by a count of 0. To be asked under the segment's lock, before anything is done with the pending records.
   * @returns whether there was any
   * @throws JlogError JLOG_ERR_ILLEGAL_WRITE when another writer has put records of its own into the buffer
   */
  forgetMoved(): boolean {
    if (this.#stored === 0) return false
    const count = this.#file.readNow(0, PRE_COMMIT_HEADER_BYTES)
    if (count.length === PRE_COMMIT_HEADER_BYTES && count.readUInt32LE(0) === this.#stored)
      return false
    if (count.length < PRE_COMMIT_HEADER_BYTES || count.readUInt32LE(0) !== 0) {
      throw new JlogError('JLOG_ERR_ILLEGAL_WRITE', 'another writer uses the pre-commit buffer', {
        file: this.#file.path,
        advice: 'a journal with such a buffer is for one writer at a time',
      })
    }
    this.#buffer.copyWithin(0, this.#stored, this.#used)
    this.#used -= this.#stored
    this.#stored = 0
    this.#offsets.clear()
    walkRecords(this.#buffer, 0, this.#used, this.#hdrMagic, this.#offsets)
    this.#lastInSegment = undefined
    return true
  }

  /** Takes back what was put since the last `store`. */
  unput(): void {
    this.#used = this.#stored
    this.#offsets.clear()
    walkRecords(this.#buffer, 0, this.#used, this.#hdrMagic, this.#offsets)
  }

  /** Empties it, once its records are in the segment. */
  async clear(durable: boolean): Promise<void> {
    this.#used = 0
    this.#offsets.clear()
    if (this.#stored === 0) return
    await this.#count(0)
    if (durable) await this.#file.sync()
  }

  /**
   * How many of the pending records stand at the end of the segment already, because a flush died before it could
   * empty the buffer: the longest run of whole records from the buffer's first that the segment ends with.
   * @param read bytes of the segment, which ends with a complete record at `end`
   */
  async alreadyInSegment(
    end: number,
    read: (offset: number, length: number) => Promise<Buffer>,
  ): Promise<{ bytes: number; records: number }> {
    const length = Math.min(end, this.#used)
    const tail = await read(end - length, length)
    for (let n = this.#offsets.length; n > 0; n--) {
      const bytes = n === this.#offsets.length ? this.#used : this.#offsets.at(n)
      if (bytes > length) continue
      if (tail.subarray(length - bytes).equals(this.#buffer.subarray(0, bytes))) {
        return { bytes, records: n }
      }
    }
    return { bytes: 0, records: 0 }
  }

  /** Tells with which records the segment ends now: the last of a stretch; null: it has none; undefined: unknown. */
  segmentEndsWith(records: Buffer | null | undefined): void {
    if (!records) {
      this.#lastInSegment = records
      return
    }
    const offsets = new RecordOffsets()
    walkRecords(records, 0, records.length, this.#hdrMagic, offsets)
    const last = records.subarray(offsets.at(offsets.length - 1))
    // What can never be in the buffer can never be mistaken for a pending record.
    this.#lastInSegment = last.length > this.capacity ? null : Buffer.from(last)
  }

  /** Makes the empty buffer one of `capacity` bytes. */
  static async resize(
    dir: string,
    hdrMagic: number,
    old: PreCommit,
    capacity: number,
  ): Promise<PreCommit> {
    assertPreCommitSize(capacity)
    await old.#file.truncate(PRE_COMMIT_HEADER_BYTES)
    await old.#file.write(Buffer.alloc(capacity), PRE_COMMIT_HEADER_BYTES)
    await old.#file.sync()
    await old.close()
    return PreCommit.open(dir, hdrMagic, 0)
  }

  async sync(): Promise<void> {
    await this.#file.sync()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async #load(count: number): Promise<void> {
    const claimed = Math.min(count, this.#buffer.length)
    const walk = walkRecords(this.#buffer, 0, claimed, this.#hdrMagic, this.#offsets)
    this.#used = walk.at
    this.#stored = count
    if (walk.at === count) return
    if (walk.at < claimed) {
      const at = PRE_COMMIT_HEADER_BYTES
      await quarantineFileRange(this.#file.path, at + walk.at, at + claimed)
    }
    await this.#count(this.#used)
    await this.#file.sync()
  }

  async #count(bytes: number): Promise<void> {
    const word = Buffer.allocUnsafe(PRE_COMMIT_HEADER_BYTES)
    word.writeUInt32LE(bytes, 0)
    await this.#file.write(word, 0)
    this.#stored = bytes
  }
}

/** @throws JlogError JLOG_ERR_CREATE_PRE_COMMIT */
export function assertPreCommitSize(bytes: number): void {
  if (Number.isInteger(bytes) && bytes >= 0 && bytes <= MAX_PRE_COMMIT_BYTES) return
  throw new JlogError(
    'JLOG_ERR_CREATE_PRE_COMMIT',
    `not a pre-commit buffer's size: ${String(bytes)}`,
    {
      advice: `give a whole number of bytes from 0 to ${MAX_PRE_COMMIT_BYTES}`,
    },
  )
}
