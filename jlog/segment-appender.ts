/**
 * The end of the journal: the segment being written, its lock, and the roll to the next one.
 *
 * Between `begin` and `release` this holds the segment's lock, knows that the segment is the one being written, that
 * it ends with a complete record, and how many records it holds, whoever wrote them. What is appended there stands
 * whole and in order, or (after a failure) not at all, as far as the disk lets one cut it back.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DirectWrites } from './direct-writes.js'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile, type LockOptions, syncDirectory } from './file.js'
import { METASTORE_FILE, type Metastore, SAFETY, segmentFile } from './format.js'
import { listJournal } from './journal-directory.js'
import { LockManners } from './lock-manners.js'
import type { LogId } from './log-id.js'
import { MetastoreFile } from './metastore.js'
import { Retirement } from './retirement.js'
import { findSegmentEnd } from './segment-end.js'
import { isChecksumFile, SegmentSums } from './segment-sums.js'
import type { WriterObserver } from './writer-options.js'

export const LAST_SEGMENT = 0xffffffff
/**
 * Writes end at multiples of this where more follows: the page cache then takes large folios, and copies no page twice.
 * (Measured on ext4, Linux 6.18: writes of 512 KiB take a fifth longer where they begin in the middle of a page.)
 */
const STRIDE_BYTES = 512 * 1024
/** So much may wait for the next write, to let one end at a multiple. */
const MOST_HELD_BYTES = 64 * 1024
const NONE: Uint8Array = new Uint8Array(0)

export interface AppenderOptions extends LockOptions {
  /** Write sidecar checksums. Default: if the journal has any. */
  readonly checksums?: boolean
  /** Mode of new segments, less the umask. Default: the metastore's. */
  readonly fileMode?: number
  /** See `WriterOptions`. Default true. */
  readonly direct?: boolean
  readonly observer?: WriterObserver | undefined
}

/** A place in the journal: after record `marker` of segment `log`, at byte `offset`. */
export interface Place extends LogId {
  readonly offset: number
}

export class SegmentAppender {
  readonly dir: string
  readonly hdrMagic: number
  #metastore: MetastoreFile
  /** Mode of new files, less the umask. */
  readonly fileMode: number
  readonly #checksums: boolean
  readonly #lockOptions: LockOptions
  readonly #observer: WriterObserver | undefined
  readonly #retirement = new Retirement()
  readonly #manners = new LockManners()
  readonly #direct: DirectWrites
  /** Was a segment made whose name no sync of the directory has covered? */
  #unnamed: boolean = false
  /** The first sync that failed. None after it is believed. */
  #syncFailure: unknown = null
  #meta: Metastore
  #file: JournalFile | null = null
  #log = 0
  /** Where the last complete record ends, as far as we know. */
  #end = 0
  /** Records up to there. */
  #count = 0
  /** Of what was appended, the end that waits for the next write. */
  #held: Uint8Array = NONE
  /** Bytes of ours in the current segment that no sync has covered. */
  #dirty: boolean = false
  /** Checksums of the current segment; null when there are to be none, or they cannot be written. */
  #sums: SegmentSums | null = null
  #knowsHighest: boolean = false

  private constructor(
    dir: string,
    metastore: MetastoreFile,
    meta: Metastore,
    options: AppenderOptions,
  ) {
    this.dir = dir
    this.hdrMagic = meta.hdrMagic
    this.#metastore = metastore
    this.#meta = meta
    this.fileMode = options.fileMode ?? 0o640
    this.#checksums = options.checksums ?? false
    this.#direct = new DirectWrites(options.direct ?? true)
    this.#observer = options.observer
    this.#lockOptions = options.timeout === undefined ? {} : { timeout: options.timeout }
  }

