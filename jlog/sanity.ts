/**
 * A look at everything in a journal that ought to fit together and may not (jlog_sanity_check): metastore, checkpoints, segments, their
 * indexes. Only reads, in either byte order, and holds a bounded amount of memory. What it reports need not be damage: a time
 * that goes backwards, or a missing segment, is for the operator to judge.
 */
import { join } from 'node:path'
import { type ByteOrder, metastoreIn, walkHeaders, wordAt } from './byte-order.js'
import { JlogError } from './errors.js'
import { JournalFile, readSmallFile } from './file.js'
import {
  CHECKPOINT_BYTES,
  INDEX_ENTRY_BYTES,
  indexFile,
  METASTORE_FILE,
  type Metastore,
  PRE_COMMIT_FILE,
  parseCheckpointFile,
  parseSegmentFile,
  segmentFile,
} from './format.js'
import { type JournalListing, listJournal } from './journal-directory.js'
import { hex8, type LogId } from './log-id.js'
import { isKeptBeside } from './repair-strays.js'

export type SanityProblemKind =
  | 'unexpected-file'
  | 'checkpoint-size'
  | 'checkpoint-segment'
  | 'checkpoint-marker'
  | 'no-checkpoint'
  | 'segment-unneeded'
  | 'segment-newer'
  | 'segment-missing'
  | 'segment-oversize'
  | 'segment-damaged'
  | 'time-backwards'
  | 'index-orphan'
  | 'index-wrong'
  | 'index-incomplete'
  | 'index-open'

export interface SanityProblem {
  readonly kind: SanityProblemKind
  readonly file: string
  /** Byte offset in `file`, where there is one. */
  readonly offset?: number
  /** What it is, in words. */
  readonly what: string
}

export interface SanityReport {
  readonly metastore: Metastore
  readonly segments: readonly {
    readonly log: number
    readonly records: number
    readonly damaged: boolean
  }[]
  readonly problems: readonly SanityProblem[]
}

/**
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR; JLOG_ERR_META_OPEN when the metastore is missing or no journal of this byte order has such a one
 */
export async function checkSanity(dir: string, order: ByteOrder = 'little'): Promise<SanityReport> {
  const listing = await listJournal(dir)
  const path = join(dir, METASTORE_FILE)
  const bytes = await readSmallFile(path).catch((cause: unknown) => {
    throw new JlogError('JLOG_ERR_META_OPEN', 'cannot read the metastore', { file: path, cause })
  })
  const metastore = metastoreIn(bytes, order)
  if (metastore === null) {
    throw new JlogError(
      'JLOG_ERR_META_OPEN',
      `this is not the metastore of a ${order}-endian journal`,
      {
        file: path,
        advice: 'try the other byte order, or repair it',
      },
    )
  }
  return new SanityCheck(dir, order, metastore).run(listing)
}

interface SegmentFound {
  readonly log: number
  readonly records: number
  readonly damaged: boolean
}

class SanityCheck {
  readonly #dir: string
  readonly #order: ByteOrder
  readonly #meta: Metastore
  readonly #problems: SanityProblem[] = []

  constructor(dir: string, order: ByteOrder, meta: Metastore) {
    this.#dir = dir
    this.#order = order
    this.#meta = meta
  }

  async run({ names, segments, checkpoints }: JournalListing): Promise<SanityReport> {
    for (const name of names.toSorted()) this.#checkName(name, segments)
    const positions = await this.#checkpoints(checkpoints)
    this.#sequence(segments, positions)
    const found: SegmentFound[] = []
    for (const log of segments) found.push(await this.#segment(log, names.includes(indexFile(log))))
    for (const [file, id] of positions) this.#position(file, id, found)
    return { metastore: this.#meta, segments: found, problems: this.#problems }
  }

  #note(kind: SanityProblemKind, file: string, what: string, offset?: number): void {
    this.#problems.push(offset === undefined ? { kind, file, what } : { kind, file, offset, what })
  }

  #checkName(name: string, segments: readonly number[]): void {
    if (name === METASTORE_FILE || name === PRE_COMMIT_FILE) return
    if (parseSegmentFile(name) !== null || parseCheckpointFile(name) !== null) return
    if (isKeptBeside(name)) return
    const log = parseSegmentFile(name.slice(0, 8))
    if (log === null || name.slice(8) !== '.idx') {
      this.#note('unexpected-file', name, 'no file of the journal format')
    } else if (!segments.includes(log)) {
      this.#note('index-orphan', name, 'the index of a segment that is not there')
    }
  }

