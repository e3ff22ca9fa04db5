/** What repair says it did: plain data, the same for a dry run, ready for JSON. File names are relative to the journal. */
import type { DamagedExtent, DamageReason } from './damage-scan.js'
import { formatLogId, type LogId } from './log-id.js'

/** A range that was cut; offsets are those of the segment before. */
export interface CutRange {
  readonly offset: number
  readonly bytes: number
  readonly reason: DamageReason
  /** Of an uncertain or torn record: what its header says. It may be whole, but nothing confirms it. */
  readonly record?: { readonly sec: number; readonly usec: number; readonly bytes: number }
}

/** Of one subscriber; ids as `%08x:%08x`, `before` null when the file held none. */
export interface CheckpointChange {
  readonly file: string
  /** The name, as far as it is UTF-8. */
  readonly subscriber: string
  readonly before: string | null
  readonly after: string
  readonly reason:
    | 'unchanged'
    | 'left-alone'
    | 'wrong-size'
    | 'before-the-earliest'
    | 'past-the-end'
    | 'records-cut-before-it'
}

export interface SegmentReport {
  readonly file: string
  readonly log: number
  readonly changed: boolean
  /** An interrupted repair was found and completed first. */
  readonly resumed: boolean
  readonly bytesBefore: number
  readonly bytesAfter: number
  readonly records: number
  /** The first ranges, in order; `omitted` tells how many more there are. */
  readonly cut: readonly CutRange[]
  readonly omitted: number
  readonly cutRanges: number
  readonly cutBytes: number
  /** Ranges that begin with a record that may be whole, but that nothing confirms. */
  readonly uncertain: number
  /** Holds the cut bytes, one range after the other; null when nothing was cut. */
  readonly cutFile: string | null
  readonly index: 'absent' | 'sound' | 'moved-aside'
  /** Where an index that does not fit went. */
  readonly indexFile: string | null
  readonly checkpoints: readonly { file: string; before: string; after: string }[]
}

export interface FileReport {
  readonly file: string
  readonly changed: boolean
  /** What was found, and done about it, in words. */
  readonly found: string
  /** Holds the bytes as they were, when any were replaced. */
  readonly cutFile: string | null
}

export interface RepairReport {
  readonly directory: string
  readonly dryRun: boolean
  /** False when everything was sound: nothing was written. */
  readonly changed: boolean
  readonly records: number
  readonly metastore: FileReport
  readonly preCommit: FileReport & { readonly pendingBytes: number }
  readonly segments: readonly SegmentReport[]
  /** Segments between the earliest and the last that are not there, as ranges `[first, last]`. */
  readonly missing: readonly (readonly [number, number])[]
  /** Empty segments below the one being written, which were removed. */
  readonly emptyRemoved: readonly string[]
  readonly subscribers: readonly CheckpointChange[]
  /** Files that are none of a journal's; left as they are. */
  readonly strays: readonly string[]
  /** Indexes without a segment, which were moved aside. */
  readonly orphanIndexes: readonly string[]
}

/** So many ranges are listed one by one; a segment of garbage has millions. */
const MAX_LISTED = 1000

/** Gathers what a scan cuts, in bounded memory. */
export class CutList {
  readonly listed: CutRange[] = []
  ranges = 0
  bytes = 0
  uncertain = 0

  add(extent: DamagedExtent): void {
    this.ranges++
    this.bytes += extent.end - extent.offset
    if (extent.reason === 'uncertain') this.uncertain++
    if (this.listed.length >= MAX_LISTED) return
    const { offset, end, reason, record } = extent
    this.listed.push({ offset, bytes: end - offset, reason, ...(record ? { record } : {}) })
  }

  get omitted(): number {
    return this.ranges - this.listed.length
  }
}

export function shiftReport(file: string, before: LogId, after: LogId) {
  return { file, before: formatLogId(before), after: formatLogId(after) }
}
