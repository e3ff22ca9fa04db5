/** Which database a row could be of, told by its key and value alone: for rows whose database is not known. */
import { queueRowOfLane } from './check-indexes.js'
import {
  CHUNK_BYTES,
  CHUNK_KEY_BYTES,
  CLAIM_ENDS,
  claimEndKey,
  claimKey,
  decodeBodyRef,
  decodeKept,
  isImportKey,
  isKeptEndKey,
  isKeptKey,
  QUEUE_KEY_BYTES,
  splitOutboxKey,
} from './layout.js'
import { ID_BYTES } from './message-id.js'
import { unpackRow } from './outbox-store.js'
import type { LeafRow } from './pages.js'
import type { DatabaseName } from './rows.js'

/** The database whose rows all of these could be. */
export function databaseOf(rows: readonly LeafRow[]): DatabaseName | undefined {
  if (rows.length === 0 || rows.some(({ isTree }) => isTree)) return undefined
  return SHAPES.find(([, fits]) => rows.every(({ key, value }) => fits(key, value)))?.[0]
}

const CLAIM_BYTES = claimKey(Buffer.alloc(ID_BYTES)).length
const CLAIM_END_BYTES = claimEndKey(0, Buffer.alloc(ID_BYTES)).length
const STATE_NAME = /^(counters|format|journal:.*|gaps:.*)$/

/** The strictest first. A value that is lost fits every shape its key fits. */
const SHAPES: [DatabaseName, (key: Buffer, value: Buffer | null) => boolean][] = [
  ['state', (key) => STATE_NAME.test(key.toString('latin1'))],
  ['imports', (key) => isImportKey(key)],
  ['outbox', (key, value) => isOutboxKey(key) && (value === null || isOutboxRow(key, value))],
  ['messages', (key, value) => key.length === ID_BYTES && (value === null || isMeta(key, value))],
  ['refs', (key, value) => key.length === ID_BYTES && value?.length === 4],
  ['staged', (key, value) => key.length === ID_BYTES && value?.length === 0],
  ['chunks', (key, value) => key.length === CHUNK_KEY_BYTES && (value === null || isChunk(value))],
  ['expiry', (key, value) => key.length === QUEUE_KEY_BYTES && value?.length === 0],
  ['queue', (key, value) => key.length === QUEUE_KEY_BYTES && value?.includes(0) === true],
  ['lanelog', (key) => key.length === 8],
  ['leases', (key) => isClaimKey(key)],
  ['idempotency', (key, value) => isKept(key, value)],
  ['lanes', (key, value) => value !== null && queueRowOfLane(key, value) !== undefined],
]

function isChunk(value: Buffer): boolean {
  return value.length > 0 && value.length <= CHUNK_BYTES
}

function isMeta(key: Buffer, value: Buffer): boolean {
  try {
    decodeBodyRef(key, value)
    return true
  } catch {
    return false
  }
}

function isOutboxKey(key: Buffer): boolean {
  return (
    key.length >= 10 && key[key.length - 9] === 0 && /^[\x21-\x7e]/.test(key.toString('latin1'))
  )
}

function isOutboxRow(key: Buffer, value: Buffer): boolean {
  try {
    return unpackRow(splitOutboxKey(key).firstSeq, value).length > 0
  } catch {
    return false
  }
}

function isKept(key: Buffer, value: Buffer | null): boolean {
  if (isKeptEndKey(key)) return value?.length === 0
  return isKeptKey(key) && (value === null || decodeKept(value) !== undefined)
}

function isClaimKey(key: Buffer): boolean {
  return (
    (key.length === CLAIM_BYTES && key.compare(CLAIM_ENDS.start) < 0) ||
    (key.length === CLAIM_END_BYTES && key[0] === CLAIM_ENDS.start[0])
  )
}
