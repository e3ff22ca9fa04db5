/**
 * Following a journal as it is written: every record from a place on, for as long as the caller asks. Here a torn record at the
 * end of the newest segment means "not yet". Never writes, locks or needs a subscriber; reads only when asked for the next
 * batch; sleeps until the directory changes. A segment that a cleaner took away before it was read is passed over.
 */
import { onAbort } from './abort.js'
import { readConfirmed, type SkippedRange } from './confirmed-records.js'
import { DirectoryWatch } from './directory-watch.js'
import { JlogError } from './errors.js'
import { passOver } from './index-seek.js'
import { firstSegmentFrom, listJournal } from './journal-directory.js'
import type { LogId } from './log-id.js'
import type { BatchLimits, RecordBatch } from './record-batch.js'
import type { WalkStop } from './segment.js'
import { ChunkPool, corruptSegment, type OpenSegment, openSegment } from './segment-reader.js'
import { readSettings } from './settings.js'

export interface FollowOptions extends BatchLimits {
  /** The earliest record there is; records appended from now on; or strictly after an id. */
  readonly from: 'begin' | 'end' | LogId
  /** Ends the iteration, also while it waits. */
  readonly signal?: AbortSignal
  /** As for `readRecords`: what to do about damage in a finished segment. Default: `throw`. */
  readonly onDamage?: 'throw' | 'skip'
  /** Told of each range that was skipped. */
  readonly onSkipped?: (skipped: SkippedRange) => void
}

/**
 * The records of a journal, also those still to come. Ends when `signal` aborts or the iterator's `return` is called (also while a
 * `next` is waiting); holds one file descriptor and a share of one watcher until then.
 * @throws JlogError from `next`: JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN (no journal, also when it is
 * removed meanwhile); JLOG_ERR_FILE_CORRUPT when a finished segment is damaged, unless damage is to be skipped
 */