  async #checkpoints(names: readonly string[]): Promise<Map<string, LogId>> {
    const positions = new Map<string, LogId>()
    for (const name of names) {
      const file = join(this.#dir, name)
      const bytes = await readSmallFile(file).catch((cause: unknown) => {
        throw new JlogError('JLOG_ERR_CHECKPOINT', 'cannot read the checkpoint', { file, cause })
      })
      if (bytes.length !== CHECKPOINT_BYTES) {
        this.#note(
          'checkpoint-size',
          name,
          `${bytes.length} bytes long, where a checkpoint has ${CHECKPOINT_BYTES}`,
        )
        continue
      }
      const id = { log: wordAt(bytes, 0, this.#order), marker: wordAt(bytes, 4, this.#order) }
      if (id.log > this.#meta.storageLog) {
        this.#note(
          'checkpoint-segment',
          name,
          `in segment ${hex8(id.log)}, after the one being written`,
        )
      } else positions.set(name, id)
    }
    if (positions.size === 0)
      this.#note('no-checkpoint', '.', 'no subscriber has a sound checkpoint')
    return positions
  }

  /** Are the segments those, and only those, that the checkpoints and the metastore speak of? */
  #sequence(segments: readonly number[], positions: ReadonlyMap<string, LogId>): void {
    const { storageLog } = this.#meta
    const needed = Math.min(...[...positions.values()].map(({ log }) => log))
    let expected = Number.isFinite(needed) ? needed : (segments[0] ?? storageLog)
    for (const log of segments) {
      const file = segmentFile(log)
      if (log < needed && Number.isFinite(needed))
        this.#note('segment-unneeded', file, 'before every checkpoint')
      if (log > storageLog) this.#note('segment-newer', file, 'after the one being written')
      if (log > expected) this.#missing(expected, log - 1)
      expected = Math.max(expected, log + 1)
    }
    // The one being written is made with the first record.
    if (storageLog > expected) this.#missing(expected, storageLog - 1)
  }

  #missing(first: number, last: number): void {
    const which = first === last ? 'it is' : `all up to ${segmentFile(last)} are`
    this.#note('segment-missing', segmentFile(first), `${which} not there`)
  }

  async #segment(log: number, indexed: boolean): Promise<SegmentFound> {
    const name = segmentFile(log)
    const file = await JournalFile.open(join(this.#dir, name))
    const index = indexed ? await IndexCheck.open(this.#dir, log, this.#order) : null
    try {
      const size = file.size()
      const { hdrMagic, unitLimit, storageLog } = this.#meta
      let records = 0
      let time = 0
      let oversize = false
      let backwards = false
      const ends = await walkHeaders(
        file,
        size,
        hdrMagic,
        this.#order,
        ({ offset, magic, sec, usec }) => {
          if (magic !== hdrMagic) return false
          records++
          index?.expect(offset)
          if (!oversize && offset > unitLimit) {
            oversize = true
            this.#note(
              'segment-oversize',
              name,
              'a record begins after the segment was full',
              offset,
            )
          }
          const now = sec * 1_000_000 + usec
          if (!backwards && now < time) {
            backwards = true
            this.#note('time-backwards', name, 'a record is older than the one before it', offset)
          }
          time = now
          return true
        },
      )
      const damaged = ends !== size
      if (damaged)
        this.#note('segment-damaged', name, 'no whole record of this journal stands here', ends)
      else if (index !== null) this.#index(log, index.verdict(), log < storageLog)
      return { log, records, damaged }
    } finally {
      await file.close()
      await index?.close()
    }
  }

  #index(log: number, verdict: IndexVerdict, finished: boolean): void {
    const name = indexFile(log)
    const { kind, offset } = verdict
    if (kind === 'wrong')
      this.#note('index-wrong', name, 'an entry is not where a record begins', offset)
    else if (!finished) return
    else if (kind === 'incomplete')
      this.#note(
        'index-incomplete',
        name,
        'it ends before its finished segment does; readers complete it',
        offset,
      )
    else if (kind === 'open')
      this.#note(
        'index-open',
        name,
        'not closed, although its segment is finished; readers close it',
        offset,
      )
  }

  #position(file: string, { log, marker }: LogId, segments: readonly SegmentFound[]): void {
    if (log === 0 && marker === 0) return
    const segment = segments.find((found) => found.log === log)
    if (segment === undefined) {
      if (log !== this.#meta.storageLog)
        this.#note('checkpoint-segment', file, `in segment ${hex8(log)}, which is not there`)
    } else if (segment.damaged) {
      this.#note('checkpoint-segment', file, `in segment ${hex8(log)}, which is damaged`)
    } else if (marker > segment.records) {
      this.#note(
        'checkpoint-marker',
        file,
        `at record ${marker} of segment ${hex8(log)}, which has ${segment.records}`,
      )
    }
  }
}

