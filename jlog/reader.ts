/**
 * Reading as a subscriber: from its checkpoint to the last complete record of the segment it is in, then on to the next.
 * Promises that a subscriber sees every record that any reader can, in file order; that only what it has read past is
 * ever removed; and that the segment being written is never repaired by a reader. A JournalReader is for one user at a time.
 */

import { join } from 'node:path'
import { CheckpointFile, type SubscriberName, tryToRemoveConsumed } from './checkpoints.js'
import { JlogError } from './errors.js'
import { segmentFile } from './format.js'
import { firstSegmentFrom, type JournalListing, listJournal } from './journal-directory.js'
import { formatLogId, type LogId } from './log-id.js'
import { type BatchLimits, type JournalRecord, RecordBatch } from './record-batch.js'
import { repairSegment } from './repair-segment.js'
import {
  type IndexState,
  removeEmptySegment,
  type StorageLogSource,
  segmentStart,
} from './segment-index.js'
import { corruptSegment } from './segment-reader.js'
import { type JournalSettings, readSettings } from './settings.js'
import { type KnownSegment, SubscriberSegment } from './subscriber-segment.js'

/** Records that are there to be read: contiguous, in one segment. */
export interface Interval {
  readonly first: LogId
  readonly last: LogId
  readonly count: number
}

/** How often one segment is repaired before its damage is reported instead. */
const MOST_REPAIRS = 3

/** @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER, JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN */
export async function openReader(dir: string, subscriber: SubscriberName): Promise<JournalReader> {
  return JournalReader.open(dir, subscriber)
}

export class JournalReader {
  readonly #dir: string
  readonly #checkpoint: CheckpointFile
  /** As read last; safety may be altered while a reader is open. */
  #settings: JournalSettings
  readonly #storageLog: StorageLogSource
  /** The directory as it was listed last; undefined when it is to be listed again. */
  #listed: JournalListing | undefined
  /** The segment read last. */
  readonly #segment: SubscriberSegment
  /** What `readBatch` is to give, and the marker it is at. */
  #interval: Interval | null = null
  #nextMarker = 0
  /** How often a segment was repaired by this reader. */
  readonly #repairs = new Map<number, number>()
  #closed: boolean = false

