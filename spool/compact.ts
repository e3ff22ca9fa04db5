/**
 * Compaction: a copy of the store without free pages takes its place, whole or not at all. It is made under another
 * name and synced before it is renamed; killed anywhere, it leaves the store as it was, or compacted.
 */
import { chmodSync, closeSync, openSync, renameSync } from 'node:fs'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Committer } from './committer.js'
import { syncPath } from './durable.js'
import { SpoolError } from './errors.js'
import { type LongOptions, throwIfAborted } from './jobs.js'
import { own } from './owner.js'
import { Store } from './store.js'

export interface CompactReport {
  /** Bytes of the file. */
  readonly before: number
  readonly after: number
}

/** So long a compaction waits for those who read at its end. */
const READERS_MS = 5000

/**
 * Of a spool at rest. Throws SPOOL_ERR_OWNED with the pid of a service that has it, SPOOL_ERR_OPEN; SPOOL_ERR_FULL and
 * SPOOL_ERR_WRITE for the disk.
 */
export async function compactSpool(path: string, mode = 0o640): Promise<CompactReport> {
  await Store.mustExist(path)
  const owner = await own(path, mode)
  try {
    const store = await Store.open({ path, readOnly: false, mode, mapSize: undefined })
    try {
      return await replace(store, {})
    } finally {
      await store.close()
    }
  } finally {
    await owner.release()
  }
}

/**
 * Of a spool in use: what is to be written waits meanwhile, reads go on. Throws SPOOL_ERR_BUSY when somebody is still
 * reading a content at its end, SPOOL_ERR_ABORTED; SPOOL_ERR_FULL and SPOOL_ERR_WRITE for the disk.
 */
export function compactStore(
  store: Store,
  committer: Committer,
  options: LongOptions = {},
): Promise<CompactReport> {
  return committer.alone(async () => {
    options.onProgress?.({ phase: 'copying', done: 0, total: null })
    return replace(store, options, (error) => committer.refuse(error))
  })
}

/** While nothing is written. `refuse` is told when it is not known which of the two files a power cut would leave. */
async function replace(
  store: Store,
  { signal }: LongOptions,
  refuse: (error: SpoolError) => void = () => undefined,
): Promise<CompactReport> {
  const { path } = store
  const making = join(path, '.compact.partial')
  const file = join(path, 'data.mdb')
  try {
    await rm(making, { recursive: true, force: true })
    await mkdir(making, { mode: 0o700 })
    const { size: before, mode } = await stat(file)
    await store.copyTo(making)
    const copy = join(making, 'data.mdb')
    chmodSync(copy, mode & 0o777)
    const after = await syncPath(copy)
    // Whoever still reads the old file keeps the old lock with it.
    const lock = join(making, 'lock.mdb')
    closeSync(openSync(lock, 'w'))
    chmodSync(lock, mode & 0o777)
    if (!(await store.unread(READERS_MS))) {
      throw new SpoolError('SPOOL_ERR_BUSY', 'contents are being read', {
        file,
        advice: 'try again; nothing was changed',
      })
    }
    throwIfAborted(signal)
    // From here on in one go: no reader may come in between.
    renameSync(copy, file)
    renameSync(lock, join(path, 'lock.mdb'))
    store.remap()
    await syncPath(path).catch((cause: unknown) => {
      const error = failure(cause, path)
      refuse(error)
      throw error
    })
    return { before, after }
  } catch (cause) {
    throw cause instanceof SpoolError ? cause : failure(cause, file)
  } finally {
    await rm(making, { recursive: true, force: true })
  }
}

function failure(cause: unknown, file: string): SpoolError {
  const { code = '' } = cause as NodeJS.ErrnoException
  const kind = code === 'ENOSPC' || code === 'EDQUOT' ? 'SPOOL_ERR_FULL' : 'SPOOL_ERR_WRITE'
  return new SpoolError(kind, 'the spool was not compacted', {
    file,
    cause,
    advice: 'it needs room for a copy of what is in use',
  })
}
