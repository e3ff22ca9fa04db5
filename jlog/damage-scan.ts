/**
 * Finds the confirmed records and the damaged ranges of one segment, and writes nothing. Repair, inspection and the
 * readers' healing all see damage through this file, so it is the one place that knows the rules.
 *
 * A record is kept when something confirms where it ends: a header with the right magic starts there; the file ends
 * there, or inside the next header; the bytes there make a header but for the magic, whose length leads to a valid
 * header or to the end; the index, sound so far, has that offset; or a sidecar checksum says so (which also says when
 * a payload is damaged). Otherwise it is uncertain, and damage begins with it. After damage, reading goes on where the
 * index, a checksum's entry or the damaged header's own length leads to a header, else at the first offset where a confirmed record begins.
 *
 * One thing more, because a payload may be a journal itself: a header with the right magic is believed about its
 * length, and nothing inside that length is taken for a record, unless something speaks against it: the length is
 * beyond belief, or records that begin inside it run on past where it would end.
 *
 * Promises: bounded memory and near linear time for any bytes; every byte of the segment is in exactly one extent.
 */
import type { SegmentChecksums } from './checksums.js'
import { isStoredAsIs } from './compression.js'
import type { DamageBytes } from './damage-bytes.js'
import { IndexWitness } from './damage-index.js'
import { COMPRESSION_PROVIDERS, compressionProvider, headerBytes, isCompressed } from './format.js'

/** Longest record that is believed when nothing confirms it; a damaged length is mostly beyond this. */
const BELIEVABLE_BYTES = 16 * 1024 * 1024
/** Often enough for progress and for stopping. */
const EXTENT_BYTES = 64 * 1024 * 1024

/** Times (2001 to 2038) of legacy records that are found after damage. */
const LEGACY_FROM = 1_000_000_000
const LEGACY_TO = 0x7fffffff

/** Records lost: whole ones may be gone without a trace, so that their bytes do not tell how many. */
const UNKNOWN = Number.POSITIVE_INFINITY

/** Why bytes are cut. */
export type DamageReason =
  /** The file ends inside a header. */
  | 'torn-header'
  /** A header whose record would end after the file: a torn append, or a damaged length. */
  | 'torn-record'
  /** No header where a record should begin. */
  | 'bad-header'
  /** The two lengths of a compressed record contradict each other. */
  | 'bad-lengths'
  /** A header, but nothing confirms where its record ends. */
  | 'uncertain'
  /** The sidecar checksum says that header or payload is damaged. */
  | 'checksum'

export interface KeptExtent {
  readonly kind: 'kept'
  readonly offset: number
  readonly end: number
  /** Records in it, end to end. */
  readonly records: number
}

export interface DamagedExtent {
  readonly kind: 'damaged'
  readonly offset: number
  readonly end: number
  readonly reason: DamageReason
  /** The record of an `uncertain` or `torn-record` range, as its header tells. */
  readonly record?: { readonly sec: number; readonly usec: number; readonly bytes: number }
}

export type Extent = KeptExtent | DamagedExtent

export interface ScanEvidence {
  /** The segment's index, if there is one. */
  readonly index?: DamageBytes | undefined
  /** The segment's sidecar checksums, if they are to be asked. */
  readonly checksums?: SegmentChecksums | undefined
}

/**
 * Called for each kept record, in order.
 * @param ordinal the largest ordinal (from 1) that a reader can have known this record by before anything is cut;
 *   infinite when nobody knows how many were lost before it
 */
export type RecordVisitor = (offset: number, end: number, ordinal: number) => void

/** What is known once the scan has ended. */
export interface ScanSummary {
  /** Whether the index fits the records that are kept. */
  readonly index: 'absent' | 'sound' | 'unsound'
  /** The index ends with the closing entry. */
  readonly indexClosed: boolean
}

/**
 * The extents of the segment, in order and without gaps.
 * @param hdrMagic the journal's magic; 0 for a legacy one
 * @param extentBytes a kept extent is handed out at least so often
 * @returns (as the generator's return value) what is known of the index
 */
