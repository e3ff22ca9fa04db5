/**
 * What a journal is like now, for whoever asks again and again: a finished segment is counted once and remembered, the
 * one being written is counted on from where the last look ended. A look at a journal never seen before costs no
 * more than any other: it counts so many bytes, and the next look goes on. Writes nothing.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readCheckpoints } from './checkpoints.js'
import { segmentFile } from './format.js'
import { listJournal } from './journal-directory.js'
import type { LogId } from './log-id.js'
import { walkSegment } from './segment.js'
import { readIndexDetails, segmentStart } from './segment-index.js'
import { openSegment } from './segment-reader.js'
import { readSettings } from './settings.js'

/** Bytes that one look walks over, about. */
const WALK_BYTES = 16 * 1024 * 1024
/** Segments never seen before that one look takes in. */
const NEW_SEGMENTS = 1024
/** Finished segments that one look asks the size of again: a repair may have cut one. */
const STAT_AGAIN = 64

export interface WatchedSubscriber {
  readonly name: string
  readonly checkpoint: LogId
  /** What it has not read; `records` is null while they are not counted. Bytes of the segment it is in: in proportion. */
  readonly lag: { readonly records: number | null; readonly bytes: number }
}

export interface JournalSummary {
  readonly segments: number
  /** Of all segments; of those that were taken in, while there are others. */
  readonly bytes: number
  /** The last record that was found; marker 0: none in its segment, or it is not counted yet. */
  readonly last: LogId
  readonly subscribers: readonly WatchedSubscriber[]
}

interface Known {
  readonly inode: number
  bytes: number
  /** Found up to `at`. */
  records: number
  at: number
  /** Nothing is left to be counted, as far as the last look could tell. */
  counted: boolean
}

export class JournalWatch {
  readonly dir: string
  readonly #known = new Map<number, Known>()
  readonly #walkBytes: number
  /** The next finished segment to be asked for its size. */
  #again = 0

  constructor(dir: string, { walkBytes = WALK_BYTES }: { walkBytes?: number } = {}) {
    this.dir = dir
    this.#walkBytes = walkBytes
  }

  /** @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN */
  async look(): Promise<JournalSummary> {
    const listing = await listJournal(this.dir)
    const { hdrMagic, storageLog } = await readSettings(this.dir, listing)
    const there = new Set(listing.segments)
    for (const log of this.#known.keys()) if (!there.has(log)) this.#known.delete(log)
    await this.#sizes(listing.segments, storageLog)
    await this.#count(listing.segments, storageLog, hdrMagic)
    const subscribers = (await readCheckpoints(this.dir)).map(({ name, checkpoint }) => {
      const at = checkpoint ?? segmentStart(0)
      return { name, checkpoint: at, lag: this.#lagAfter(at, listing.segments) }
    })
    return {
      segments: listing.segments.length,
      bytes: [...this.#known.values()].reduce((sum, { bytes }) => sum + bytes, 0),
      last: { log: storageLog, marker: this.#known.get(storageLog)?.records ?? 0 },
      subscribers,
    }
  }

  /** Sizes of the new segments, of the one being written, and of a few others in turn. */
  async #sizes(segments: readonly number[], storageLog: number): Promise<void> {
    const from = this.#again
    let fresh = 0
    for (const log of segments.toReversed()) {
      const known = this.#known.get(log)
      const inTurn = log >= from && log < from + STAT_AGAIN
      if (known?.counted === true && log !== storageLog && !inTurn) continue
      if (known === undefined && fresh++ >= NEW_SEGMENTS) break
      const found = await stat(join(this.dir, segmentFile(log))).catch(() => null)
      if (found === null) this.#known.delete(log)
      else if (known?.inode !== found.ino || found.size < known.at) {
        const { ino: inode, size: bytes } = found
        this.#known.set(log, { inode, bytes, records: 0, at: 0, counted: false })
      } else if (found.size !== known.bytes) {
        known.bytes = found.size
        known.counted = false
      }
    }
    const next = from + STAT_AGAIN
    this.#again = next > (segments.at(-1) ?? 0) ? (segments[0] ?? 0) : next
  }

  /** The newest first: its end is what most ask for. */
  async #count(segments: readonly number[], storageLog: number, hdrMagic: number): Promise<void> {
    let left = this.#walkBytes
    for (const log of segments.toReversed()) {
      const known = this.#known.get(log)
      if (known === undefined || known.counted) continue
      if (left <= 0) return
      if (log !== storageLog && known.at === 0) {
        const index = await readIndexDetails(this.dir, log)
        if (index?.closed === true) {
          Object.assign(known, { records: index.records, at: known.bytes, counted: true })
          continue
        }
      }
      left -= await this.#walk(log, known, hdrMagic, left)
    }
  }

  /** @returns bytes walked over */
  async #walk(log: number, known: Known, hdrMagic: number, most: number): Promise<number> {
    const segment = await openSegment(this.dir, log, hdrMagic)
    if (segment === null) return 0
    const from = known.at
    try {
      const end = Math.min(known.bytes, from + most)
      let walked = await walkSegment(segment.file, from, end, hdrMagic)
      // A record larger than what was to be walked over.
      if (walked.records === 0 && end < known.bytes)
        walked = await walkSegment(segment.file, from, known.bytes, hdrMagic)
      known.records += walked.records
      known.at = walked.at
      known.counted = end === known.bytes || walked.at === from
      return Math.max(1, walked.at - from)
    } finally {
      await segment.close()
    }
  }

  #lagAfter(at: LogId, segments: readonly number[]): WatchedSubscriber['lag'] {
    let records: number | null = 0
    let bytes = 0
    for (const log of segments) {
      if (log < at.log) continue
      const known = this.#known.get(log)
      if (known?.counted !== true) {
        records = null
        bytes += known?.bytes ?? 0
        continue
      }
      const left = log === at.log ? Math.max(0, known.records - at.marker) : known.records
      if (records !== null) records += left
      if (known.records > 0) bytes += Math.round((known.bytes * left) / known.records)
    }
    return { records, bytes }
  }
}
