/**
 * The outbox: log records stored in the same transaction as the change they tell of, waiting for
 * someone above to append them to a journal. Exactly once, by this protocol:
 *
 *     note(journal, {after: journal's end, upTo})   durable, before a byte is appended
 *     append the batch pending(journal) … upTo
 *     done(journal, upTo)  or  note(next batch, upTo)
 *
 * After a crash `noted` says which batch was under way and where the journal ended before it; what the
 * journal holds beyond that is the part of the batch that was appended.
 */

export interface OutboxRecord {
  /** Counts up by one within a journal, in commit order; never used twice. */
  readonly seq: number
  /** When it happened, seconds since the epoch. */
  readonly sec: number
  readonly usec: number
  readonly payload: Buffer
}

export interface OutboxBatch {
  /** The journal's end before the batch; opaque here. */
  after: string
  /** The last record of the batch. */
  upTo: number
}

export interface OutboxLimits {
  maxRecords: number
  /** At least one record is given, whatever its size. */
  maxBytes: number
  afterSeq?: number | undefined
}

export interface OutboxSize {
  records: number
  /** Of payload. */
  bytes: number
  /** When the oldest was stored, milliseconds since the epoch; null when there is none. */
  oldest: number | null
}

/** One journal's part of what waits. */
export interface OutboxBacklog {
  readonly journal: string
  readonly records: number
  /** When the oldest was stored, milliseconds since the epoch; null when there is none. */
  readonly oldest: number | null
}

export interface Outbox {
  /** Journals with waiting records or a noted batch. */
  journals(): string[]
  /** In commit order, durable ones only. Throws SPOOL_ERR_CORRUPT for one that cannot be read, or a stretch that cannot be reached. */
  pending(journal: string, limits: OutboxLimits): OutboxRecord[]
  noted(journal: string): OutboxBatch | null
  /** Durable when it resolves. With `doneUpTo`, the batch before is deleted in the same transaction. */
  note(journal: string, batch: OutboxBatch, doneUpTo?: number): Promise<void>
  /** Deletes the records up to `upTo` and clears the note. */
  done(journal: string, upTo: number): Promise<void>
  /** Called after each commit that added records. Returns what ends it. */
  onRecords(listener: (journal: string) => void): () => void
  /** How many records wait. Reads nothing: it may be asked for with each request. */
  readonly waiting: number
  size(): OutboxSize
  /** What waits, journal by journal: each that records were ever stored for. */
  backlog(): OutboxBacklog[]
}
