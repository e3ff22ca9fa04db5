/**
 * The index of a segment (`<segment>.idx`): u64 offsets of its records, in order, and one more that is 0 once the segment is
 * finished and read to its end. It is a cache that any reader may rebuild: what does not agree with the segment is cut back
 * and written anew, always under the index's lock, so that libjlog's readers and ours can build it together.
 */
import { fstatSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { JlogError, type JlogErrorCode } from './errors.js'
import { errnoOf, INDEX_FILE_ERRORS, JournalFile } from './file.js'
import { INDEX_ENTRY_BYTES, indexFile, segmentFile } from './format.js'
import { confirmedEntry, placeByIndex } from './index-seek.js'
import type { LogId } from './log-id.js'
import type { RecordBatch } from './record-batch.js'
import type { WalkStop } from './segment.js'
import { type ChunkPool, SegmentReader } from './segment-reader.js'

/** Something that tells which segment is being written, as it is at the moment of asking. */
export type StorageLogSource = () => Promise<number>

/** May keep a batch that was read to index it, for its own use; those it does not keep are released. @returns whether it did */
export type KeepBatch = (batch: RecordBatch) => boolean

/** What a segment and its index are like now. */
export type IndexState =
  | {
      readonly kind: 'indexed'
      /** Complete records; each has its entry. */
      readonly records: number
      /** Offset just after the last of them. */
      readonly dataEnd: number
      /** Nothing will be appended any more, and all of it is records. */
      readonly finished: boolean
    }
  /** Finished, and 0 bytes long. */
  | { readonly kind: 'empty' }
  /** Finished, but not all of it is records: something for repair. */
  | { readonly kind: 'damaged'; readonly at: number; readonly stop: WalkStop }

export class SegmentIndex {
  readonly log: number
  readonly data: JournalFile
  readonly hdrMagic: number
  readonly #index: JournalFile
  /** Stands after what earlier calls found and entered; nothing before that is read again. */
  readonly #reader: SegmentReader
  /** Once it is finished, read to its end and closed, it does not change any more. */
  #final: IndexState | null = null

  private constructor(
    { log, hdrMagic }: { readonly log: number; readonly hdrMagic: number },
    data: JournalFile,
    index: JournalFile,
    reader: SegmentReader,
  ) {
    this.log = log
    this.data = data
    this.hdrMagic = hdrMagic
    this.#index = index
    this.#reader = reader
  }

  /**
   * Opens a segment and its index, making the index (with the segment's mode) where there is none.
   * @returns null when there is no such segment
   */
  static async open(
    dir: string,
    log: number,
    hdrMagic: number,
    pool?: ChunkPool,
  ): Promise<SegmentIndex | null> {
    const data = await openIfThere(join(dir, segmentFile(log)))
    if (data === null) return null
    try {
      const mode = fstatSync(data.fd).mode & 0o777
      const index = await JournalFile.open(join(dir, indexFile(log)), {
        create: mode,
        errors: INDEX_FILE_ERRORS,
      })
      const start = { log, path: data.path, hdrMagic, position: 0, marker: 1 }
      return new SegmentIndex(start, data, index, new SegmentReader(data, start, pool))
    } catch (error) {
      await data.close()
      throw error
    }
  }

  /** True when the segment or the index was removed or replaced since it was opened. */
  get stale(): boolean {
    return !this.data.bearsItsName() || !this.#index.bearsItsName()
  }

  /**
   * Brings the index up to date with the segment, and closes it when the segment is finished and walks cleanly.
   * @param finished the segment is known to be finished already; otherwise `storageLog` is asked
   * @param passed so many records will not be asked for in turn: in a large segment that was not read yet, what its index has of them
   *   is taken as it is
   * @throws JlogError JLOG_ERR_LOCK, JLOG_ERR_IDX_READ, JLOG_ERR_IDX_WRITE, JLOG_ERR_FILE_READ
   */
  async resync(
    storageLog: StorageLogSource,
    finished = false,
    keep?: KeepBatch,
    passed = 0,
  ): Promise<IndexState> {
    if (this.#final !== null) return this.#final
    return this.#index.withLock(async () => {
      for (;;) {
        const size = this.data.size()
        const stop = await this.#extend(size, keep, passed)
        const done = finished || (await storageLog()) > this.log
        // It may have grown between the taking of its size and its end.
        if (done && this.data.size() !== size) continue
        if (done && size === 0) return { kind: 'empty' }
        const { position, marker } = this.#reader.place
        if (done && (stop !== 'end' || position !== size)) {
          return { kind: 'damaged', at: position, stop }
        }
        const records = marker - 1
        await this.#close(records, done)
        const state = { kind: 'indexed', records, dataEnd: position, finished: done } as const
        if (done) this.#final = state
        return state
      }
    })
  }

  /**
   * Where the record with this marker begins. Another process may be cutting the index back at this moment, to write it anew: under its
   * lock there is either the entry or, seldom, none, and then the records are counted.
   * @param marker from 1 to the `records` that `resync` found
   */
  async offsetOf(marker: number): Promise<number> {
    if (marker === 1) return 0
    const size = this.data.size()
    const offset = await this.#index.withLock(() =>
      confirmedEntry(this.#index, marker - 1, this.data, size, this.hdrMagic),
    )
    if (offset !== null) return offset
    const place = { position: 0, marker: 1 }
    const of = { log: this.log, path: this.data.path, hdrMagic: this.hdrMagic }
    const reader = new SegmentReader(this.data, { ...of, ...place })
    await reader.skip(marker - 1, size)
    return reader.place.position
  }

  async close(): Promise<void> {
    await this.#reader.settle()
    await Promise.all([this.data.close(), this.#index.close()])
  }

  /** Reads what is new up to `size`; each record found gets its entry, if it has not got it already. */
  async #extend(size: number, keep: KeepBatch | undefined, passed: number): Promise<WalkStop> {
    const { position, marker } = this.#reader.place
    if (marker === 1) {
      const place = await placeByIndex(this.#index, this.data, size, this.hdrMagic, passed)
      if (place !== null) await this.#reader.seek(place)
    }
    // Somebody cut the index or the segment back: what was known of them counts no more.
    if (size < position || this.#index.size() < (marker - 1) * INDEX_ENTRY_BYTES) {
      await this.#reader.seek({ position: 0, marker: 1 })
    }
    if (this.#reader.place.position === size) return 'end'
    const there = this.#readEntries(this.#reader.place.marker)
    there.catch(() => undefined)
    for (;;) {
      const step = await this.#reader.next(size)
      if (step.batch === null) return step.stop
      await this.#enter(step.batch, await there)
      if (keep?.(step.batch) !== true) step.batch.release()
    }
  }

  /** The entries that there are from this marker on, as many as are had in one read. */
  async #readEntries(marker: number): Promise<KnownEntries> {
    const position = (marker - 1) * INDEX_ENTRY_BYTES
    const length = Math.min(MOST_KNOWN_BYTES, Math.max(0, this.#index.size() - position))
    return { marker, bytes: length === 0 ? NO_ENTRY : await this.#index.read(position, length) }
  }

  async #enter(batch: RecordBatch, known: KnownEntries): Promise<void> {
    const at = (batch.marker(0) - known.marker) * INDEX_ENTRY_BYTES
    if (hasEntries(known.bytes, at, batch)) return
    const entries = encodeEntries(batch)
    const position = (batch.marker(0) - 1) * INDEX_ENTRY_BYTES
    const there = await this.#index.read(position, entries.length)
    const good = there.length - (there.length % INDEX_ENTRY_BYTES)
    if (there.equals(entries.subarray(0, there.length)) && good === there.length) {
      if (good < entries.length) await this.#index.write(entries.subarray(good), position + good)
      return
    }
    // Nobody may find the rest of a bad index after our good entries.
    await this.#index.truncate(position)
    await this.#index.write(entries, position)
  }

  /** After the entries of the records comes one 0 when the segment is finished, and nothing otherwise. */
  async #close(records: number, finished: boolean): Promise<void> {
    const position = records * INDEX_ENTRY_BYTES
    const rest = await this.#index.read(position, INDEX_ENTRY_BYTES + 1)
    // A lone 0 would read as "offset 0", so an index without records is never closed.
    const wanted = finished && records > 0 ? CLOSING_ENTRY : NO_ENTRY
    if (rest.equals(wanted)) return
    if (rest.length > 0) await this.#index.truncate(position)
    if (wanted.length > 0) await this.#index.write(wanted, position)
  }
}

/** Entries as they stood in the index when its lock was taken, from that of `marker` on. */
interface KnownEntries {
  readonly marker: number
  readonly bytes: Buffer
}

/** Those of a segment of the default size with records of 32 bytes. */
const MOST_KNOWN_BYTES = 1024 * 1024

const CLOSING_ENTRY = Buffer.alloc(INDEX_ENTRY_BYTES)
const NO_ENTRY = Buffer.alloc(0)

/** Do the batch's entries stand in `bytes` from `at` on? */
function hasEntries(bytes: Buffer, at: number, batch: RecordBatch): boolean {
  const end = at + batch.length * INDEX_ENTRY_BYTES
  if (at < 0 || end > bytes.length) return false
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let i = 0, entry = at; entry < end; i++, entry += INDEX_ENTRY_BYTES) {
    const offset = words.getUint32(entry, true) + words.getUint32(entry + 4, true) * WORD
    if (offset !== batch.offset(i)) return false
  }
  return true
}

function encodeEntries(batch: RecordBatch): Buffer {
  const entries = Buffer.allocUnsafeSlow(batch.length * INDEX_ENTRY_BYTES)
  const words = new DataView(entries.buffer, entries.byteOffset, entries.length)
  for (let i = 0; i < batch.length; i++) {
    const offset = batch.offset(i)
    words.setUint32(i * INDEX_ENTRY_BYTES, offset % WORD, true)
    words.setUint32(i * INDEX_ENTRY_BYTES + 4, offset / WORD, true)
  }
  return entries
}

const WORD = 0x1_0000_0000

export interface IndexDetails {
  /** Records that it has entries for. */
  readonly records: number
  /** Whether it ends with the closing entry. */
  readonly closed: boolean
}

/**
 * What an index says of itself, unchecked (libjlog's jlog_idx_details). Writes nothing.
 * @returns null when there is no index; its size that is not a multiple of 8 is given rounded down
 */
export async function readIndexDetails(dir: string, log: number): Promise<IndexDetails | null> {
  const file = await openIfThere(join(dir, indexFile(log)))
  if (file === null) return null
  try {
    const entries = Math.floor(file.size() / INDEX_ENTRY_BYTES)
    if (entries < 2) return { records: entries, closed: false }
    const last = await file.read((entries - 1) * INDEX_ENTRY_BYTES, INDEX_ENTRY_BYTES)
    const closed = last.equals(CLOSING_ENTRY)
    return { records: closed ? entries - 1 : entries, closed }
  } finally {
    await file.close()
  }
}

/**
 * Removes a finished segment of 0 bytes with its index. Nothing is destroyed: under the segment's lock it still is empty
 * and finished, and whoever waits for that lock to append looks where to append once it has it.
 */
export async function removeEmptySegment(
  dir: string,
  log: number,
  storageLog: StorageLogSource,
): Promise<void> {
  const data = await openIfThere(join(dir, segmentFile(log)), true)
  if (data === null) return
  try {
    await data.withLock(async () => {
      if (data.size() > 0 || (await storageLog()) <= log) return
      await removeSegmentFiles(dir, log)
    })
  } finally {
    await data.close()
  }
}

/** Unlinks a segment, then its index; either may be gone already. */
export async function removeSegmentFiles(dir: string, log: number): Promise<void> {
  for (const name of [segmentFile(log), indexFile(log)]) await removeIfThere(join(dir, name))
}

/** @throws JlogError with `code` */
export async function removeIfThere(
  path: string,
  code: JlogErrorCode = 'JLOG_ERR_FILE_WRITE',
): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return false
    throw new JlogError(code, 'cannot remove the file', { file: path, cause })
  }
}

async function openIfThere(path: string, write = false): Promise<JournalFile | null> {
  try {
    return await JournalFile.open(path, { write })
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

/** The place before the first record of a segment. */
export function segmentStart(log: number): LogId {
  return { log, marker: 0 }
}
