/**
 * Paths that a caller names: below a directory that the operator has configured, or refused. What counts is where a path leads to
 * in the end, so neither `..` nor a symbolic link gets out.
 */
import { lstat, realpath } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { HttpError } from './problem.js'

/** The longest path that Linux takes. */
const MAX_PATH_BYTES = 4095

/**
 * Where `path` really is: without symbolic links, so that it stays what was checked as long as nobody who may write below
 * `root` puts one there. It may be relative to `root` or absolute, and need not exist yet; what is above it must.
 * @param root the configured directory; null: none is configured
 * @param setting what to call the root in an error
 * @throws HttpError 422 NO_ROOT, 400 INVALID_PATH, 422 PATH_OUTSIDE_ROOT, 422 PATH_NOT_FOUND (a directory above it is missing)
 */
export async function confinedPath(
  root: string | null,
  path: string,
  setting: string,
): Promise<string> {
  if (root === null || root === '') {
    throw new HttpError(422, 'NO_ROOT', `no ${setting} is configured`)
  }
  if (path === '' || path.includes('\0') || Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new HttpError(400, 'INVALID_PATH', `not a path of 1 to ${MAX_PATH_BYTES} bytes`)
  }
  const within = await realpath(root).catch(() => {
    throw new HttpError(
      422,
      'NO_ROOT',
      `${setting}: there is no such directory; make it, as the user that the service runs as`,
    )
  })
  const asked = resolve(root, path)
  // Said before anything is looked up: an answer must not tell what there is elsewhere.
  if (!isBelow(resolve(root), asked) && !isBelow(within, asked)) throw outside(setting)
  const real = await realOf(asked)
  if (real === null) {
    throw new HttpError(
      422,
      'PATH_NOT_FOUND',
      `there is no way to ${basename(asked)}: a directory is missing, or a symbolic link leads nowhere`,
    )
  }
  if (!isBelow(within, real)) throw outside(setting)
  return real
}

/** Null when the directory it is in is missing, or it is a symbolic link to nothing: what is made there would lie elsewhere. */
async function realOf(path: string): Promise<string | null> {
  try {
    return await realpath(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return null
  }
  const isThere = await lstat(path).then(
    () => true,
    () => false,
  )
  if (isThere) return null
  try {
    return join(await realpath(dirname(path)), basename(path))
  } catch {
    return null
  }
}

function isBelow(root: string, path: string): boolean {
  const way = relative(root, path)
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}

function outside(setting: string): HttpError {
  return new HttpError(422, 'PATH_OUTSIDE_ROOT', `the path leads out of ${setting}`)
}
