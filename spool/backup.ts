/**
 * A copy of the spool as of one commit, made beside whatever is written: a directory that is a spool
 * itself. To restore it, put it in the place of the spool at rest. It is made under another name and
 * renamed when it is whole and synced: a backup that is there is whole.
 */
import { chmod, cp, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { directoryMode, syncPath } from './durable.js'
import { SpoolError } from './errors.js'
import type { Store } from './store.js'

export interface BackupReport {
  /** The directory that was made. */
  readonly directory: string
  readonly bytes: number
}

/**
 * Throws SPOOL_ERR_INVALID when the directory exists and is not empty, or its parent does not; SPOOL_ERR_FULL and
 * SPOOL_ERR_WRITE for the disk it is made on.
 */
export async function backupStore(
  store: Store,
  directory: string,
  quarantine: string,
): Promise<BackupReport> {
  const target = resolve(directory)
  const parent = dirname(target)
  const making = join(parent, `.${basename(target)}.partial`)
  try {
    await assertRoom(target)
    await rm(making, { recursive: true, force: true })
    // Nobody may read the copy who may not read the spool.
    const mode = (await stat(join(store.path, 'data.mdb'))).mode & 0o777
    await mkdir(making, { mode: directoryMode(mode) })
    await store.copyTo(making)
    await chmod(join(making, 'data.mdb'), mode)
    await copyTree(quarantine, join(making, 'quarantine'))
    const bytes = await syncPath(join(making, 'data.mdb'))
    await syncPath(making)
    // Renaming a directory over one that is not empty fails.
    await rename(making, target)
    await syncPath(parent)
    return { directory: target, bytes }
  } catch (cause) {
    await rm(making, { recursive: true, force: true })
    throw describe(cause, target)
  }
}

/** Told before all of the spool is copied, onto a disk that may hardly take it. Throws as a rename over what is there. */
async function assertRoom(target: string): Promise<void> {
  const there = await readdir(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  if (there.length > 0) throw Object.assign(new Error('it is not empty'), { code: 'ENOTEMPTY' })
}

const WRONG_PLACE = new Set(['ENOENT', 'EEXIST', 'ENOTEMPTY', 'ENOTDIR', 'EACCES', 'EPERM'])

function describe(cause: unknown, file: string): SpoolError {
  const { code = '' } = cause as NodeJS.ErrnoException
  if (WRONG_PLACE.has(code)) {
    return new SpoolError('SPOOL_ERR_INVALID', 'directory: the backup cannot be made there', {
      field: 'directory',
      file,
      cause,
      advice: 'name a directory that does not exist, in one that does',
    })
  }
  const kind = code === 'ENOSPC' || code === 'EDQUOT' ? 'SPOOL_ERR_FULL' : 'SPOOL_ERR_WRITE'
  return new SpoolError(kind, 'the backup was not made', { file, cause })
}

/** With all that is in it on the disk; nothing when it is not there. */
export async function copyTree(from: string, to: string): Promise<void> {
  try {
    await cp(from, to, { recursive: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  for (const entry of await readdir(to, { recursive: true, withFileTypes: true })) {
    await syncPath(join(entry.parentPath, entry.name))
  }
  await syncPath(to)
}
