/**
 * Checks what follows from the messages: claims and the messages they hold, both ways; the index of
 * retentions; and the lanes, which may be behind the queue by what their log has.
 */
import type { Findings } from './check-report.js'
import type { Pace } from './jobs.js'
import { addLaneLog } from './lane-changes.js'
import {
  CLAIM_ENDS,
  type ClaimRow,
  claimEndKey,
  claimKey,
  decodeClaim,
  decodeExpiry,
  laneRow,
  type MessageRecord,
  ownExpiry,
  QUEUE_KEY_BYTES,
  queueKey,
  splitClaimEnd,
  splitLaneLogKey,
  splitQueueKey,
} from './layout.js'
import { formatId, ID_BYTES } from './message-id.js'
import type { Snapshot } from './snapshot.js'

/** What a message's own record says there must be. */
export function checkMessageIndexes(
  snapshot: Snapshot,
  id: Buffer,
  record: MessageRecord,
  findings: Findings,
): void {
  const end = ownExpiry(record)
  if (end !== null && snapshot.get('expiry', queueKey(end, id)) === undefined) {
    findings.add({
      problem: 'expiry-wrong',
      what: formatId(id),
      db: 'expiry',
      key: queueKey(end, id),
    })
  }
  if (record.lease === null) return
  const claim = readClaim(snapshot, record.lease.token)
  if (claim?.ids.some((held) => held.equals(id))) return
  const what = `message ${formatId(id)}: its claim is not there`
  findings.add({ problem: 'lease-wrong', what, db: 'messages', key: id })
}

/** Claims without an end, and ends of no claim. A claim may outlive its messages: it ends by itself. */
export async function checkLeases(
  snapshot: Snapshot,
  findings: Findings,
  pace: Pace,
): Promise<void> {
  for (const key of snapshot.keys('leases')) {
    await pace.step()
    const problem = problemOf(snapshot, key)
    if (problem === null) continue
    findings.add({ problem: 'lease-wrong', what: problem, db: 'leases', key })
  }
}

function problemOf(snapshot: Snapshot, key: Buffer): string | null {
  const name = key.toString('hex')
  if (key.compare(CLAIM_ENDS.start) >= 0 && key.length === CLAIM_END_BYTES) {
    const { token, until } = splitClaimEnd(key)
    const claim = readClaim(snapshot, token)
    return claim?.until === until ? null : `the end ${name} of no claim`
  }
  const token = key.subarray(1)
  if (key.length !== CLAIM_BYTES || !claimKey(token).equals(key)) return `the row ${name} is none`
  const claim = readClaim(snapshot, token)
  if (claim === undefined) return `the claim ${name} cannot be read`
  if (snapshot.get('leases', claimEndKey(claim.until, token)) === undefined) {
    return `the claim ${formatId(token)} has no end`
  }
  return null
}

const CLAIM_BYTES = claimKey(Buffer.alloc(ID_BYTES)).length
const CLAIM_END_BYTES = claimEndKey(0, Buffer.alloc(ID_BYTES)).length

function readClaim(snapshot: Snapshot, token: Buffer): ClaimRow | undefined {
  const row = snapshot.get('leases', claimKey(token))
  return row === undefined ? undefined : parseClaim(row)
}

/** undefined for what is no claim, or one whose fields are not what they must be. */
export function parseClaim(row: Buffer): ClaimRow | undefined {
  try {
    const claim = decodeClaim(row)
    const { until, owner, ids } = claim
    const isSound =
      Number.isSafeInteger(until) &&
      until >= 0 &&
      until < 2 ** 48 &&
      typeof owner === 'string' &&
      ids.every(({ length }) => length === ID_BYTES)
    return isSound ? claim : undefined
  } catch {
    return undefined
  }
}

