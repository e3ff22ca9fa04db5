/**
 * What lies in a journal's directory, by name. One listing serves every question about which segments and
 * checkpoints exist, so that a gap of a million missing segments costs nothing.
 */
import { readdir } from 'node:fs/promises'
import { JlogError } from './errors.js'
import { parseCheckpointFile, parseSegmentFile } from './format.js'

export interface JournalListing {
  /** Segment numbers, ascending. */
  readonly segments: readonly number[]
  /** Names of checkpoint files, sorted. */
  readonly checkpoints: readonly string[]
  /** Names of all files, as the directory gives them. */
  readonly names: readonly string[]
}

/** @throws JlogError JLOG_ERR_OPEN (not there), JLOG_ERR_NOTDIR */
export async function listJournal(dir: string): Promise<JournalListing> {
  const names = await readdir(dir).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOTDIR') {
      throw new JlogError('JLOG_ERR_NOTDIR', 'a journal is a directory, and this is none', {
        file: dir,
      })
    }
    throw new JlogError('JLOG_ERR_OPEN', 'cannot list the journal', {
      file: dir,
      cause,
      ...(cause.code === 'ENOENT' ? { advice: 'make it with `bobbin jlog create`' } : {}),
    })
  })
  const segments: number[] = []
  const checkpoints: string[] = []
  for (const name of names) {
    const log = parseSegmentFile(name)
    if (log !== null) segments.push(log)
    else if (parseCheckpointFile(name) !== null) checkpoints.push(name)
  }
  return { segments: segments.sort((a, b) => a - b), checkpoints: checkpoints.sort(), names }
}

/** First of `segments` (ascending) that is at or after `log`, or undefined. */
export function firstSegmentFrom(segments: readonly number[], log: number): number | undefined {
  let low = 0
  let high = segments.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (segments[middle]! < log) low = middle + 1
    else high = middle
  }
  return segments[low]
}
