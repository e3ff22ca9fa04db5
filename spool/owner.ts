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

export interface Ownership {
  release(): Promise<void>
}

/** Throws SPOOL_ERR_OWNED, with the pid, when another has it. */
export async function own(directory: string, mode: number): Promise<Ownership> {
  const file = join(directory, 'owner')
  const handle = await open(file, constants.O_RDWR | constants.O_CREAT, mode)
  try {
    if (!tryLock(handle.fd)) {
      const text = (await handle.readFile('utf8')).trim()
      const pid = /^\d+$/.test(text) ? Number(text) : null
      throw new SpoolError(
        'SPOOL_ERR_OWNED',
        `the spool is owned by process ${pid ?? '(unknown)'}`,
        { file, pid, advice: 'stop that process, or talk to it over its own interface' },
      )
    }
    // The lock is what counts: a disk too full for the pid must not keep the spool from being read.
    await writePid(handle).catch(() => undefined)
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

/** Over the pid of an owner before, which is left there: then there is room for it on a full disk too. */
async function writePid(handle: FileHandle): Promise<void> {
  const text = `${process.pid}\n`
  await handle.write(text, 0)
  await handle.truncate(text.length)
}
