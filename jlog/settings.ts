/**
 * A journal's settings as a reader needs them, also when its metastore does not say: then the segments are asked
 * (magic of the newest readable first header, highest number), and what they cannot tell has its default. Only reads; putting the metastore
 * right is repair's work.
 */
import { constants, type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { JlogError } from './errors.js'
import { readSmallFile } from './file.js'
import {
  COMPRESSED_MAGIC,
  COMPRESSION_PROVIDERS,
  DEFAULT_UNIT_LIMIT,
  decodeMetastore,
  METASTORE_BYTES,
  METASTORE_FILE,
  type Metastore,
  PLAIN_HEADER_BYTES,
  PLAIN_MAGIC,
  SAFETY,
  segmentFile,
} from './format.js'
import { type JournalListing, listJournal } from './journal-directory.js'

export interface JournalSettings extends Metastore {
  /** The segment being written: the metastore's, or the highest that exists where that is higher. */
  readonly storageLog: number
  /** What stands in the metastore; null when it is missing, of a wrong size or holds what no metastore may. */
  readonly metastore: Metastore | null
}

/** True for the magics that a journal may have: plain, legacy, null- or LZ4-compressed. */
export function isKnownMagic(hdrMagic: number): boolean {
  if (hdrMagic === PLAIN_MAGIC || hdrMagic === 0) return true
  return (
    hdrMagic === (COMPRESSED_MAGIC | COMPRESSION_PROVIDERS.none) >>> 0 ||
    hdrMagic === (COMPRESSED_MAGIC | COMPRESSION_PROVIDERS.lz4) >>> 0
  )
}

/** What the metastore's bytes say, or null when no journal has such a metastore. */
export function soundMetastore(bytes: Buffer): Metastore | null {
  const meta = decodeMetastore(bytes)
  return meta !== null && isKnownMagic(meta.hdrMagic) && meta.unitLimit > 0 ? meta : null
}

/**
 * What a host of the other byte order wrote looks like garbage, and must not be taken for it.
 * @throws JlogError JLOG_ERR_NOT_SUPPORTED
 */
export function refuseOtherByteOrder(metastore: Buffer, file: string): void {
  if (metastore.length !== METASTORE_BYTES) return
  const magic = metastore.readUInt32BE(12)
  if (magic !== 0 && isKnownMagic(magic)) {
    throw new JlogError('JLOG_ERR_NOT_SUPPORTED', 'this journal has the other byte order', {
      file,
      advice: 'change it with `bobbin jlog endian` first',
    })
  }
}

/**
 * @param listing of the same directory, when the caller has one
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR; JLOG_ERR_META_OPEN when it is no journal at all,
 * JLOG_ERR_NOT_SUPPORTED when it is one of the other byte order
 */
export async function readSettings(
  dir: string,
  listing?: JournalListing,
): Promise<JournalSettings> {
  const { segments, checkpoints } = listing ?? (await listJournal(dir))
  const highest = segments.at(-1) ?? 0
  const file = join(dir, METASTORE_FILE)
  const metastore = await readSmallFile(file).then(
    (bytes) => {
      refuseOtherByteOrder(bytes, file)
      return soundMetastore(bytes)
    },
    (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') {
        throw new JlogError('JLOG_ERR_META_OPEN', 'cannot read the metastore', { file, cause })
      }
      if (segments.length === 0 && checkpoints.length === 0) {
        throw new JlogError(
          'JLOG_ERR_META_OPEN',
          'this directory is no journal: it has no metastore',
          {
            file: dir,
            advice: 'make one with `bobbin jlog create`',
          },
        )
      }
      return null
    },
  )
  if (metastore !== null) {
    return { ...metastore, storageLog: Math.max(metastore.storageLog, highest), metastore }
  }
  return {
    storageLog: highest,
    unitLimit: DEFAULT_UNIT_LIMIT,
    safety: SAFETY.almostSafe,
    hdrMagic: await magicOfSegments(dir, segments),
    metastore,
  }
}

async function magicOfSegments(dir: string, segments: readonly number[]): Promise<number> {
  for (const log of segments.toReversed()) {
    const header = await firstBytes(join(dir, segmentFile(log)), PLAIN_HEADER_BYTES)
    if (header === null) continue
    const magic = header.readUInt32LE(0)
    // Zeros are a legacy header only when there is a time in it; otherwise they are a lost page.
    if (magic === 0 ? header.readUInt32LE(4) !== 0 : isKnownMagic(magic)) return magic
  }
  return PLAIN_MAGIC
}

async function firstBytes(path: string, count: number): Promise<Buffer | null> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(count), 0, count, 0)
    return bytesRead === count ? buffer : null
  } catch {
    return null // Gone meanwhile, or unreadable: another segment may tell.
  } finally {
    await handle?.close()
  }
}
