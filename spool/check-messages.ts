/** Checks the messages against the index, both ways, and gathers which bodies they have. */
import type { BodyUsers } from './body-users.js'
import { checkMessageIndexes } from './check-indexes.js'
import type { Findings } from './check-report.js'
import type { Pace } from './jobs.js'
import {
  type BodyRef,
  decodeBodyRef,
  decodeMeta,
  isDropped,
  type MessageRecord,
  QUEUE_KEY_BYTES,
  queueRow,
  splitQueueKey,
} from './layout.js'
import { formatId, ID_BYTES } from './message-id.js'
import type { Snapshot } from './snapshot.js'

/** Each message against its row in the index. Returns how many there are, and of which kind. */
export async function checkMessages(
  snapshot: Snapshot,
  users: BodyUsers,
  findings: Findings,
  pace: Pace,
): Promise<{ messages: number; scheduled: number; deferred: number; leased: number }> {
  let messages = 0
  let scheduled = 0
  let deferred = 0
  let leased = 0
  for (const { key, value } of snapshot.range('messages')) {
    await pace.step()
    messages++
    if (key.length !== ID_BYTES) {
      findings.add({
        problem: 'row-malformed',
        what: `messages: ${key.toString('hex')}`,
        db: 'messages',
        key,
      })
      continue
    }
    const ref = bodyRefOf(key, value)
    if (ref !== undefined) users.add(ref.body, key, digestOf(ref))
    const record = readMeta(key, value)
    if (record === undefined) {
      findings.add({ problem: 'meta-undecodable', what: formatId(key), db: 'messages', key })
      continue
    }
    if (record.nextAttempt !== null) scheduled++
    if (record.state === 'deferred') deferred++
    else if (record.state === 'leased') leased++
    checkMessageIndexes(snapshot, key, record, findings)
    const row = queueRow(key, record)
    const stored = snapshot.get('queue', row.key)
    if (stored?.equals(row.value)) continue
    const problem = stored === undefined ? 'message-without-queue' : 'queue-wrong'
    findings.add({ problem, what: formatId(key), db: 'messages', key })
  }
  return { messages, scheduled, deferred, leased }
}

/** A further pass, for bodies alone. */
export async function gatherUsers(snapshot: Snapshot, users: BodyUsers, pace: Pace): Promise<void> {
  for (const { key, value } of snapshot.range('messages')) {
    await pace.step()
    const ref = key.length === ID_BYTES ? bodyRefOf(key, value) : undefined
    if (ref !== undefined) users.add(ref.body, key, digestOf(ref))
  }
}

export async function checkQueue(
  snapshot: Snapshot,
  findings: Findings,
  pace: Pace,
): Promise<void> {
  for (const key of snapshot.keys('queue')) {
    await pace.step()
    if (key.length !== QUEUE_KEY_BYTES) {
      findings.add({
        problem: 'row-malformed',
        what: `queue: ${key.toString('hex')}`,
        db: 'queue',
        key,
      })
      continue
    }
    const id = Buffer.from(splitQueueKey(key).id)
    const value = snapshot.get('messages', id)
    const record = value === undefined ? undefined : readMeta(id, value)
    if (record !== undefined && queueRow(id, record).key.equals(key)) continue
    findings.add({ problem: 'queue-without-message', what: formatId(id), db: 'queue', key })
  }
}

/** The body that a meta record names; undefined when it has none, or not even that can be read. */
export function bodyRefOf(id: Buffer, value: Buffer): BodyRef | undefined {
  try {
    const ref = decodeBodyRef(id, value)
    return isDropped(ref) ? undefined : ref
  } catch {
    return undefined
  }
}

/** undefined for what is no meta record, or one whose fields are not what they must be. */
export function readMeta(id: Buffer, value: Buffer): MessageRecord | undefined {
  let record: MessageRecord
  try {
    record = decodeMeta(id, value)
  } catch {
    return undefined
  }
  const { mailfrom, rcptto, created, nextAttempt, retries, version, binding, conn, mess } = record
  const isSound =
    [mailfrom, rcptto, record.batchId, record.connectionId, record.protocol].every(isText) &&
    [record.bindingGroup, binding, record.peer].every(isText) &&
    [created, retries, version].every(isNumber) &&
    (nextAttempt === null ||
      (isNumber(nextAttempt) && nextAttempt >= 0 && nextAttempt < 2 ** 48)) &&
    [conn, mess].every((pairs) => Array.isArray(pairs) && pairs.every(isText))
  return isSound ? record : undefined
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}

function isNumber(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(value)
}

/** Tells bodies of different size or content apart, nearly always. */
function digestOf({ size, sha256 }: BodyRef): number {
  let digest = size ^ Math.imul(Math.floor(size / 2 ** 32), 0x9e3779b1)
  for (let at = 0; at < sha256.length; at += 4) {
    digest = Math.imul(digest ^ sha256.readUInt32BE(at), 0x01000193)
  }
  return digest >>> 0
}