export function follow(dir: string, options: FollowOptions): AsyncIterableIterator<RecordBatch> {
  const stop = new AbortController()
  const abort = () => stop.abort()
  if (options.signal?.aborted) abort()
  const forget = options.signal && onAbort(options.signal, abort)
  const batches = new LiveReader(dir, options, stop.signal).batches(() => forget?.())
  return {
    next: () => batches.next(),
    return: () => {
      abort()
      // Also when nothing was ever asked for, and there is nobody to say that it ended.
      forget?.()
      return batches.return(undefined)
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}

/** So many are read without waiting, where they are sure to be in the page cache. */
const MOST_BYTES_AT_ONCE = 64 * 1024

class LiveReader {
  readonly #dir: string
  readonly #options: FollowOptions
  readonly #signal: AbortSignal
  readonly #pool = new ChunkPool()
  #hdrMagic = 0
  #segment: OpenSegment | null = null
  /** How far the open segment was looked at last, and what ended the records there. */
  #size = 0
  #stop: WalkStop = 'end'
  /** The next segment to look for, once `#segment` is done with. */
  #wanted = 0
  /** It was at the end of the journal once: what comes since was appended a moment ago. */
  #caughtUp: boolean = false
  /** What there is to be had of the open segment, which is finished and damaged. */
  #confirmed: AsyncGenerator<RecordBatch, void, undefined> | null = null

  constructor(dir: string, options: FollowOptions, signal: AbortSignal) {
    this.#dir = dir
    this.#options = options
    this.#signal = signal
  }

  async *batches(ended: () => void): AsyncGenerator<RecordBatch, void, undefined> {
    if (this.#signal.aborted) return
    const watch = new DirectoryWatch(this.#dir)
    try {
      await this.#start()
      let names = -1
      let newest: number | undefined
      let woken: 'event' | 'poll' | 'aborted' = 'event'
      while (!this.#signal.aborted) {
        const batch = await this.#read()
        if (batch !== null) {
          if (woken === 'poll') watch.missed()
          woken = 'event'
          yield batch
          continue
        }
        // The newest segment's end is where a tail mostly is: the directory is listed only when a name in it may have changed.
        const log = this.#segment?.reader.log
        if (woken === 'poll' || watch.names !== names || log === undefined || log !== newest) {
          names = watch.names
          newest = log
          if (await this.#advance()) {
            // There may be more of this segment, and then the next one is to be looked for again.
            newest = undefined
            continue
          }
        }
        woken = await watch.changed(this.#signal)
      }
    } finally {
      ended()
      watch.close()
      await this.#confirmed?.return()
      await this.#segment?.close()
    }
  }

  async #start(): Promise<void> {
    const { from } = this.#options
    const listing = await listJournal(this.#dir)
    const { hdrMagic, storageLog } = await readSettings(this.#dir, listing)
    this.#hdrMagic = hdrMagic
    if (from === 'begin') {
      this.#wanted = 0
      return
    }
    const log = from === 'end' ? (listing.segments.at(-1) ?? storageLog) : from.log
    this.#wanted = log
    const segment = await this.#openSegment(log)
    if (segment === null) return
    this.#segment = segment
    const passed = from === 'end' ? Number.POSITIVE_INFINITY : from.marker
    await passOver(this.#dir, segment, passed, segment.file.size())
  }

  /** Records of the open segment that are complete by now. */
  async #read(): Promise<RecordBatch | null> {
    if (this.#segment === null) return null
    if (this.#confirmed !== null) return (await this.#confirmed.next()).value ?? null
    const { reader, file } = this.#segment
    this.#size = file.size()
    if (reader.place.position > this.#size) await this.#goBack(this.#size)
    const { position } = reader.place
    this.#stop = 'end'
    if (position === this.#size) {
      this.#caughtUp = true
      return null
    }
    const step = await reader.next(this.#size, this.#options)
    if (step.batch === null) this.#stop = step.stop
    return step.batch
  }

  /** Goes on to the next segment if there is one and this one is done. @returns true when there may be something to read */
  async #advance(): Promise<boolean> {
    const { segments } = await listJournal(this.#dir)
    if (this.#segment === null) return this.#open(firstSegmentFrom(segments, this.#wanted))
    const { reader, file } = this.#segment
    const next = firstSegmentFrom(segments, reader.log + 1)
    if (next === undefined) {
      this.#assertStillThere()
      return false
    }
    if (this.#confirmed === null) {
      // Nobody appends to it once the next one exists: its size, taken after that, is its last.
      if (file.size() !== this.#size) return true
      const { position } = reader.place
      if (this.#stop !== 'end' || position !== this.#size) {
        if (this.#options.onDamage !== 'skip')
          throw corruptSegment(file.path, reader.log, position, this.#stop)
        this.#confirmed = readConfirmed(this.#dir, this.#segment, this.#size, {
          newest: false,
          limits: () => this.#options,
          onSkipped: (range) => this.#options.onSkipped?.(range),
        })
        return true
      }
    }
    this.#confirmed = null
    await this.#segment.close()
    this.#segment = null
    this.#wanted = next
    return this.#open(next)
  }

  async #open(log: number | undefined): Promise<boolean> {
    if (log === undefined) return false
    this.#segment = await this.#openSegment(log)
    // Gone since it was listed: look for the one after it.
    if (this.#segment === null) this.#wanted = log + 1
    return true
  }

  /** A few bytes that were appended a moment ago are read at once: that takes less than to have another thread do it. */
  #openSegment(log: number): Promise<OpenSegment | null> {
    return openSegment(this.#dir, log, this.#hdrMagic, this.#pool, (file) => ({
      readAt: (into, position) =>
        this.#caughtUp && into.length <= MOST_BYTES_AT_ONCE
          ? Promise.resolve(file.readNow(position, into.length).copy(into))
          : file.readAt(into, position),
    }))
  }

  /** The newest segment is never removed or replaced, except with its journal. */
  #assertStillThere(): void {
    const { reader, file } = this.#segment!
    if (file.bearsItsName()) return
    throw new JlogError(
      'JLOG_ERR_FILE_OPEN',
      'the segment being followed was removed, and none follows it',
      {
        file: file.path,
        segment: reader.log,
        advice: 'follow the journal anew',
      },
    )
  }

  /**
   * The segment was cut back behind what was read of it: a write failed half way, and what it had written of its group was taken
   * back before anybody was promised it. What is appended now has not been read.
   */
  async #goBack(size: number): Promise<void> {
    const { reader } = this.#segment!
    await reader.seek({ position: 0, marker: 1 })
    await reader.skip(Number.POSITIVE_INFINITY, size)
  }
}
