/** Checks the answers kept under idempotency keys: each can be read, and has its end, and each end its answer. */

import type { Findings } from './check-report.js'
import type { Pace } from './jobs.js'
import { decodeKept, isKeptEndKey, isKeptKey, keptEndKey, splitKeptEnd } from './layout.js'
import type { Snapshot } from './snapshot.js'

export async function checkIdempotency(
  snapshot: Snapshot,
  findings: Findings,
  pace: Pace,
): Promise<void> {
  for (const { key, value } of snapshot.range('idempotency')) {
    await pace.step()
    const problem = problemOf(snapshot, key, value)
    if (problem === null) continue
    const what = `${problem}: ${key.toString('hex')}`
    findings.add({ problem: 'idempotency-wrong', what, db: 'idempotency', key })
  }
}

function problemOf(snapshot: Snapshot, key: Buffer, value: Buffer): string | null {
  if (isKeptEndKey(key)) {
    if (value.length > 0) return 'an end that is none'
    const { until, key: kept } = splitKeptEnd(key)
    const row = snapshot.get('idempotency', kept)
    return row !== undefined && decodeKept(row)?.until === until ? null : 'the end of no answer'
  }
  if (!isKeptKey(key)) return 'a row that is none'
  const answer = decodeKept(value)
  if (answer === undefined) return 'an answer that cannot be read'
  const hasEnd = snapshot.get('idempotency', keptEndKey(answer.until, key)) !== undefined
  return hasEnd ? null : 'an answer without its end'
}
