/**
 * What is in a journal and what is wrong with it, without changing anything: the same look as repair's, as a report,
 * and record by record.
 */
import { join } from 'node:path'
import { SegmentChecksums } from './checksums.js'
import { DamageBytes } from './damage-bytes.js'
import { type DamagedExtent, type Extent, scanSegment } from './damage-scan.js'
import { JournalFile } from './file.js'
import { headerBytes, indexFile, isCompressed, segmentFile } from './format.js'
import { listJournal } from './journal-directory.js'
import { formatLogId } from './log-id.js'
import { type RepairOptions, repairJournal } from './repair.js'
import { openIfThere } from './repair-aside.js'
import { repairMetastore } from './repair-metastore.js'
import type { CheckpointChange, CutRange, FileReport } from './repair-report.js'

/** A few thousand records at a time. */
const PIECE_BYTES = 256 * 1024

export interface SegmentInspection {
  readonly file: string
  readonly log: number
  readonly bytes: number
  /** Confirmed records. */
  readonly records: number
  readonly sound: boolean
  /** What repair would cut; the first ranges. `omitted` tells how many more there are. */
  readonly damage: readonly CutRange[]
  readonly omitted: number
  readonly damagedBytes: number
  /** Damaged ranges that begin with a record that may be whole. */
  readonly uncertain: number
  readonly index: 'absent' | 'sound' | 'unsound'
}

export interface JournalInspection {
  readonly directory: string
  /** True when a repair would change nothing. */
  readonly sound: boolean
  readonly records: number
  readonly metastore: FileReport
  readonly preCommit: FileReport & { readonly pendingBytes: number }
  readonly segments: readonly SegmentInspection[]
  readonly missing: readonly (readonly [number, number])[]
  /** `after` is where repair would put it. */
  readonly subscribers: readonly CheckpointChange[]
  readonly orphanIndexes: readonly string[]
  readonly strays: readonly string[]
}

/** @throws JlogError as `repairJournal`, but never for a lock */
export async function inspectJournal(
  dir: string,
  options: Pick<RepairOptions, 'onProgress' | 'signal'> = {},
): Promise<JournalInspection> {
  const report = await repairJournal(dir, { ...options, dryRun: true })
  const { directory, records, metastore, preCommit, missing, subscribers, orphanIndexes, strays } =
    report
  return {
    directory,
    sound: !report.changed,
    records,
    metastore,
    preCommit,
    segments: report.segments.map((segment) => ({
      file: segment.file,
      log: segment.log,
      bytes: segment.bytesBefore,
      records: segment.records,
      sound: !segment.changed,
      damage: segment.cut,
      omitted: segment.omitted,
      damagedBytes: segment.cutBytes,
      uncertain: segment.uncertain,
      index: segment.index === 'moved-aside' ? 'unsound' : segment.index,
    })),
    missing,
    subscribers,
    orphanIndexes,
    strays,
  }
}

/** A record as it lies in its segment. */
export interface RecordDetail {
  readonly kind: 'record'
  /** `%08x:%08x`; the marker counts confirmed records, as readers will once the segment is repaired. */
  readonly id: string
  readonly offset: number
  readonly sec: number
  readonly usec: number
  /** Payload bytes as a reader gets them. */
  readonly size: number
  /** Payload bytes on disk. */
  readonly storedSize: number
}

/**
 * Every confirmed record and every damaged range of one segment, in order, in bounded memory.
 * @throws JlogError JLOG_ERR_FILE_OPEN, JLOG_ERR_FILE_READ, JLOG_ERR_META_OPEN
 */
export async function* inspectSegment(
  dir: string,
  log: number,
): AsyncGenerator<RecordDetail | DamagedExtent> {
  const { segments } = await listJournal(dir)
  const { hdrMagic } = (await repairMetastore(dir, segments, { dryRun: true })).meta
  const segment = await JournalFile.open(join(dir, segmentFile(log)))
  const index = await openIfThere(join(dir, indexFile(log)))
  const checksums = await SegmentChecksums.open(dir, log, segment, headerBytes(hdrMagic))
  try {
    const bytes = new DamageBytes(segment.fd, segment.size(), segment.path)
    let records: RecordDetail[] = []
    let marker = 0
    const evidence = {
      index: index === null ? undefined : new DamageBytes(index.fd, index.size(), index.path),
      checksums: checksums ?? undefined,
    }
    const visit = (offset: number) => {
      const size = bytes.word(offset + 12)
      records.push({
        kind: 'record',
        id: formatLogId({ log, marker: ++marker }),
        offset,
        sec: bytes.word(offset + 4),
        usec: bytes.word(offset + 8),
        size,
        storedSize: isCompressed(hdrMagic) ? bytes.word(offset + 16) : size,
      })
    }
    const extents: AsyncIterable<Extent> = scanSegment(
      bytes,
      hdrMagic,
      evidence,
      visit,
      PIECE_BYTES,
    )
    for await (const extent of extents) {
      if (extent.kind === 'damaged') yield extent
      else {
        yield* records
        records = []
      }
    }
  } finally {
    await checksums?.close()
    await index?.close()
    await segment.close()
  }
}