  /** @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN */
  static async open(dir: string, options: AppenderOptions = {}): Promise<SegmentAppender> {
    const { names } = await listJournal(dir)
    const checksums = options.checksums ?? names.some(isChecksumFile)
    const metastore = await MetastoreFile.open(dir)
    try {
      const fileMode = options.fileMode ?? (await stat(join(dir, METASTORE_FILE))).mode & 0o666
      const meta = metastore.read()
      return new SegmentAppender(dir, metastore, meta, { ...options, fileMode, checksums })
    } catch (error) {
      await metastore.close()
      throw error
    }
  }

  /** The metastore as it was at the last `begin`. */
  get meta(): Metastore {
    return this.#meta
  }

  /** Where the next record goes. Right between `begin` and `release`. */
  get place(): Place {
    return { log: this.#log, marker: this.#count, offset: this.#end }
  }

  /** Path of the current segment. */
  get path(): string {
    return join(this.dir, segmentFile(this.#log))
  }

  /** Is what is appended written before `append` returns? */
  get direct(): boolean {
    return this.#direct.allowed
  }

  /** Has the current segment reached the size at which it is finished? */
  get full(): boolean {
    return this.#end >= this.#meta.unitLimit
  }

  /** `begin` without any waiting, for when nobody else has been here; false: use `begin`. */
  tryBegin(): boolean {
    const file = this.#file
    if (file === null || this.#hasSyncFailed || !this.#manners.mayTake()) return false
    if (this.#checksums && this.#sums === null) return false
    if (!file.tryLock()) {
      this.#manners.metOthers()
      return false
    }
    try {
      this.#meta = this.#metastore.read()
      if (this.#meta.storageLog === this.#log && !this.full && !this.#metastore.stale) {
        const { size, links } = file.stat()
        if (size === this.#end && links > 0) return true
      }
    } catch (error) {
      file.unlock()
      throw error
    }
    file.unlock()
    return false
  }

  /** `begin`, at once where that can be. */
  async beginSoon(): Promise<void> {
    if (!this.tryBegin()) await this.begin()
  }

  /**
   * Takes the lock on the segment being written, follows other writers to it, counts what they appended, cuts off (into
   * quarantine) what a dead one left half done, and rolls when the segment is full already (unless `evenIfFull`).
   */
  async begin(options: { readonly evenIfFull?: boolean } = {}): Promise<void> {
    await this.#manners.pause()
    for (;;) {
      this.#throwSyncFailure()
      if (this.#metastore.moved) await this.#reopenMetastore()
      this.#meta = this.#metastore.read()
      const file = await this.#openSegment(this.#meta.storageLog)
      if (!file.tryLock()) {
        this.#manners.metOthers()
        await file.lock(this.#lockOptions)
      }
      try {
        if (await this.#settle(file, options.evenIfFull ?? false)) return
      } catch (error) {
        this.#retire()
        throw error
      }
      this.release()
    }
  }

  /** Under the lock: true when records can be appended to this segment. */
  async #settle(file: JournalFile, evenIfFull: boolean): Promise<boolean> {
    this.#meta = this.#metastore.read()
    if (this.#meta.storageLog !== this.#log) return false
    const { size, links } = file.stat()
    if (links === 0) {
      this.#retire()
      return false
    }
    if (!this.#knowsHighest && !(await this.#isHighest())) return false
    if (size !== this.#end) {
      if (this.#count > 0) this.#manners.metOthers()
      const known = { end: this.#end, count: this.#count }
      const tail = await findSegmentEnd(file, this.dir, this.#log, this.hdrMagic, known)
      this.#end = tail.end
      this.#count = tail.count
      if (tail.damaged) {
        await this.roll()
        return false
      }
    }
    if (!this.full || evenIfFull) {
      if (this.#checksums && this.#sums === null) await this.#openSums()
      return true
    }
    await this.roll()
    return false
  }

  /** Bytes from `place` to where a write had better end. */
  get stride(): number {
    return STRIDE_BYTES - (this.#end % STRIDE_BYTES)
  }

  /**
   * Appends whole records at `place`. A failure may leave part of them there: see `cutBack`.
   * @param more another append follows before `release`; the end of this one may wait for it
   * @throws JlogError JLOG_ERR_FILE_WRITE
   */
  async append(
    buffers: readonly Uint8Array[],
    bytes: number,
    records: number,
    more = false,
  ): Promise<void> {
    const file = this.#file!
    this.#dirty = true
    const at = this.#end - this.#held.length
    const due = this.#due(buffers, more ? (this.#end + bytes) % STRIDE_BYTES : 0)
    if (this.#direct.allowed) this.#direct.run(() => file.writeAllNow(due, at))
    else if (due.length === 1) await file.write(due[0]!, at)
    else await file.writeAll(due, at)
    if (this.#sums !== null) await this.#sums.note(buffers, this.#end)
    this.#end += bytes
    this.#count += records
    this.#observer?.appended(records, bytes)
  }

  /** What was held back and `buffers`, but for the last `spare` bytes, which are held back now if they are few. */
  #due(buffers: readonly Uint8Array[], spare: number): readonly Uint8Array[] {
    const due = this.#held.length === 0 ? [...buffers] : [this.#held, ...buffers]
    this.#held = NONE
    const last = due.at(-1)
    if (last !== undefined && spare < Math.min(last.length, MOST_HELD_BYTES)) {
      due[due.length - 1] = last.subarray(0, last.length - spare)
      // A copy: the memory is used again for what comes next.
      if (spare > 0) this.#held = Buffer.from(last.subarray(last.length - spare))
    }
    return due
  }

  /**
   * Takes back what was appended since `place`, as far as the disk allows; the next opener sees to the rest.
   * @returns whether there was something
   */
  async cutBack(place: Place): Promise<boolean> {
    const file = this.#file
    if (file === null || place.log !== this.#log) return false
    this.#end = place.offset
    this.#count = place.marker
    this.#held = NONE
    try {
      if (file.size() <= place.offset) return false
      await file.truncate(place.offset)
    } catch {
      // What cannot be cut is a torn tail to the next opener, or whole records that nobody was promised.
    }
    return true
  }

  /** Bytes of the current segment, for comparing what stands there. */
  read(offset: number, length: number): Promise<Buffer> {
    return this.#file!.read(offset, length)
  }

  /**
   * Finishes the current segment and makes the next the one being written, unless another writer did, or the journal was moved
   * away: then none of it may be made where another journal may stand by now. Afterwards the lock is free and `begin` is needed.
   * @throws JlogError JLOG_ERR_NOT_SUPPORTED after segment ffffffff
   */
  async roll(): Promise<void> {
    const file = this.#file!
    let created: JournalFile | undefined
    try {
      if (this.#log === LAST_SEGMENT) {
        throw new JlogError('JLOG_ERR_NOT_SUPPORTED', 'the last possible segment is full', {
          file: file.path,
          segment: this.#log,
          advice: 'make a new journal; numbers of segments end at ffffffff',
        })
      }
      const durable = this.#meta.safety === SAFETY.safe
      if (durable) await this.sync()
      if (this.#metastore.moved) {
        this.#retire()
        return
      }
      const next = this.#log + 1
      const atOnce =
        !durable &&
        this.#direct.allowed &&
        this.#direct.run(() =>
          this.#metastore.advanceNow(this.#log, next, () => {
            created = this.#createSegmentNow(next)
          }),
        )
      if (!atOnce) {
        await this.#metastore.advance(this.#log, next, async () => {
          created = await this.#createSegment(next, durable)
        })
      }
      this.#retire()
      if (created) this.#adopt(created, next)
    } catch (error) {
      await created?.close()
      throw error
    } finally {
      file.unlock()
    }
    await this.#retirement.room()
  }

  release(): void {
    this.#file?.unlock()
    this.#manners.released()
  }

  /**
   * Everything appended to the current segment is durable after this.
   * @param foreign also what others appended and may not have synced
   */
  async sync(foreign = false): Promise<void> {
    this.#throwSyncFailure()
    if (!this.#dirty && !foreign) return
    this.#dirty = false
    const start = performance.now()
    try {
      await this.#file!.sync()
      this.#observer?.synced(performance.now() - start)
    } catch (error) {
      this.#syncFailure ??= error
      throw error
    }
  }

  /** Everything ever appended is durable after this, and found again: segments, directory and metastore. */
  async syncAll(): Promise<void> {
    await this.#retirement.settled()
    await this.sync()
    await this.#sums?.sync()
    if (this.#unnamed) {
      this.#unnamed = false
      await syncDirectory(this.dir)
    }
    await this.#metastore.sync()
  }

  /** Syncs and closes everything. */
  async close(): Promise<void> {
    try {
      await this.syncAll()
    } finally {
      await this.#closeSegment()
      await this.#metastore.close()
    }
  }

  /** Closes everything as it is, after a failure. */
  async abandon(): Promise<void> {
    await this.#retirement.settled()
    await this.#closeSegment()
    await this.#metastore.close()
  }

  async #closeSegment(): Promise<void> {
    await this.#sums?.close()
    this.#sums = null
    await this.#file?.close()
    this.#file = null
  }

  async #openSegment(log: number): Promise<JournalFile> {
    const current = this.#file
    if (current !== null) {
      if (log === this.#log) return current
      this.#retire()
      await this.#retirement.room()
    }
    const path = join(this.dir, segmentFile(log))
    const file = await JournalFile.open(path, { write: true }).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error
      return this.#createSegment(log, true)
    })
    return this.#adopt(file, log)
  }

  #adopt(file: JournalFile, log: number): JournalFile {
    this.#file = file
    this.#log = log
    this.#end = 0
    this.#count = 0
    this.#held = NONE
    this.#dirty = false
    return file
  }

  async #reopenMetastore(): Promise<void> {
    const fresh = await MetastoreFile.open(this.dir)
    await this.#metastore.close()
    this.#metastore = fresh
    // Its segments may be others, too, of the same numbers.
    this.#retire()
    this.#knowsHighest = false
    if (fresh.read().hdrMagic === this.hdrMagic) return
    throw new JlogError('JLOG_ERR_META_OPEN', 'the form of the records has changed meanwhile', {
      file: join(this.dir, METASTORE_FILE),
      advice: 'open the journal again',
    })
  }

  async #openSums(): Promise<void> {
    this.#sums = await SegmentSums.open(this.dir, this.#log, this.#end, this)
  }

  async #createSegment(log: number, durable: boolean): Promise<JournalFile> {
    const file = await JournalFile.open(join(this.dir, segmentFile(log)), { create: this.fileMode })
    // Below safety 2 the name waits for the segment's own sync, which has done most of the work then.
    if (durable) await syncDirectory(this.dir)
    else this.#unnamed = true
    return file
  }

  #createSegmentNow(log: number): JournalFile {
    this.#unnamed = true
    return JournalFile.openNow(join(this.dir, segmentFile(log)), { create: this.fileMode })
  }

  /**
   * Under the lock: is no segment after this one? After a crash between the making of a segment and the note of it
   * there is, and the highest is the one to write; the lock keeps it from being noted while somebody writes here.
   */
  async #isHighest(): Promise<boolean> {
    const { segments } = await listJournal(this.dir)
    this.#knowsHighest = true
    const highest = segments.at(-1) ?? 0
    if (highest <= this.#log) return true
    await this.#metastore.advance(this.#log, highest)
    return false
  }

  /** Leaves the current segment: what no sync has covered is synced in the background, then it is closed. */
  #retire(): void {
    const file = this.#file
    if (file === null) return
    file.unlock()
    this.#retirement.add({ file, sums: this.#sums, dirty: this.#dirty, unnamed: this.#unnamed })
    this.#file = null
    this.#sums = null
    this.#dirty = false
    this.#unnamed = false
  }

  get #hasSyncFailed(): boolean {
    return this.#syncFailure !== null || this.#retirement.failure !== null
  }

  #throwSyncFailure(): void {
    const failure = this.#syncFailure ?? this.#retirement.failure
    if (failure !== null) throw failure
  }
}
