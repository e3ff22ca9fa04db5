/**
 * A backup becomes the spool of a data directory that has none. It is copied under another name, synced and
 * checked, and renamed when it is whole: a spool that is there was restored whole, and none is ever
 * written over. The backup is left as it is.
 */
import { chmod, copyFile, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { copyTree } from './backup.js'
import { type CheckReport, checkSpool } from './check.js'
import { directoryMode, syncPath } from './durable.js'
import { SpoolError } from './errors.js'
import { type LongOptions, throwIfAborted } from './jobs.js'
import { DEFAULT_MODE } from './options.js'
import { ownToRead } from './owner.js'
import { Store } from './store.js'

export interface RestoreReport {
  /** The spool that was made. */
  readonly directory: string
  readonly bytes: number
  /** Of the copy, each content compared with its hash. */
  readonly check: CheckReport
}

export interface RestoreOptions extends LongOptions {
  /** Of the files; 0o640 when not given. */
  readonly mode?: number | undefined
  /** Restore also what is not sound, to be repaired then. */
  readonly force?: boolean | undefined
}

/**
 * Makes `path` the spool that `backup` is. Throws SPOOL_ERR_OPEN when there is no backup, SPOOL_ERR_OWNED when
 * it is the spool of a running service, SPOOL_ERR_EXISTS when something is at `path`, SPOOL_ERR_CORRUPT for a
 * backup that is not sound unless forced, SPOOL_ERR_FULL and SPOOL_ERR_WRITE for the disk, SPOOL_ERR_ABORTED.
 */
export async function restoreSpool(
  backup: string,
  path: string,
  options: RestoreOptions = {},
): Promise<RestoreReport> {
  const source = resolve(backup)
  const target = resolve(path)
  const { mode = DEFAULT_MODE, force = false, onProgress } = options
  await Store.mustExist(source)
  await assertFree(target)
  const owner = await ownToRead(source)
  const parent = dirname(target)
  const making = join(parent, `.${basename(target)}.restoring`)
  try {
    await Store.makeDirectory({ path: parent, readOnly: false, mode, mapSize: undefined })
    await rm(making, { recursive: true, force: true })
    await mkdir(making, { mode: directoryMode(mode) })
    onProgress?.({ phase: 'copying', done: 0, total: null })
    await copyFile(join(source, 'data.mdb'), join(making, 'data.mdb'))
    await chmod(join(making, 'data.mdb'), mode)
    await copyTree(join(source, 'quarantine'), join(making, 'quarantine'))
    const bytes = await syncPath(join(making, 'data.mdb'))
    throwIfAborted(options.signal)
    const check = await checkSpool(making, { ...options, deep: true })
    if (check.found > 0 && !force) throw unsound(source, check)
    await rm(join(making, 'lock.mdb'), { force: true })
    await syncPath(making)
    // Fails over a directory that is not empty, should one have come meanwhile.
    await rename(making, target)
    await syncPath(parent)
    return { directory: target, bytes, check }
  } catch (error) {
    await rm(making, { recursive: true, force: true })
    throw error instanceof SpoolError ? error : describe(error, target)
  } finally {
    await owner.release()
  }
}

/** Throws SPOOL_ERR_EXISTS unless there is nothing, or an empty directory. */
async function assertFree(target: string): Promise<void> {
  let names: string[]
  try {
    names = await readdir(target)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    names = ['a file']
  }
  if (names.length > 0) throw exists(target)
}

function exists(file: string): SpoolError {
  return new SpoolError('SPOOL_ERR_EXISTS', 'a backup is not restored over what is there', {
    file,
    advice: 'name a data directory without a spool, or move that one away',
  })
}

function unsound(file: string, { found, problems }: CheckReport): SpoolError {
  const first =
    problems[0] === undefined ? '' : `, the first: ${problems[0].problem} ${problems[0].what}`
  return new SpoolError('SPOOL_ERR_CORRUPT', `the backup has ${found} problems${first}`, {
    file,
    advice: 'nothing was restored; restore it by force and repair it, or take another one',
  })
}

function describe(cause: unknown, file: string): SpoolError {
  const { code = '' } = cause as NodeJS.ErrnoException
  if (code === 'ENOTEMPTY' || code === 'EEXIST') return exists(file)
  const kind = code === 'ENOSPC' || code === 'EDQUOT' ? 'SPOOL_ERR_FULL' : 'SPOOL_ERR_WRITE'
  return new SpoolError(kind, 'the backup was not restored', { file, cause })
}
