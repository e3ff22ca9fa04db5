/**
 * A record's address in a journal: segment number (`log`) and ordinal in the segment (`marker`, from 1).
 * Marker 0 stands before the first record of its segment: where a checkpoint starts, never a record.
 */
import { JlogError } from './errors.js'

export interface LogId {
  readonly log: number
  readonly marker: number
}

/** Compares in journal order: negative when `a` comes first, 0 when equal. */
export function compareLogIds(a: LogId, b: LogId): number {
  return a.log - b.log || a.marker - b.marker
}

/** `%08x:%08x`, as libjlog prints it. */
export function formatLogId(id: LogId): string {
  return `${hex8(id.log)}:${hex8(id.marker)}`
}

/**
 * Reads the printed form; each side 1 to 8 hex digits.
 * @throws JlogError JLOG_ERR_ILLEGAL_LOGID
 */
export function parseLogId(text: string): LogId {
  const match = /^([0-9a-f]{1,8}):([0-9a-f]{1,8})$/i.exec(text)
  if (!match) {
    throw new JlogError('JLOG_ERR_ILLEGAL_LOGID', `not a log id: ${JSON.stringify(text)}`, {
      advice: 'write it as two hexadecimal numbers, as in 00000000:00000001',
    })
  }
  return { log: Number.parseInt(match[1]!, 16), marker: Number.parseInt(match[2]!, 16) }
}

export function hex8(n: number): string {
  return n.toString(16).padStart(8, '0')
}
