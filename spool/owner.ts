/**
 * One owner a spool: the file `owner` in its directory, locked for as long as the owner lives (an
 * open-file-description lock, which the kernel drops with the process), the owner's pid inside for
 * whoever is refused.
 */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { tryLock, unlock } from 'fs-native-extensions'
import { SpoolError } from './errors.js'
import { cannotOpen } from './preflight.js'

export interface Ownership {
  release(): Promise<void>
}

/** Throws SPOOL_ERR_OWNED, with the pid, when another has it. */
export async function own(directory: string, mode: number): Promise<Ownership> {
  const file = join(directory, 'owner')
  const handle = await open(file, constants.O_RDWR | constants.O_CREAT, mode).catch(
    (cause: unknown) => {
      throw cannotOpen(file, cause)
    },
  )
  const ownership = await take(handle, file, {})
  // The lock is what counts: a disk too full for the pid must not keep the spool from being read.
  await writePid(handle).catch(() => undefined)
  return ownership
}

async function take(
  handle: FileHandle,
  file: string,
  kind: { shared?: boolean },
): Promise<Ownership> {
  try {
    if (!tryLock(handle.fd, kind)) {
      const text = (await handle.readFile('utf8')).trim()
      const pid = /^\d+$/.test(text) ? Number(text) : null
      throw new SpoolError(
        'SPOOL_ERR_OWNED',
        `the spool is owned by process ${pid ?? '(unknown)'}`,
        { file, pid, advice: 'stop that process, or talk to it over its own interface' },
      )
    }
  } catch (error) {
    await handle.close()
    throw error
  }
  let released = false
  return {
    async release() {
      if (released) return
      released = true
      unlock(handle.fd)
      await handle.close()
    },
  }
}

/**
 * As `own`, for a spool that is only read and whose directory may not be written to: takes the lock where
 * there is something to lock, and makes no file. Throws SPOOL_ERR_OWNED.
 */
export async function ownToRead(directory: string): Promise<Ownership> {
  const file = join(directory, 'owner')
  let handle: FileHandle
  try {
    handle = await open(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      return { release: async () => undefined }
    throw new SpoolError('SPOOL_ERR_OPEN', 'who owns the spool cannot be told', {
      file,
      cause: error,
    })
  }
  return take(handle, file, { shared: true })
}

/** Over the pid of an owner before, which is left there: then there is room for it on a full disk too. */
async function writePid(handle: FileHandle): Promise<void> {
  const text = `${process.pid}\n`
  await handle.write(text, 0)
  await handle.truncate(text.length)
}
