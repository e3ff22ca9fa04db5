/**
 * Reading a journal at rest: every record from the earliest segment, or after an id, to the end as it is when the reading
 * begins. Promises never to write, lock or need a subscriber, and to work while others write and clean: a segment that is
 * gone is passed over, as it is for every reader. Here a torn record is corruption, except at the very end, where it
 * may be one that is being written.
 */
import { SegmentChecksums } from './checksums.js'
import { readConfirmed, type SkippedRange } from './confirmed-records.js'
import { JlogError } from './errors.js'
import { headerBytes } from './format.js'
import { passOver } from './index-seek.js'
import { firstSegmentFrom, listJournal } from './journal-directory.js'
import type { LogId } from './log-id.js'
import type { BatchLimits, RecordBatch } from './record-batch.js'
import { ChunkPool, corruptSegment, type OpenSegment, openSegment } from './segment-reader.js'
import { readSettings } from './settings.js'

export type { SkippedRange }

export interface ReadRecordsOptions {
  /** Begin strictly after this id. A segment that is gone counts as read. Default: the earliest record. */
  readonly after?: LogId
  /** Stop after so many records. */
  readonly limitRecords?: number
  /** Stop before the records read take more bytes on disk than this; at least one is read. */
  readonly limitBytes?: number
  /** Bytes read, and handed out, at a time, for who holds a batch for long. Default: what is fastest, about a MiB. */
  readonly batchBytes?: number
  /**
   * What to do about damage: `throw` JLOG_ERR_FILE_CORRUPT where it begins (default), or `skip` it and go on with the next confirmed
   * record, as a repair would. A record after skipped ones has the id that a repair would give it.
   */
  readonly onDamage?: 'throw' | 'skip'
  /**
   * Compare each record with its sidecar checksum where there is one: a flipped bit in a payload is then damage like
   * any other. Costs a second read of every record. Default: false.
   */
  readonly verify?: boolean
  /** Told of each range that was skipped. */
  readonly onSkipped?: (skipped: SkippedRange) => void
}

/**
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN (no journal); JLOG_ERR_FILE_CORRUPT with segment and offset
 */
export async function* readRecords(
  dir: string,
  options: ReadRecordsOptions = {},
): AsyncGenerator<RecordBatch, void, undefined> {
  const listing = await listJournal(dir)
  const { hdrMagic } = await readSettings(dir, listing)
  const last = listing.segments.at(-1)
  if (last === undefined) return
  const pool = options.batchBytes === undefined ? new ChunkPool() : new ChunkPool(0)
  const budget = new Budget(options)
  const end = await openSegment(dir, last, hdrMagic, pool)
  const endSize = end?.file.size() ?? 0
  try {
    let log = firstSegmentFrom(listing.segments, options.after?.log ?? 0)
    while (log !== undefined && log <= last && !budget.spent) {
      const segment = log === last ? end : await openSegment(dir, log, hdrMagic, pool)
      if (segment !== null) {
        try {
          if (log === options.after?.log) {
            const size = log === last ? endSize : segment.file.size()
            await passOver(dir, segment, options.after.marker, size)
          }
          yield* readSegment(dir, segment, log === last ? endSize : null, budget, options)
        } finally {
          if (segment !== end) await segment.close()
        }
      }
      log = firstSegmentFrom(listing.segments, log + 1)
    }
  } finally {
    await end?.close()
  }
}

/** @param until where to stop without asking whether a record is torn; null for a finished segment, which must end well */
async function* readSegment(
  dir: string,
  segment: OpenSegment,
  until: number | null,
  budget: Budget,
  options: ReadRecordsOptions,
): AsyncGenerator<RecordBatch, void, undefined> {
  const { file, reader } = segment
  let size = until ?? file.size()
  if (options.verify) {
    yield* readVerified(dir, segment, size, until !== null, budget, options)
    return
  }
  while (!budget.spent) {
    const step = await reader.next(size, budget.limits)
    if (step.batch !== null) {
      if (budget.spend(step.batch)) yield step.batch
      continue
    }
    const { position } = reader.place
    if (step.stop === 'end' && position === size) return
    // The last append to it may have come after its size was taken.
    if (until === null && file.size() > size) {
      size = file.size()
      continue
    }
    if (options.onDamage === 'skip') {
      yield* withinBudget(dir, segment, size, budget, { newest: until !== null, ...options })
      return
    }
    if (until !== null && step.stop !== 'bad-magic') return
    throw corruptSegment(file.path, reader.log, position, step.stop)
  }
}

/** The confirmed records, with the checksums for evidence; without `skip` the first damage is an error. */
async function* readVerified(
  dir: string,
  segment: OpenSegment,
  size: number,
  newest: boolean,
  budget: Budget,
  options: ReadRecordsOptions,
): AsyncGenerator<RecordBatch, void, undefined> {
  const { file, reader, hdrMagic } = segment
  const checksums = await SegmentChecksums.open(dir, reader.log, file, headerBytes(hdrMagic))
  const onSkipped = (range: SkippedRange) => {
    if (options.onDamage === 'skip') options.onSkipped?.(range)
    else throw damagedRange(file.path, range)
  }
  try {
    yield* withinBudget(dir, segment, size, budget, { newest, onSkipped, checksums })
  } finally {
    await checksums?.close()
  }
}

/** The confirmed records, as far as the caller's limits go. */
async function* withinBudget(
  dir: string,
  segment: OpenSegment,
  size: number,
  budget: Budget,
  options: Pick<ReadRecordsOptions, 'onSkipped'> & {
    readonly newest: boolean
    readonly checksums?: SegmentChecksums | null
  },
): AsyncGenerator<RecordBatch, void, undefined> {
  const confirmed = readConfirmed(dir, segment, size, {
    newest: options.newest,
    limits: () => budget.limits,
    onSkipped: (range) => options.onSkipped?.(range),
    checksums: options.checksums ?? null,
  })
  for await (const batch of confirmed) {
    if (budget.spend(batch)) yield batch
    if (budget.spent) return
  }
}

function damagedRange(file: string, { segment, offset, bytes, reason }: SkippedRange): JlogError {
  return new JlogError(
    'JLOG_ERR_FILE_CORRUPT',
    `the segment is damaged: ${bytes} bytes are no sound record (${reason})`,
    {
      file,
      segment,
      offset,
      advice: 'run `bobbin jlog inspect`, then `bobbin jlog repair`',
    },
  )
}

/** What is left of the caller's limits. */
class Budget {
  #records: number
  #bytes: number
  readonly #batchBytes: number
  #begun = false

  constructor(options: ReadRecordsOptions) {
    this.#records = options.limitRecords ?? Number.POSITIVE_INFINITY
    this.#bytes = options.limitBytes ?? Number.POSITIVE_INFINITY
    this.#batchBytes = options.batchBytes ?? Number.POSITIVE_INFINITY
  }

  get spent(): boolean {
    return this.#records <= 0 || this.#bytes <= 0
  }

  get limits(): BatchLimits {
    return { maxRecords: this.#records, maxBytes: Math.min(this.#bytes, this.#batchBytes) }
  }

  /** @returns false when the batch does not fit any more; the first record always does */
  spend(batch: RecordBatch): boolean {
    const fits = !this.#begun || batch.storedBytes <= this.#bytes
    this.#begun = true
    this.#records -= batch.length
    this.#bytes -= batch.storedBytes
    return fits
  }
}
