/**
 * Reading a segment that is damaged: the same records that a repair would keep, in order, and word of each range that is passed
 * over. A record after such a range has the id that a repair would give it. Writes and locks nothing.
 */
import type { SegmentChecksums } from './checksums.js'
import { DamageBytes } from './damage-bytes.js'
import { type DamageReason, scanSegment } from './damage-scan.js'
import { openIndexFile } from './index-seek.js'
import type { BatchLimits, RecordBatch } from './record-batch.js'
import type { OpenSegment } from './segment-reader.js'

/** Bytes of a segment that are no confirmed record. */
export interface SkippedRange {
  readonly segment: number
  readonly offset: number
  readonly bytes: number
  readonly reason: DamageReason
}

export interface ConfirmedOptions {
  /** It is the segment being written: a torn record at its end may be on its way, and is not damage. */
  readonly newest: boolean
  /** What the next batch may hold. Asked before each. */
  readonly limits: () => BatchLimits
  readonly onSkipped: (range: SkippedRange) => void
  /** Evidence, where there is any. */
  readonly checksums?: SegmentChecksums | null
}

/** What is left of the segment's first `size` bytes from where its reader stands. */
export async function* readConfirmed(
  dir: string,
  { file, reader, hdrMagic }: OpenSegment,
  size: number,
  { newest, limits, onSkipped, checksums }: ConfirmedOptions,
): AsyncGenerator<RecordBatch, void, undefined> {
  const index = await openIndexFile(dir, reader.log)
  try {
    const evidence = {
      index: index === null ? undefined : new DamageBytes(index.fd, index.size(), index.path),
      checksums: checksums ?? undefined,
    }
    const bytes = new DamageBytes(file.fd, size, file.path)
    for await (const extent of scanSegment(bytes, hdrMagic, evidence)) {
      const { position, marker } = reader.place
      if (extent.end <= position) continue
      if (extent.kind === 'damaged') {
        const beingWritten = newest && extent.end === size && extent.reason.startsWith('torn-')
        const { offset, end, reason } = extent
        if (!beingWritten) onSkipped({ segment: reader.log, offset, bytes: end - offset, reason })
        continue
      }
      await reader.seek({ position: Math.max(position, extent.offset), marker })
      for (;;) {
        const { batch } = await reader.next(extent.end, limits())
        if (batch === null) break
        yield batch
      }
    }
  } finally {
    await index?.close()
  }
}
