/** What else lies in a journal's directory: what is missing from it, and what does not belong to it. By name only. */
import { METASTORE_FILE, PRE_COMMIT_FILE, parseCheckpointFile, parseSegmentFile } from './format.js'
import type { JournalListing } from './journal-directory.js'

const INDEX = /^([0-9a-f]{8})\.idx$/
const BESIDE =
  /^(?!cp\.).+\.torn-\d+$|^torn-cp\..+-\d+$|^[0-9a-f]{8}\.(sum|repair|repair-cut|repair-new|repair-sum)$/

/** Of ours, though not of the format: checksums, what repair put aside, and what one that was interrupted left. */
export function isKeptBeside(name: string): boolean {
  return BESIDE.test(name)
}

/** Gaps between the segments (ascending), as `[first, last]`. */
export function missingRanges(segments: readonly number[]): [number, number][] {
  const gaps: [number, number][] = []
  segments.forEach((log, i) => {
    const before = segments[i - 1]
    if (before !== undefined && log > before + 1) gaps.push([before + 1, log - 1])
  })
  return gaps
}

/** Indexes of segments that are not there. Were such a segment made anew, they would be taken for its index. */
export function orphanIndexes({ names, segments }: JournalListing): string[] {
  const there = new Set(segments)
  return names.filter((name) => {
    const match = INDEX.exec(name)
    return match !== null && !there.has(Number.parseInt(match[1]!, 16))
  })
}

/** Names that are none of a journal's, nor of what repair puts beside. */
export function strayFiles({ names }: JournalListing): string[] {
  return names
    .filter((name) => {
      if (name === METASTORE_FILE || name === PRE_COMMIT_FILE) return false
      if (parseSegmentFile(name) !== null || parseCheckpointFile(name) !== null) return false
      return !INDEX.test(name) && !isKeptBeside(name)
    })
    .sort()
}
