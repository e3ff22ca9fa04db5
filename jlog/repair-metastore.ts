/**
 * Puts a journal's metastore right: what it says where that can be believed, else what the segments show (magic,
 * highest segment), else defaults. Bytes that are replaced are kept in a file beside it.
 */
import { join } from 'node:path'
import { DamageBytes } from './damage-bytes.js'
import { HeaderShape, scanSegment } from './damage-scan.js'
import { errnoOf, JournalFile, METASTORE_FILE_ERRORS, readSmallFile } from './file.js'
import {
  COMPRESSED_MAGIC,
  COMPRESSION_PROVIDERS,
  DEFAULT_UNIT_LIMIT,
  encodeMetastore,
  LEGACY_METASTORE_BYTES,
  METASTORE_FILE,
  type Metastore,
  PLAIN_MAGIC,
  SAFETY,
  segmentFile,
} from './format.js'
import { copyAside, freeAsideName, openIfThere, replaceFile } from './repair-aside.js'
import type { FileReport } from './repair-report.js'
import { refuseOtherByteOrder, soundMetastore } from './settings.js'

const METASTORE_MODE = 0o640
/** Segments asked for their magic, and how far into each. */
const ASKED_SEGMENTS = 64
const ASKED_BYTES = 256 * 1024

const LZ4_MAGIC = (COMPRESSED_MAGIC | COMPRESSION_PROVIDERS.lz4) >>> 0
const NULL_MAGIC = (COMPRESSED_MAGIC | COMPRESSION_PROVIDERS.none) >>> 0
/** In the order in which they are believed when they explain as much; the legacy one last: zeros prove least. */
const MAGICS = [PLAIN_MAGIC, LZ4_MAGIC, NULL_MAGIC, 0]

export interface MetastoreFindings {
  readonly report: FileReport
  /** The settings that hold from now on. */
  readonly meta: Metastore
}

/**
 * @param segments numbers of the segments there are, ascending
 * @throws JlogError JLOG_ERR_NOT_SUPPORTED for a journal of the other byte order
 */
export async function repairMetastore(
  dir: string,
  segments: readonly number[],
  options: { readonly dryRun: boolean; readonly lockTimeout?: number | undefined },
): Promise<MetastoreFindings> {
  const path = join(dir, METASTORE_FILE)
  const file = await JournalFile.open(path, {
    write: !options.dryRun,
    errors: METASTORE_FILE_ERRORS,
  }).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
  try {
    if (file !== null && !options.dryRun) await file.lock({ timeout: options.lockTimeout ?? 5000 })
    const bytes = file === null ? null : await readSmallFile(path)
    if (bytes !== null) refuseOtherByteOrder(bytes, path)
    const { meta, found } = await judge(dir, segments, bytes)
    if (found === null) return { report: report('sound', false, null), meta }
    const keepsBytes = bytes !== null && bytes.length > 0
    let cutFile = keepsBytes ? await freeAsideName(dir, METASTORE_FILE) : null
    if (!options.dryRun) {
      if (keepsBytes) {
        cutFile = await copyAside(dir, METASTORE_FILE)
      }
      await store(dir, file, bytes, meta)
    }
    return { report: report(found, true, cutFile), meta }
  } finally {
    await file?.close()
  }
}

/** In place where the size stays, because other processes have it mapped; else as a new file, in one step. */
async function store(
  dir: string,
  file: JournalFile | null,
  before: Buffer | null,
  meta: Metastore,
): Promise<void> {
  const after = encodeMetastore(meta)
  const staysLegacy = before?.length === LEGACY_METASTORE_BYTES && meta.hdrMagic === 0
  if (file === null || (before?.length !== after.length && !staysLegacy)) {
    await replaceFile(dir, METASTORE_FILE, (fresh) => fresh.write(after, 0), METASTORE_MODE)
    return
  }
  await file.write(after.subarray(0, before?.length), 0)
  await file.sync()
}

