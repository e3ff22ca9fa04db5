/** A record as a line of JSON, the same wherever one is printed: payloads are any bytes, so they go as base64. */
import { formatLogId } from './log-id.js'
import type { JournalRecord } from './record-batch.js'

export interface RecordJson {
  /** Log id, `%08x:%08x`. */
  readonly id: string
  /** Unix seconds. */
  readonly sec: number
  /** Microseconds of the second. */
  readonly usec: number
  /** Bytes of the payload. */
  readonly size: number
  /** The payload in base64. */
  readonly data: string
}

/** One line, without its end. */
export function recordToJson({ id, sec, usec, payload }: JournalRecord): string {
  const line: RecordJson = {
    id: formatLogId(id),
    sec,
    usec,
    size: payload.length,
    data: payload.toString('base64'),
  }
  return JSON.stringify(line)
}