export async function* scanSegment(
  bytes: DamageBytes,
  hdrMagic: number,
  evidence: ScanEvidence = {},
  visit?: RecordVisitor,
  extentBytes = EXTENT_BYTES,
): AsyncGenerator<Extent, ScanSummary> {
  const shape = new HeaderShape(bytes, hdrMagic)
  const index = new IndexWitness(evidence.index ?? null)
  const { checksums } = evidence
  const doubt = new Doubt(shape)
  let at = 0
  let ordinal = 0
  let total = 0
  while (at < bytes.size) {
    const from = at
    let records = 0
    let reason: DamageReason | null = null
    while (at < bytes.size && at - from < extentBytes) {
      bytes.slide(at)
      if (bytes.breathless) await bytes.breathe()
      ordinal = index.meet(at) || ordinal + 1
      reason = shape.fault(at)
      if (reason !== null) break
      const end = shape.end(at)
      const said = checksums === undefined ? 'unknown' : await checksums.verify(at, end)
      if (said === 'damaged') reason = 'checksum'
      else if (said === 'unknown' && index.next() !== end && !shape.confirms(end))
        reason = 'uncertain'
      if (reason !== null) break
      index.keep(end)
      visit?.(at, end, ordinal)
      records++
      at = end
    }
    if (records > 0) yield { kind: 'kept', offset: from, end: at, records }
    total += records
    if (reason === null) continue
    const next = await resume(shape, at, reason, index, doubt, checksums)
    yield { kind: 'damaged', offset: at, end: next.at, reason, ...describe(shape, at, reason) }
    // `ordinal` counts the damaged thing as one record already.
    ordinal += next.lost - 1
    at = next.at
  }
  return { index: index.verdict(total), indexClosed: index.closed }
}

/** Where reading goes on after damage at `at`, and the most records that were lost before that. */
async function resume(
  shape: HeaderShape,
  at: number,
  reason: DamageReason,
  index: IndexWitness,
  doubt: Doubt,
  checksums: SegmentChecksums | undefined,
): Promise<{ at: number; lost: number }> {
  const { size } = shape.bytes
  const indexed = index.next()
  // Where bytes were inserted or lost, offsets behind are out of date, the last of them, too; one may hit by chance.
  if (!shape.isHeader(index.last)) index.distrust()
  else if (indexed > at && shape.isConfirmed(indexed)) return { at: indexed, lost: 1 }
  const noted = await checksums?.nextBoundary(at, (end) => end === size || shape.isHeader(end))
  if (noted !== undefined) return { at: noted, lost: UNKNOWN }
  const own = shape.hasRoom(at) ? shape.end(at) : size + 1
  const ownLeadsOn = own === size || shape.isHeader(own)
  if (reason !== 'uncertain' && ownLeadsOn) return { at: own, lost: 1 }
  const good = await checksums?.nextGood(at + 1)
  if (good !== undefined) return { at: good, lost: UNKNOWN }
  let from = at + 1
  if (reason === 'uncertain' || reason === 'torn-record') {
    const claimed = Math.min(own, size)
    if (!(await doubt.contradicted(at, own))) from = claimed
  }
  const found = await shape.findRecord(from)
  return { at: found, lost: UNKNOWN }
}

function describe(
  shape: HeaderShape,
  at: number,
  reason: DamageReason,
): Pick<DamagedExtent, 'record'> {
  if (reason !== 'uncertain' && reason !== 'torn-record') return {}
  const { bytes } = shape
  return {
    record: { sec: bytes.word(at + 4), usec: bytes.word(at + 8), bytes: shape.length(at) },
  }
}

/** What a header of this journal looks like at an offset, and where its record would end. */
export class HeaderShape {
  readonly bytes: DamageBytes
  readonly header: number
  readonly #magic: number
  readonly #compressed: boolean
  readonly #lz4: boolean
  readonly #magicBytes = Buffer.allocUnsafe(4)

  constructor(bytes: DamageBytes, hdrMagic: number) {
    this.bytes = bytes
    this.header = headerBytes(hdrMagic)
    this.#magic = hdrMagic
    this.#compressed = isCompressed(hdrMagic)
    this.#lz4 = compressionProvider(hdrMagic) !== COMPRESSION_PROVIDERS.none
    this.#magicBytes.writeUInt32LE(hdrMagic)
  }

  hasRoom(at: number): boolean {
    return at >= 0 && at + this.header <= this.bytes.size
  }