interface IndexVerdict {
  readonly kind: 'closed' | 'open' | 'incomplete' | 'wrong'
  readonly offset: number
}

/** Compares an index with the records, one by one. */
class IndexCheck {
  static readonly #PIECE_ENTRIES = 8192
  readonly #file: JournalFile
  readonly #order: ByteOrder
  #piece: Buffer = Buffer.alloc(0)
  #pieceAt = 0
  #at = 0
  #wrong = -1
  #short = false

  private constructor(file: JournalFile, order: ByteOrder) {
    this.#file = file
    this.#order = order
  }

  static async open(dir: string, log: number, order: ByteOrder): Promise<IndexCheck> {
    return new IndexCheck(await JournalFile.open(join(dir, indexFile(log))), order)
  }

  /** The next record begins here. */
  expect(offset: number): void {
    if (this.#wrong >= 0 || this.#short) return
    const entry = this.#entry()
    if (entry === null) this.#short = true
    else if (entry !== BigInt(offset)) this.#wrong = this.#at
    else this.#at += INDEX_ENTRY_BYTES
  }

  verdict(): IndexVerdict {
    const offset = this.#at
    if (this.#wrong >= 0) return { kind: 'wrong', offset: this.#wrong }
    const size = this.#file.size()
    if (size % INDEX_ENTRY_BYTES !== 0)
      return { kind: 'wrong', offset: size - (size % INDEX_ENTRY_BYTES) }
    if (this.#short) return { kind: 'incomplete', offset }
    if (size === offset) return { kind: 'open', offset }
    return size === offset + INDEX_ENTRY_BYTES && this.#entry() === 0n
      ? { kind: 'closed', offset }
      : { kind: 'wrong', offset }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  #entry(): bigint | null {
    const within = this.#at - this.#pieceAt
    if (within + INDEX_ENTRY_BYTES > this.#piece.length) {
      this.#pieceAt = this.#at
      this.#piece = this.#file.readNow(this.#at, IndexCheck.#PIECE_ENTRIES * INDEX_ENTRY_BYTES)
      if (this.#piece.length < INDEX_ENTRY_BYTES) return null
    }
    const at = this.#at - this.#pieceAt
    return this.#order === 'little'
      ? this.#piece.readBigUInt64LE(at)
      : this.#piece.readBigUInt64BE(at)
  }
}
