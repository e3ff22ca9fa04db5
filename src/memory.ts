/** How much memory the process holds, and how much it may. */
import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import { getHeapStatistics } from 'node:v8'

const ANONYMOUS = /^RssAnon:\s+(\d+) kB$/m

/**
 * Bytes that nobody else can have: of the resident set not the pages of the spool's file, which are the page cache's. Where the
 * system does not tell them apart, what Node.js knows of.
 */
export function heldBytes(): number {
  try {
    const found = ANONYMOUS.exec(readFileSync('/proc/self/status', 'latin1'))
    if (found !== null) return Number(found[1]) * 1024
  } catch {
    // Not on Linux.
  }
  const { heapTotal, external } = process.memoryUsage()
  return heapTotal + external
}

/** Bytes that the machine has, or as much of them as the control group allows. */
export function allowedBytes(): number {
  const limit = process.constrainedMemory()
  const machine = totalmem()
  return limit > 0 && limit < machine ? limit : machine
}

/** Share of the largest heap that is used, 0 to 1: at 1 Node.js ends the process. */
export function heapShare(): number {
  const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics()
  return used / limit
}
