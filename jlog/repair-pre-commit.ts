/**
 * Puts a pre-commit buffer right. Whole records that wait in it stay there: the next writer owes them to the segment.
 * A file too short to hold a count, a count beyond the buffer, or bytes that are no records: what walks as whole
 * records from the beginning stays pending, the rest goes to a file beside. Where the count cannot be believed, the
 * records may have been flushed already; reading twice is safe, losing is not.
 */
import { join } from 'node:path'
import { errnoOf, JournalFile, PRE_COMMIT_FILE_ERRORS } from './file.js'
import { PRE_COMMIT_FILE, PRE_COMMIT_HEADER_BYTES } from './format.js'
import { copyAside, freeAsideName } from './repair-aside.js'
import type { RepairReport } from './repair-report.js'
import { walkSegment } from './segment.js'

export async function repairPreCommit(
  dir: string,
  hdrMagic: number,
  options: { readonly dryRun: boolean; readonly lockTimeout?: number | undefined },
): Promise<RepairReport['preCommit']> {
  const path = join(dir, PRE_COMMIT_FILE)
  const file = await JournalFile.open(path, {
    write: !options.dryRun,
    errors: PRE_COMMIT_FILE_ERRORS,
  }).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
  if (file === null) return report('absent', 0)
  try {
    if (!options.dryRun) await file.lock({ timeout: options.lockTimeout ?? 5000 })
    const size = file.size()
    const header = await file.read(0, PRE_COMMIT_HEADER_BYTES)
    const count = header.length === PRE_COMMIT_HEADER_BYTES ? header.readUInt32LE(0) : null
    const buffer = Math.max(0, size - PRE_COMMIT_HEADER_BYTES)
    const to = PRE_COMMIT_HEADER_BYTES + Math.min(count ?? 0, buffer)
    const walk = await walkSegment(file, PRE_COMMIT_HEADER_BYTES, to, hdrMagic)
    const pending = walk.at - PRE_COMMIT_HEADER_BYTES
    if (count === pending) return report(count === 0 ? 'sound' : 'records wait in it', pending)
    let cutFile: string | null = size === 0 ? null : await freeAsideName(dir, PRE_COMMIT_FILE)
    if (!options.dryRun) {
      if (size > 0) cutFile = await copyAside(dir, PRE_COMMIT_FILE)
      const word = Buffer.alloc(PRE_COMMIT_HEADER_BYTES)
      word.writeUInt32LE(pending)
      await file.write(word, 0)
      await file.sync()
    }
    return { ...report(fault(count, buffer, pending), pending), changed: true, cutFile }
  } finally {
    await file.close()
  }
}

function fault(count: number | null, buffer: number, pending: number): string {
  if (count === null) return 'too short to hold a count: set to nothing pending'
  if (count > buffer) {
    return `says ${count} bytes wait in a buffer of ${buffer}: ${pending} of them are whole records`
  }
  return `of ${count} bytes that wait, ${pending} are whole records`
}

function report(found: string, pendingBytes: number): RepairReport['preCommit'] {
  return { file: PRE_COMMIT_FILE, changed: false, found, cutFile: null, pendingBytes }
}
