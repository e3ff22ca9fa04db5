/**
 * Putting files of a journal out of the way, or copies of them, under names that libjlog and our own readers ignore.
 * Nothing is ever replaced by it. A crash leaves a file under the old name, the new one, or both, and doing it again
 * finds what was done.
 */
import { access, link, rename, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile, syncDirectory } from './file.js'

const PIECE_BYTES = 1024 * 1024
const COPY_MODE = 0o640

/** libjlog takes every name that begins with `cp.` for a checkpoint, so an old one is put behind another beginning. */
function asideName(name: string, n: number): string {
  return name.startsWith('cp.') ? `torn-${name}-${n}` : `${name}.torn-${n}`
}

/** The first free name for `name` in the directory. */
export async function freeAsideName(dir: string, name: string): Promise<string> {
  for (let n = 0; ; n++) {
    const candidate = asideName(name, n)
    if (!(await exists(join(dir, candidate)))) return candidate
  }
}

/**
 * Moves `name` to a free name made from `as`. The directory is not synced.
 * @returns the new name, or null when `name` was not there
 */
export async function moveAside(dir: string, name: string, as = name): Promise<string | null> {
  const from = join(dir, name)
  for (let n = 0; ; n++) {
    const target = asideName(as, n)
    try {
      await link(from, join(dir, target))
    } catch (cause) {
      const code = errnoOf(cause)
      if (code === 'ENOENT') return null
      if (code !== 'EEXIST') {
        throw new JlogError('JLOG_ERR_FILE_WRITE', 'cannot move the file aside', {
          file: from,
          cause,
        })
      }
      // Killed between link and unlink, the last time: it is there already.
      if (!(await sameFile(from, join(dir, target)))) continue
    }
    await unlink(from)
    return target
  }
}

/**
 * Copies `name` to a free name, durably, before it is changed in place. A copy that an interrupted repair made
 * already is used again.
 * @returns the copy's name
 */
export async function copyAside(dir: string, name: string): Promise<string> {
  const source = await JournalFile.open(join(dir, name))
  try {
    for (let n = 0; ; n++) {
      const target = asideName(name, n)
      const there = await openIfThere(join(dir, target))
      if (there !== null) {
        const same = await sameBytes(source, there).finally(() => there.close())
        if (same) return target
        continue
      }
      await replaceFile(dir, target, (copy) => copyAll(source, copy))
      return target
    }
  } finally {
    await source.close()
  }
}

/**
 * Writes a file under a passing name and gives it its own in one step, durably: a crash leaves the old file or the
 * new one. The passing name is always the same, so that a crash leaves at most one.
 */
export async function replaceFile(
  dir: string,
  name: string,
  write: (file: JournalFile) => Promise<void>,
  mode = COPY_MODE,
): Promise<void> {
  const passing = join(dir, `repair-${name}.new`)
  await removeIfThere(passing)
  const file = await JournalFile.open(passing, { create: mode, exclusive: true })
  try {
    await write(file)
    await file.sync()
    await rename(passing, join(dir, name))
  } finally {
    await file.close()
  }
  await syncDirectory(dir)
}

async function copyAll(source: JournalFile, target: JournalFile): Promise<void> {
  for (let at = 0; ; ) {
    const piece = await source.read(at, PIECE_BYTES)
    if (piece.length === 0) return
    await target.write(piece, at)
    at += piece.length
  }
}

async function sameBytes(a: JournalFile, b: JournalFile): Promise<boolean> {
  if (a.size() !== b.size()) return false
  for (let at = 0; ; ) {
    const [one, other] = [await a.read(at, PIECE_BYTES), await b.read(at, PIECE_BYTES)]
    if (!one.equals(other)) return false
    if (one.length === 0) return true
    at += one.length
  }
}

export async function openIfThere(path: string): Promise<JournalFile | null> {
  return JournalFile.open(path).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

export async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return
    throw new JlogError('JLOG_ERR_FILE_WRITE', 'cannot remove the file', { file: path, cause })
  })
}

async function sameFile(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([stat(a), stat(b)])
  return one.ino === other.ino && one.dev === other.dev
}