export async function checkExpiry(
  snapshot: Snapshot,
  findings: Findings,
  pace: Pace,
): Promise<void> {
  for (const key of snapshot.keys('expiry')) {
    await pace.step()
    if (key.length === QUEUE_KEY_BYTES) {
      const { due, id } = splitQueueKey(key)
      const value = snapshot.get('messages', Buffer.from(id))
      if (value !== undefined && decodeExpiry(value) === due) continue
    }
    findings.add({ problem: 'expiry-wrong', what: key.toString('hex'), db: 'expiry', key })
  }
}

/** The lanes and their log against the queue, both ways. */
export async function checkLanes(
  snapshot: Snapshot,
  findings: Findings,
  pace: Pace,
): Promise<void> {
  const { changes, wrong } = readLaneLog(snapshot)
  for (const key of wrong) {
    const what = `lanelog: ${key.toString('hex')}`
    findings.add({ problem: 'row-malformed', what, db: 'lanelog', key })
  }
  for (const { key, value } of snapshot.range('queue')) {
    await pace.step()
    if (key.length !== QUEUE_KEY_BYTES) continue
    const change = changes.get(latin1(key, value))
    if (change === true) continue
    if (change === undefined && hasLanes(snapshot, key, value)) continue
    findings.add({
      problem: 'lane-wrong',
      what: `queue row ${key.toString('hex')}`,
      db: 'queue',
      key,
    })
  }
  for (const { key, value } of snapshot.range('lanes')) {
    await pace.step()
    const row = queueRowOfLane(key, value)
    if (row !== undefined) {
      if (changes.get(latin1(row.key, row.value)) === false) continue
      if (snapshot.get('queue', row.key)?.equals(row.value)) continue
    }
    findings.add({ problem: 'lane-wrong', what: `lane ${key.toString('hex')}`, db: 'lanes', key })
  }
}

/** What the log comes to, and the keys of rows that are none of it or out of turn. */
export function readLaneLog(snapshot: Snapshot): {
  changes: Map<string, boolean>
  wrong: Buffer[]
} {
  const changes = new Map<string, boolean>()
  const wrong: Buffer[] = []
  let next: number | undefined
  for (const { key, value } of snapshot.range('lanelog')) {
    const seq = key.length === 8 ? splitLaneLogKey(key) : undefined
    try {
      if (seq === undefined || (next !== undefined && seq !== next)) wrong.push(key)
      else addLaneLog(changes, value)
    } catch {
      wrong.push(key)
    }
    if (seq !== undefined) next = seq + 1
  }
  return { changes, wrong }
}

/** The rows of a queue row's lanes. */
export function lanesOf(key: Buffer, value: Buffer): { key: Buffer; value: Buffer }[] {
  const middle = value.indexOf(0)
  const binding = value.toString('utf8', 0, middle)
  const domain = value.toString('utf8', middle + 1)
  return [laneRow('domain', key, binding, domain), laneRow('binding', key, binding, domain)]
}

function hasLanes(snapshot: Snapshot, key: Buffer, value: Buffer): boolean {
  return lanesOf(key, value).every((row) => snapshot.get('lanes', row.key)?.equals(row.value))
}

/** The row of `queue` that a lane row stands for; undefined for what is no lane row. */
export function queueRowOfLane(
  key: Buffer,
  value: Buffer,
): { key: Buffer; value: Buffer } | undefined {
  const end = key.length - QUEUE_KEY_BYTES
  if (end < 2 || key[end - 1] !== 0) return undefined
  const queue = key.subarray(end)
  if (key[0] === 0) {
    const binding = key.subarray(1, end - 1)
    return { key: queue, value: Buffer.concat([binding, ZERO, value]) }
  }
  const middle = key.indexOf(0, 1)
  if (key[0] !== 1 || middle < 0 || middle >= end - 1) return undefined
  const domain = key.subarray(1, middle)
  const binding = key.subarray(middle + 1, end - 1)
  return { key: queue, value: Buffer.concat([binding, ZERO, domain]) }
}

const ZERO = Buffer.alloc(1)

function latin1(key: Buffer, value: Buffer): string {
  return key.toString('latin1') + value.toString('latin1')
}
