/**
 * Lists messages page by page: by domain, binding or due time over the queue index, in order of due
 * time; else in order of creation. The index has one row a message, in due order, so that storing writes
 * to its end; binding and domain are filtered by. A page looks at a bounded number of rows: a filter that
 * matches little gives short pages rather than a long wait.
 */
import { invalid } from './errors.js'
import { decodeMeta, type MessageRecord, queueKey, splitQueueKey } from './layout.js'
import { MESSAGE_STATES, type MessageQuery } from './message.js'
import { formatId, ID_BYTES } from './message-id.js'
import type { Store } from './store.js'
import { isCount, time } from './validate.js'

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 1000
/** Rows looked at for a page. */
const MAX_STEPS = 20_000

const FIRST_ID = Buffer.alloc(ID_BYTES)
const FIRST = queueKey(0, FIRST_ID)
const AFTER_ALL = Buffer.alloc(64, 0xff)

type OnUnreadable = (id: string, error: unknown) => void

export interface Listed {
  found: { id: Buffer; record: MessageRecord }[]
  cursor: string | null
}

interface Query {
  readonly state: string | undefined
  readonly domain: string | undefined
  readonly binding: string | undefined
  readonly dueBefore: number | undefined
  readonly limit: number
}

/** Throws SPOOL_ERR_INVALID. What cannot be read is left out, and told. */
export function list(store: Store, query: MessageQuery, onUnreadable: OnUnreadable): Listed {
  const checked = check(query)
  const byIndex =
    checked.domain !== undefined || checked.binding !== undefined || checked.dueBefore !== undefined
  const kind = byIndex ? 'q' : 'm'
  const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor, kind)
  const { found, last } = byIndex
    ? listQueue(store, checked, after, onUnreadable)
    : listMessages(store, checked, after, onUnreadable)
  return { found, cursor: last === null ? null : kind + last.toString('base64url') }
}

interface Walked {
  found: Listed['found']
  /** The last key looked at; null when there is nothing after it. */
  last: Buffer | null
}

function listMessages(
  store: Store,
  { state, limit }: Query,
  after: Buffer | undefined,
  onUnreadable: OnUnreadable,
): Walked {
  const found: Listed['found'] = []
  let steps = 0
  let last: Buffer = FIRST_ID
  for (const { key, value } of store.db('messages').getRange({
    start: after ?? FIRST_ID,
    exclusiveStart: after !== undefined,
  })) {
    if (found.length === limit || steps++ === MAX_STEPS) return { found, last }
    last = Buffer.from(key)
    const record = readable(last, value, onUnreadable)
    if (record === undefined) continue
    if (state === undefined || record.state === state) found.push({ id: last, record })
  }
  return { found, last: null }
}

function listQueue(
  store: Store,
  query: Query,
  after: Buffer | undefined,
  onUnreadable: OnUnreadable,
): Walked {
  const { state, domain, binding, dueBefore, limit } = query
  const found: Listed['found'] = []
  let steps = 0
  let last: Buffer = FIRST
  for (const { key, value } of store.db('queue').getRange({
    start: after ?? FIRST,
    exclusiveStart: after !== undefined,
    end: dueBefore === undefined ? AFTER_ALL : queueKey(dueBefore, FIRST_ID),
  })) {
    if (found.length === limit || steps++ === MAX_STEPS) return { found, last }
    last = Buffer.from(key)
    if (!belongs(value, binding, domain)) continue
    const id = Buffer.from(splitQueueKey(last).id)
    const bytes = store.db('messages').get(id)
    if (bytes === undefined) continue
    const record = readable(id, bytes, onUnreadable)
    if (record === undefined) continue
    if (state === undefined || record.state === state) found.push({ id, record })
  }
  return { found, last: null }
}

function readable(
  id: Buffer,
  bytes: Buffer,
  onUnreadable: OnUnreadable,
): MessageRecord | undefined {
  try {
    return decodeMeta(id, bytes)
  } catch (error) {
    onUnreadable(formatId(id), error)
    return undefined
  }
}

function belongs(value: Buffer, binding: string | undefined, domain: string | undefined): boolean {
  const middle = value.indexOf(0)
  return (
    (binding === undefined || value.toString('utf8', 0, middle) === binding) &&
    (domain === undefined || value.toString('utf8', middle + 1) === domain)
  )
}

function check(query: MessageQuery): Query {
  const { state, domain, binding, dueBefore, limit = DEFAULT_LIMIT } = query
  if (state !== undefined && !MESSAGE_STATES.includes(state)) {
    throw invalid('state', `not one of ${MESSAGE_STATES.join(', ')}`)
  }
  for (const [field, value] of Object.entries({ domain, binding })) {
    if (value !== undefined && (typeof value !== 'string' || value.includes('\0'))) {
      throw invalid(field, 'not a name')
    }
    if (value !== undefined && Buffer.byteLength(value) > 1024) throw invalid(field, 'too long')
  }
  if (!isCount(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw invalid('limit', `not a number from 1 to ${MAX_LIMIT}`)
  }
  return {
    state,
    domain: domain?.toLowerCase(),
    binding,
    dueBefore: dueBefore === undefined ? undefined : time('dueBefore', dueBefore),
    limit,
  }
}

function decodeCursor(cursor: string, kind: string): Buffer {
  if (typeof cursor === 'string' && /^[qm][\w-]{1,4000}$/.test(cursor) && cursor[0] === kind) {
    const key = Buffer.from(cursor.slice(1), 'base64url')
    if (key.length > 0 && key.length <= 1900) return key
  }
  throw invalid('cursor', 'not a cursor that this query gave')
}
