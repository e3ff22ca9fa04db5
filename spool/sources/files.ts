/** Files of a source: only regular ones are opened, no symbolic link is followed, and removals are synced. */
import { constants, type Dirent, type Stats } from 'node:fs'
import { type FileHandle, lstat, open, opendir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SpoolError } from '../errors.js'
import { passedBy } from '../passing.js'
import { SourceError, SourceGone } from './source.js'

const PIECE_BYTES = 64 * 1024
const BEYOND_BYTES = 1024

/** Throws SourceGone, and SourceError with result 3. */
export async function openRegular(path: string): Promise<FileHandle> {
  let handle: FileHandle
  try {
    // Not waiting for the other end of what turns out to be a pipe.
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (cause) {
    if (isMissing(cause) && isGarbled(path)) {
      throw new SourceError(3, 'its name is not UTF-8: give it another')
    }
    if (isMissing(cause)) throw new SourceGone(path)
    throw unreadable(cause)
  }
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw new SourceError(3, 'not a regular file')
}

/** The bytes from `start` up to `end`, or to the end of the file. Throws SourceError when there are fewer. */
export async function* readFrom(
  handle: FileHandle,
  start: number,
  end = Number.POSITIVE_INFINITY,
): AsyncGenerator<Buffer, void, void> {
  let size: number | undefined
  for (let at = start; at < end; ) {
    let piece: Buffer
    let bytesRead: number
    try {
      size ??= (await handle.stat()).size
      // No more than is there, for many files are small; beyond what was the end there may be more meanwhile.
      const left = Math.max(size - at, BEYOND_BYTES)
      piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, left, end - at))
      passedBy(piece.length)
      ;({ bytesRead } = await handle.read(piece, 0, piece.length, at))
    } catch (cause) {
      throw unreadable(cause)
    }
    if (bytesRead === 0) {
      if (end === Number.POSITIVE_INFINITY) return
      throw new SourceError(3, `ends ${end - at} bytes early`)
    }
    at += bytesRead
    yield piece.subarray(0, bytesRead)
  }
}

export function unreadable(cause: unknown): SourceError {
  return new SourceError(3, `cannot be read: ${(cause as Error).message}`, { cause })
}

export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

/** Whether it may be another path than the one on the disk: bytes that are no UTF-8 are lost in it. */
export function isGarbled(path: string): boolean {
  return path.includes('\ufffd')
}

/** Entries of a directory as they come. Throws SPOOL_ERR_OPEN. */
export async function* entriesOf(directory: string): AsyncGenerator<Dirent, void, void> {
  try {
    for await (const entry of await opendir(directory, { bufferSize: 256 })) yield entry
  } catch (cause) {
    throw new SpoolError('SPOOL_ERR_OPEN', 'the source cannot be listed', {
      file: directory,
      cause,
    })
  }
}

/** Removes files; `settle` syncs the directories that they were in. */
export class FileRemover {
  #touched = new Set<string>()

  /** False when it is not there. `as`: what it was when it was listed; throws when it has changed since. */
  async remove(path: string, as?: Stats): Promise<boolean> {
    try {
      if (as !== undefined && !isSame(await lstat(path), as)) {
        throw new Error('it has changed since it was listed')
      }
      await unlink(path)
    } catch (error) {
      if (!isMissing(error)) throw error
      return false
    }
    this.#touched.add(dirname(path))
    return true
  }

  async settle(): Promise<void> {
    const directories = this.#touched
    this.#touched = new Set()
    for (const directory of directories) {
      const handle = await open(join(directory, '.'), 'r')
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    }
  }
}

function isSame(a: Stats, b: Stats): boolean {
  return a.ino === b.ino && a.size === b.size && a.mtimeMs === b.mtimeMs
}