  private constructor(dir: string, checkpoint: CheckpointFile, settings: JournalSettings) {
    this.#dir = dir
    this.#checkpoint = checkpoint
    this.#settings = settings
    this.#storageLog = async () => {
      this.#settings = await readSettings(dir)
      return this.#settings.storageLog
    }
    this.#segment = new SubscriberSegment(dir, this.#storageLog)
    checkpoint.onReplaced = async () => {
      this.#listed = undefined
      this.#settings = await readSettings(dir)
    }
  }

  /** As `openReader`. */
  static async open(dir: string, subscriber: SubscriberName): Promise<JournalReader> {
    const settings = await readSettings(dir)
    return new JournalReader(dir, await CheckpointFile.open(dir, subscriber), settings)
  }

  /**
   * What there is to read after the checkpoint now; null when there is nothing new. Goes on to the next segment when this one is
   * finished and all of it is before the checkpoint (which then moves to that segment's start), indexes the
   * segment, removes empty finished ones, and repairs a damaged finished one.
   * @throws JlogError JLOG_ERR_FILE_CORRUPT when a damaged segment cannot be repaired, JLOG_ERR_LOCK
   */
  async readInterval(): Promise<Interval | null> {
    this.#assertOpen()
    this.#interval = null
    await this.#segment.rewind()
    for (;;) {
      const at = await this.#readCheckpoint()
      const found = await this.#findSegment(at)
      if (found === 'again') continue
      if (found === 'nothing') return null
      if (found === 'damaged') {
        await this.#repair()
        continue
      }
      const { records } = this.#segment
      const log = this.#segment.log!
      const passed = log === at.log ? at.marker : 0
      if (passed > records) await this.#moveCheckpoint({ log, marker: records })
      else if (log !== at.log) await this.#moveCheckpoint(segmentStart(log))
      if (passed >= records) return null
      this.#interval = {
        first: { log, marker: passed + 1 },
        last: { log, marker: records },
        count: records - passed,
      }
      this.#nextMarker = passed + 1
      return this.#interval
    }
  }

  /**
   * The next records of the interval that `readInterval` gave last; an empty batch when there is none or all of it was read. Bytes of a
   * batch stay as they are until it is released.
   * @throws JlogError JLOG_ERR_FILE_CORRUPT when the segment changed under the reader
   */
  async readBatch(limits: BatchLimits = {}): Promise<RecordBatch> {
    this.#assertOpen()
    const interval = this.#interval
    if (interval === null) return NO_RECORDS
    const { last } = interval
    if (this.#nextMarker > last.marker) return this.#emptyBatch(last)
    const left = last.marker - this.#nextMarker + 1
    const within = { ...limits, maxRecords: Math.min(left, limits.maxRecords ?? left) }
    let batch = this.#segment.kept(this.#nextMarker, within)
    if (batch === null) {
      if (this.#segment.log !== last.log) await this.#openForRead(last)
      batch = await this.#segment.take(this.#nextMarker, within)
    }
    this.#nextMarker += batch.length
    return batch
  }

  /**
   * One record, of any segment that is still there. Reading them in order is fast; each other order costs a read.
   * @throws JlogError JLOG_ERR_ILLEGAL_LOGID (marker 0, or there is no such record), JLOG_ERR_CLOSE_LOGID (the place after the
   * last record of a finished segment), JLOG_ERR_FILE_OPEN (no such segment), JLOG_ERR_FILE_CORRUPT
   */
  async read(id: LogId): Promise<JournalRecord> {
    this.#assertOpen()
    if (!Number.isInteger(id.marker) || id.marker < 1) throw illegalId(id)
    if (this.#segment.log !== id.log || id.marker > this.#segment.records)
      await this.#openForRead(id)
    return this.#segment.record(id.marker)
  }

  /**
   * Everything up to and including `id` is done with: the next interval begins after it. Segments that no subscriber
   * needs any more are removed when this moves on to a later one.
   * @throws JlogError JLOG_ERR_CHECKPOINT
   */
  async checkpoint(id: LogId): Promise<void> {
    this.#assertOpen()
    await this.#moveCheckpoint(id)
  }

  /** Where the subscriber stands now, by its file. */
  async position(): Promise<LogId> {
    this.#assertOpen()
    return this.#readCheckpoint()
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#segment.close()
    await this.#checkpoint.close()
  }

  /** A checkpoint file of the wrong size reads as the beginning: reading twice is safe, skipping is not. */
  async #readCheckpoint(): Promise<LogId> {
    return (await this.#checkpoint.read()) ?? segmentStart(0)
  }

  async #moveCheckpoint(id: LogId): Promise<void> {
    const before = await this.#checkpoint.write(id, this.#settings.safety)
    if (before === null || before.log < id.log) await tryToRemoveConsumed(this.#dir, this.#listed)
  }

  /** Opens the segment that has what comes after `at`, or is the last one. */
  async #findSegment(at: LogId): Promise<'found' | 'nothing' | 'again' | 'damaged'> {
    // What was listed before serves as long as there is more in it: a segment that has a next one stays finished.
    if (!(at.log < (this.#listed?.segments.at(-1) ?? 0))) this.#listed = undefined
    this.#listed ??= await listJournal(this.#dir)
    const { segments } = this.#listed
    const newest = segments.at(-1)
    if (newest === undefined) return 'nothing'
    const start = firstSegmentFrom(segments, at.log)
    if (start === undefined) return this.#backFromFuture(at, newest)
    for (let log = start; ; ) {
      const passed = log === at.log ? at.marker : 0
      const state = await this.#resync(log, { finished: log < newest, passed })
      if (state === null) {
        // A cleaner took it since the directory was listed.
        this.#listed = undefined
        return 'again'
      }
      if (state.kind === 'damaged') return 'damaged'
      if (state.kind === 'empty') {
        await this.#removeEmpty(log)
      }
      const done = state.kind === 'empty' || (state.finished && passed >= state.records)
      const next: number | undefined = done ? firstSegmentFrom(segments, log + 1) : undefined
      if (next === undefined) {
        if (state.kind !== 'empty') return 'found'
        this.#listed = undefined
        return 'again'
      }
      log = next
    }
  }

  /** The checkpoint is in a segment after the last: that is the end of the journal, and what comes there must not be missed. */
  async #backFromFuture(at: LogId, newest: number): Promise<'nothing' | 'again' | 'damaged'> {
    if ((await this.#storageLog()) >= at.log) return 'nothing'
    const state = await this.#resync(newest)
    if (state === null) return 'again'
    if (state.kind === 'empty') {
      await this.#removeEmpty(newest)
      return 'again'
    }
    if (state.kind === 'damaged') return 'damaged'
    await this.#checkpoint.write({ log: newest, marker: state.records }, this.#settings.safety)
    return 'nothing'
  }

  #resync(log: number, known?: KnownSegment): Promise<IndexState | null> {
    return this.#segment.resync(log, this.#settings.hdrMagic, known)
  }

  async #removeEmpty(log: number): Promise<void> {
    await this.#segment.close()
    await removeEmptySegment(this.#dir, log, this.#storageLog)
  }

  async #openForRead(id: LogId): Promise<void> {
    await this.#segment.rewind()
    for (;;) {
      const state = await this.#resync(id.log)
      if (state?.kind === 'damaged') {
        await this.#repair()
        continue
      }
      if (state === null || state.kind === 'empty') {
        throw new JlogError(
          'JLOG_ERR_FILE_OPEN',
          `the segment of ${formatLogId(id)} is not there`,
          {
            file: join(this.#dir, segmentFile(id.log)),
            segment: id.log,
            advice: 'it was never written, or every subscriber had read it',
          },
        )
      }
      if (id.marker <= state.records) return
      if (state.finished && id.marker === state.records + 1) {
        throw new JlogError(
          'JLOG_ERR_CLOSE_LOGID',
          `${formatLogId(id)} is the end of a finished segment, no record`,
          { segment: id.log },
        )
      }
      throw illegalId(id)
    }
  }

  /** The same repair as the command's. It takes the locks itself, so nothing of the segment may be held here. */
  async #repair(): Promise<void> {
    const { path } = this.#segment
    const log = this.#segment.log!
    await this.#segment.close()
    // Another journal may stand here by now, whose records only look like damage to who knows the old one's magic.
    const { hdrMagic } = this.#settings
    this.#settings = await readSettings(this.#dir)
    if (this.#settings.hdrMagic !== hdrMagic) return
    const tried = this.#repairs.get(log) ?? 0
    this.#repairs.set(log, tried + 1)
    if (tried >= MOST_REPAIRS) throw corruptSegment(path, log, 0, 'bad-magic')
    await repairSegment(this.#dir, log, { hdrMagic })
  }

  #emptyBatch(after: LogId): RecordBatch {
    return new RecordBatch({ ...EMPTY, log: after.log, firstMarker: after.marker + 1 })
  }

  #assertOpen(): void {
    if (this.#closed) throw new JlogError('JLOG_ERR_ILLEGAL_OPEN', 'the reader is closed')
  }
}

const EMPTY = {
  bytes: Buffer.alloc(0),
  position: 0,
  offsets: new Uint32Array(0),
  hdrMagic: 0,
}
const NO_RECORDS = new RecordBatch({ ...EMPTY, log: 0, firstMarker: 1 })

function illegalId(id: LogId): JlogError {
  return new JlogError('JLOG_ERR_ILLEGAL_LOGID', `there is no record ${formatLogId(id)}`, {
    segment: id.log,
  })
}
