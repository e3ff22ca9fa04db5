/**
 * A look at a store's file before LMDB gets it: what is no store, or one whose meta pages are damaged, would end the
 * process without a word, and so would a file cut short. Reads a few pages, whatever the size. Promises no more than that
 * what it refuses would have failed; damage further in is for `check` to find.
 */
import { access, constants, type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { SpoolError } from './errors.js'
import { FORMAT_UNPACKED, FORMAT_VERSION } from './layout.js'
import { NONE, PageFile } from './pages.js'

const RIGHT_USER = 'run it as the user that the service runs as'

/** Throws SPOOL_ERR_OPEN where there is no spool, or this user may not look. */
export async function mustExist(path: string): Promise<void> {
  const file = join(path, 'data.mdb')
  let handle: FileHandle | undefined
  try {
    handle = await open(file, 'r')
    if ((await handle.stat()).isFile()) return
  } catch (cause) {
    throw cannotOpen(path, cause)
  } finally {
    await handle?.close()
  }
  throw new SpoolError('SPOOL_ERR_OPEN', 'there is no spool', { file: path, advice: RIGHT_PLACE })
}

const RIGHT_PLACE = 'is this the right directory?'

/** What opening a file of the spool has met, with what helps. */
export function cannotOpen(file: string, cause: unknown): SpoolError {
  const { code = '' } = cause as NodeJS.ErrnoException
  if (code === 'ENOENT' || code === 'ENOTDIR')
    return new SpoolError('SPOOL_ERR_OPEN', 'there is no spool', {
      file,
      cause,
      advice: RIGHT_PLACE,
    })
  const isRefused = code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
  return new SpoolError('SPOOL_ERR_OPEN', 'the spool cannot be opened', {
    file,
    cause,
    ...(isRefused ? { advice: RIGHT_USER } : {}),
  })
}

/**
 * Throws SPOOL_ERR_OPEN when this user may not open the files, SPOOL_ERR_CORRUPT when LMDB could not. A file that was made and never
 * written is a new spool to its owner, and none to a reader.
 */
export async function assertOpens(path: string, readOnly: boolean): Promise<void> {
  const file = join(path, 'data.mdb')
  let pages: PageFile
  try {
    await access(file, readOnly ? constants.R_OK : constants.R_OK | constants.W_OK)
    pages = await PageFile.open(file)
  } catch (cause) {
    throw cannotOpen(path, cause)
  }
  try {
    if (pages.isNew && readOnly) {
      throw new SpoolError('SPOOL_ERR_OPEN', 'there is no spool: its file is empty', {
        file,
        advice: RIGHT_PLACE,
      })
    }
    if (pages.isNew) return
    const [newest] = pages.metas
    // LMDB looks at both, and gives up over either.
    if (pages.metas.length < 2 || newest === undefined)
      throw damaged(file, 'a meta page is damaged')
    for (const { root } of [newest.main, newest.free]) {
      if (root === NONE || (await pages.page(root)) !== undefined) continue
      if (readOnly && (await hasMoved(file, newest.transaction))) return
      throw damaged(file, `page ${root} is damaged, or the file was cut short`)
    }
  } finally {
    await pages.close()
  }
}

/** Beside a writer a page may be another's by the time it is read. */
async function hasMoved(file: string, transaction: number): Promise<boolean> {
  const now = await PageFile.open(file)
  await now.close()
  return now.metas[0]?.transaction !== transaction
}

function damaged(file: string, what: string): SpoolError {
  return new SpoolError('SPOOL_ERR_CORRUPT', `this is no store, or a damaged one: ${what}`, {
    file,
    advice:
      'see what bobbin spool check says; bobbin spool repair salvages it, or restore a backup',
  })
}

/** Throws SPOOL_ERR_OPEN for a layout that another version wrote. */
export function otherFormat(path: string, format: unknown): SpoolError {
  return new SpoolError('SPOOL_ERR_OPEN', `the spool has format ${String(format)}`, {
    file: path,
    advice: `this version reads formats ${FORMAT_UNPACKED} and ${FORMAT_VERSION}; use the version that wrote it`,
  })
}