  /** A whole header with the right magic. The legacy magic is 0, as a lost page is: then the time must be one, too. */
  isHeader(at: number): boolean {
    if (!this.hasRoom(at) || this.bytes.word(at) !== this.#magic) return false
    if (this.#magic !== 0) return true
    const usec = this.bytes.word(at + 8)
    return usec < 1_000_000 && (usec !== 0 || this.bytes.word(at + 4) !== 0)
  }

  /** Payload bytes as stored. The caller knows that there is room for a header. */
  length(at: number): number {
    return this.bytes.word(at + this.header - 4)
  }

  /** Where the record whose header is at `at` would end; perhaps past the file. */
  end(at: number): number {
    return at + this.header + this.length(at)
  }

  /** What is wrong with the header at `at`, or null when a whole record can be there. */
  fault(at: number): DamageReason | null {
    if (!this.hasRoom(at)) return 'torn-header'
    if (!this.isHeader(at)) return 'bad-header'
    if (!this.#lengthsAgree(at)) return 'bad-lengths'
    return this.end(at) > this.bytes.size ? 'torn-record' : null
  }

  /** The rules that confirm a record that ends at `end`, but for index and checksums. */
  confirms(end: number): boolean {
    const { size } = this.bytes
    if (end === size || this.isHeader(end)) return true
    if (!this.hasRoom(end)) return this.#beginsHeader(end)
    const after = this.end(end)
    return after === size || this.isHeader(after)
  }

  /** A whole record that something confirms stands at `at`. */
  isConfirmed(at: number): boolean {
    return this.fault(at) === null && this.confirms(this.end(at))
  }

  /** First offset from `from` on where a confirmed record begins; the end of the file when there is none. */
  async findRecord(from: number): Promise<number> {
    const { size } = this.bytes
    let at = from
    for (;;) {
      at = await this.findCandidate(at, size)
      if (at < 0) return size
      if (this.confirms(this.end(at))) return at
      at++
    }
  }

  /** As `findRecord`, but anything that looks like a record, confirmed or not; -1 when there is none before `to`. */
  async findCandidate(from: number, to: number): Promise<number> {
    const { bytes } = this
    for (let at = from; at < to; ) {
      const found = bytes.find(this.#magicBytes, at, to)
      if (found >= 0 && this.isCandidate(found)) return found
      if (found < 0) at = -found
      else if (this.#magic !== 0) at = found + 1
      // A lost page is zeros, each of which could begin the legacy magic: on to the first that can hold a time.
      else at = Math.max(found + 1, bytes.skipZeros(found, to) - 7)
      if (bytes.breathless) await bytes.breathe()
    }
    return -1
  }

  /** Found by its looks, not reached from a record: four zero bytes prove little, so a legacy one must look whole. */
  isCandidate(at: number): boolean {
    if (this.fault(at) !== null) return false
    const sec = this.bytes.word(at + 4)
    return this.#magic !== 0 || (sec >= LEGACY_FROM && sec <= LEGACY_TO)
  }

  /** The file ends inside what begins here: true if that can be a header, as far as it goes. */
  #beginsHeader(at: number): boolean {
    const there = Math.min(4, this.bytes.size - at)
    for (let i = 0; i < there; i++) {
      if (this.bytes.byte(at + i) !== this.#magicBytes[i]) return false
    }
    return true
  }

  #lengthsAgree(at: number): boolean {
    if (!this.#compressed) return true
    const length = this.bytes.word(at + 12)
    const stored = this.bytes.word(at + 16)
    if (!this.#lz4) return isStoredAsIs(length, stored)
    // LZ4 gains at most 255 to 1, and loses at most one byte in 255 and sixteen.
    return stored >= 1 && length <= stored * 255 && stored <= length + Math.ceil(length / 255) + 16
  }
}

/**
 * Whether a header that nothing confirms lies about its length, so that records inside it may be its neighbours and not its payload.
 * Looks at each offset once; after a budget of looks in proportion to the file it believes nobody, which keeps a
 * hostile file from making it quadratic.
 */
class Doubt {
  readonly #shape: HeaderShape
  #budget: number

  constructor(shape: HeaderShape) {
    this.#shape = shape
    this.#budget = shape.bytes.size + BELIEVABLE_BYTES
  }

  async contradicted(at: number, claimedEnd: number): Promise<boolean> {
    const shape = this.#shape
    const { size } = shape.bytes
    if (claimedEnd - at > BELIEVABLE_BYTES) return true
    const to = Math.min(claimedEnd, size)
    this.#budget -= to - at
    if (this.#budget < 0) return true
    const seen = new Uint8Array(Math.ceil((to - at) / 8))
    for (let first = at + 1; ; first++) {
      first = await shape.findCandidate(first, to)
      if (first < 0) return false
      for (let next = first; next < to; ) {
        const bit = next - at
        if ((seen[bit >> 3]! & (1 << (bit & 7))) !== 0) break
        seen[bit >> 3]! |= 1 << (bit & 7)
        if (shape.fault(next) !== null) {
          // One damaged header in a run of good ones does not end it.
          if (next === first || !shape.hasRoom(next)) break
        }
        const end = shape.end(next)
        if (end === size) return true
        if (end > to) {
          if (end < size && claimedEnd <= size && shape.confirms(end)) return true
          break
        }
        next = end
      }
    }
  }
}