/** @returns the settings that hold, and what was wrong with the metastore, or null when nothing was */
async function judge(
  dir: string,
  segments: readonly number[],
  bytes: Buffer | null,
): Promise<{ meta: Metastore; found: string | null }> {
  const highest = segments.at(-1)
  const stored = bytes === null ? null : soundMetastore(bytes)
  const shown = await magicShown(dir, segments, stored?.hdrMagic)
  if (stored !== null && (shown === null || shown === stored.hdrMagic)) {
    if (highest === undefined) return { meta: stored, found: null }
    if (stored.storageLog === highest) return { meta: stored, found: null }
    // One ahead: the newest segment is gone, or not made yet. More than that nobody wrote.
    if (stored.storageLog === highest + 1) return { meta: stored, found: null }
    const where = stored.storageLog < highest ? 'behind' : 'ahead of'
    return {
      meta: { ...stored, storageLog: highest },
      found: `storage_log ${stored.storageLog} was ${where} the last segment, ${highest}`,
    }
  }
  const meta: Metastore = {
    storageLog: highest ?? 0,
    unitLimit: DEFAULT_UNIT_LIMIT,
    safety: SAFETY.almostSafe,
    hdrMagic: shown ?? PLAIN_MAGIC,
  }
  if (bytes === null) return { meta, found: 'missing: made anew from what the segments show' }
  if (stored !== null) {
    return { meta, found: 'its hdr_magic is not that of the records: made anew from the segments' }
  }
  return { meta, found: `${bytes.length} bytes that are no metastore: made anew from the segments` }
}

/**
 * The magic under which confirmed records are found, or null when no segment shows one. A stored one is overruled only
 * by records at the beginning of a segment, where none of its own are to be found anywhere; and never by the legacy
 * magic, because a lost page is zeros, too.
 */
async function magicShown(
  dir: string,
  segments: readonly number[],
  stored: number | undefined,
): Promise<number | null> {
  const asked = segments.slice(-ASKED_SEGMENTS).toReversed()
  const shown = async (magics: readonly number[], deep: boolean): Promise<number | null> => {
    for (const magic of magics) {
      for (const log of asked) if (await shows(dir, log, magic, deep)) return magic
    }
    return null
  }
  if (stored === undefined) return mostShown(dir, asked)
  const own = (await shown([stored], false)) ?? (await shown([stored], true))
  if (own !== null && stored !== 0) return own
  const others = MAGICS.filter((magic) => magic !== stored && magic !== 0)
  return (await shown(others, false)) ?? own
}

/** The magic that explains most of what the segments hold. A few zeros, or a journal in a payload, explain less. */
async function mostShown(dir: string, segments: readonly number[]): Promise<number | null> {
  let best: number | null = null
  let most = 0
  for (const magic of MAGICS) {
    let kept = 0
    let all = 0
    for (const log of segments) {
      const file = await openIfThere(join(dir, segmentFile(log)))
      if (file === null) continue
      try {
        const size = Math.min(ASKED_BYTES, file.size())
        all += size
        for await (const extent of scanSegment(new DamageBytes(file.fd, size, file.path), magic)) {
          if (extent.kind === 'kept') kept += extent.end - extent.offset
        }
      } finally {
        await file.close()
      }
    }
    // What little is left in a lost page may read as a legacy record.
    if (magic === 0 && kept < all / 2) continue
    if (kept > most) [best, most] = [magic, kept]
  }
  return best
}

/** A record stands at the segment's beginning, or, when looked for `deep`, anywhere near it. */
async function shows(dir: string, log: number, magic: number, deep: boolean): Promise<boolean> {
  const file = await openIfThere(join(dir, segmentFile(log)))
  if (file === null) return false
  try {
    const size = deep ? Math.min(ASKED_BYTES, file.size()) : file.size()
    const shape = new HeaderShape(new DamageBytes(file.fd, size, file.path), magic)
    if (deep) return (await shape.findRecord(0)) < size
    return size > 0 && shape.isCandidate(0) && shape.confirms(shape.end(0))
  } finally {
    await file.close()
  }
}

function report(found: string, changed: boolean, cutFile: string | null): FileReport {
  return { file: METASTORE_FILE, changed, found, cutFile }
}
