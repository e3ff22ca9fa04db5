/** Files and directories of the spool made durable. */
import { mkdir, open, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Syncs a file or a directory. Returns its size. */
export async function syncPath(path: string): Promise<number> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
    return (await handle.stat()).size
  } finally {
    await handle.close()
  }
}

/** Who may read a file may enter its directory. */
export function directoryMode(mode: number): number {
  return mode | ((mode & 0o444) >> 2)
}

/**
 * Makes a directory and those above it that are not there, each durable by a sync of the one above it. (Node's own recursive
 * mkdir does not sync, and does not end where a parent is there and yet takes no directory, as in /proc.)
 */
export async function makeDirectories(path: string, mode?: number): Promise<void> {
  try {
    await makeDirectory(path, mode)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error
    await makeDirectories(dirname(path), mode)
    await makeDirectory(path, mode)
  }
}

async function makeDirectory(path: string, mode: number | undefined): Promise<void> {
  try {
    await mkdir(path, { mode })
  } catch (error) {
    if (codeOf(error) === 'EEXIST' && (await stat(path)).isDirectory()) return
    throw error
  }
  await syncPath(dirname(path))
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}
