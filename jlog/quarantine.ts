/**
 * Quarantine: bytes that must leave a journal file go whole into a file of their own beside it, never away.
 *
 * Promises: the new file never replaces an older one; it is on the disk, name and all, before the call returns, so
 * the caller cuts only afterwards; memory stays bounded however long the range is.
 */
import { unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile, syncDirectory } from './file.js'
import { segmentFile } from './format.js'

const PIECE_BYTES = 1024 * 1024
const QUARANTINE_MODE = 0o640

export interface Quarantined {
  /** Path of the file that holds the bytes now: `<file>.torn-<n>`. */
  readonly file: string
  readonly bytes: number
}

/** Copies bytes `offset` up to, but not including, `end` of segment `log`. See the head of this file. */
export function quarantineRange(
  dir: string,
  log: number,
  offset: number,
  end: number,
): Promise<Quarantined> {
  return quarantineFileRange(join(dir, segmentFile(log)), offset, end)
}

/** As `quarantineRange`, of any file of a journal. libjlog ignores the names that this gives. */
export async function quarantineFileRange(
  path: string,
  offset: number,
  end: number,
): Promise<Quarantined> {
  const source = await JournalFile.open(path)
  try {
    const target = await createBeside(path)
    try {
      await copyRange(source, offset, end, target)
      await target.sync()
    } catch (error) {
      // An incomplete copy is of no use: the bytes still stand where they stood.
      await unlink(target.path).catch(() => {})
      throw error
    } finally {
      await target.close()
    }
    await syncDirectory(dirname(path))
    return { file: target.path, bytes: end - offset }
  } finally {
    await source.close()
  }
}

async function createBeside(path: string): Promise<JournalFile> {
  for (let n = 0; ; n++) {
    try {
      const beside = join(dirname(path), `${basename(path)}.torn-${n}`)
      return await JournalFile.open(beside, { create: QUARANTINE_MODE, exclusive: true })
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
    }
  }
}

async function copyRange(
  source: JournalFile,
  offset: number,
  end: number,
  target: JournalFile,
): Promise<void> {
  const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, end - offset))
  for (let at = offset; at < end; ) {
    const wanted = Math.min(piece.length, end - at)
    const read = await source.readAt(piece.subarray(0, wanted), at)
    if (read === 0) {
      throw new JlogError(
        'JLOG_ERR_FILE_READ',
        'the file ends before the range to quarantine does',
        {
          file: source.path,
          offset: at,
        },
      )
    }
    await target.write(piece.subarray(0, read), at - offset)
    at += read
  }
}
