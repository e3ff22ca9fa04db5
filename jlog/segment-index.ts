/**
 * The index of a segment (`<segment>.idx`): u64 offsets of its records, in order, and one more that is 0 once the segment is
 * finished and read to its end. It is a cache that any reader may rebuild: what does not agree with the segment is cut back
 * and written anew, always under the index's lock, so that libjlog's readers and ours can build it together.
 */
import { fstatSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, INDEX_FILE_ERRORS, JournalFile } from './file.js'
import { INDEX_ENTRY_BYTES, indexFile, segmentFile } from './format.js'
import type { LogId } from './log-id.js'
import { type WalkStop, walkSegment } from './segment.js'

/** Something that tells which segment is being written, as it is at the moment of asking. */
export type StorageLogSource = () => Promise<number>

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
  readonly #hdrMagic: number
  readonly #index: JournalFile
  /** What earlier calls found and wrote; nothing before `end` is walked again. */
  #records = 0
  #end = 0

  private constructor(log: number, data: JournalFile, index: JournalFile, hdrMagic: number) {
    this.log = log
    this.data = data
    this.#index = index
    this.#hdrMagic = hdrMagic
  }

  /**
   * Opens a segment and its index, making the index (with the segment's mode) where there is none.
   * @returns null when there is no such segment
   */
  static async open(dir: string, log: number, hdrMagic: number): Promise<SegmentIndex | null> {
    const data = await openIfThere(join(dir, segmentFile(log)))
    if (data === null) return null
    try {
      const mode = fstatSync(data.fd).mode & 0o777
      const index = await JournalFile.open(join(dir, indexFile(log)), {
        create: mode,
        errors: INDEX_FILE_ERRORS,
      })
      return new SegmentIndex(log, data, index, hdrMagic)
    } catch (error) {
      await data.close()
      throw error
    }
  }

  /** True when the segment or the index was removed or replaced since it was opened. */
  get stale(): boolean {
    return fstatSync(this.data.fd).nlink === 0 || fstatSync(this.#index.fd).nlink === 0
  }

  /**
   * Brings the index up to date with the segment, and closes it when the segment is finished and walks cleanly.
   * @throws JlogError JLOG_ERR_LOCK, JLOG_ERR_IDX_READ, JLOG_ERR_IDX_WRITE, JLOG_ERR_FILE_READ
   */
  async resync(storageLog: StorageLogSource): Promise<IndexState> {
    return this.#index.withLock(async () => {
      for (;;) {
        const size = this.data.size()
        const stop = await this.#extend(size)
        const finished = (await storageLog()) > this.log
        // Only what was finished before its size was taken cannot have grown after that.
        if (finished && this.data.size() !== size) continue
        if (finished && size === 0) return { kind: 'empty' }
        if (finished && (stop !== 'end' || this.#end !== size)) {
          return { kind: 'damaged', at: this.#end, stop }
        }
        await this.#close(finished)
        return { kind: 'indexed', records: this.#records, dataEnd: this.#end, finished }
      }
    })
  }

  /**
   * Where the record with this marker begins.
   * @param marker from 1 to the `records` that `resync` found
   */
  async offsetOf(marker: number): Promise<number> {
    const entry = await this.#index.read((marker - 1) * INDEX_ENTRY_BYTES, INDEX_ENTRY_BYTES)
    if (entry.length < INDEX_ENTRY_BYTES) return -1
    return Number(entry.readBigUInt64LE(0))
  }

  async close(): Promise<void> {
    await this.data.close()
    await this.#index.close()
  }

  /** Walks what is new up to `size`; each record found gets its entry, if it has not got it already. */
  async #extend(size: number): Promise<WalkStop> {
    const known = this.#index.size()
    if (size < this.#end || known < this.#records * INDEX_ENTRY_BYTES) {
      this.#records = 0
      this.#end = 0
    }
    const { at, stop } = await walkSegment(
      this.data,
      this.#end,
      size,
      this.#hdrMagic,
      async (offsets, base) => {
        await this.#enter(offsets, base)
        this.#records += offsets.length
      },
    )
    this.#end = at
    return stop
  }

  async #enter(offsets: Uint32Array, base: number): Promise<void> {
    const entries = encodeEntries(offsets, base)
    const position = this.#records * INDEX_ENTRY_BYTES
    const there = await this.#index.read(position, entries.length)
    if (there.equals(entries)) return
    // Cut at the first entry that is wrong: nobody may find the rest of a bad index after our good entries.
    if (there.length > 0) await this.#index.truncate(position)
    await this.#index.write(entries, position)
  }

  /** After the entries of the records comes one 0 when the segment is finished, and nothing otherwise. */
  async #close(finished: boolean): Promise<void> {
    const position = this.#records * INDEX_ENTRY_BYTES
    const rest = await this.#index.read(position, INDEX_ENTRY_BYTES + 1)
    const closed = rest.equals(CLOSING_ENTRY)
    // A lone 0 would read as "offset 0", so an index without records is never closed.
    if (finished && this.#records > 0) {
      if (closed) return
      if (rest.length > 0) await this.#index.truncate(position)
      await this.#index.write(CLOSING_ENTRY, position)
    } else if (rest.length > 0) {
      await this.#index.truncate(position)
    }
  }
}

const CLOSING_ENTRY = Buffer.alloc(INDEX_ENTRY_BYTES)

function encodeEntries(offsets: Uint32Array, base: number): Buffer {
  const entries = Buffer.allocUnsafe(offsets.length * INDEX_ENTRY_BYTES)
  for (let i = 0; i < offsets.length; i++) {
    const offset = base + offsets[i]!
    entries.writeUInt32LE(offset % 0x1_0000_0000, i * INDEX_ENTRY_BYTES)
    entries.writeUInt32LE(Math.floor(offset / 0x1_0000_0000), i * INDEX_ENTRY_BYTES + 4)
  }
  return entries
}

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

export async function removeIfThere(path: string): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
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
