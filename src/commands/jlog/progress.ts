/** Progress of long work: one line on a terminal, rewritten a few times a second; nothing anywhere else. */
import type { RepairProgress } from '../../../jlog/index.js'

const EVERY_MS = 200

/** Runs work that looks through a journal, and shows how far it is. */
export async function withProgress<T>(
  work: (onProgress: (progress: RepairProgress) => void) => Promise<T>,
): Promise<T> {
  if (!process.stderr.isTTY) return work(() => {})
  let next = 0
  const show = ({ segment, segments, bytes }: RepairProgress) => {
    if (Date.now() < next) return
    next = Date.now() + EVERY_MS
    const mebibytes = (bytes / 1024 / 1024).toFixed(0)
    process.stderr.write(`\r\x1b[Ksegment ${segment + 1} of ${segments}, ${mebibytes} MiB`)
  }
  try {
    return await work(show)
  } finally {
    if (next > 0) process.stderr.write('\r\x1b[K')
  }
}
