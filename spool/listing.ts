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
import { assertEnded, pageError } from './range-end.js'
import type { RowStore } from './rows.js'
import { isCount, time } from './validate.js'

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 1000
/** Rows looked at for a page. */
const MAX_STEPS = 20_000

const FIRST_ID = Buffer.alloc(ID_BYTES)
const FIRST = queueKey(0, FIRST_ID)
const AFTER_ALL = Buffer.alloc(64, 0xff)

type OnUnreadable = (id: string, error: unknown) => void

export interface ListedMessage {
  /** Of the row it was found by. */
  readonly key: Buffer
  readonly id: Buffer
  readonly record: MessageRecord
}

export interface Listed {
  found: ListedMessage[]
  /** The last key looked at; null when there is nothing after it. */
  last: Buffer | null
}

interface Query {
  readonly state: string | undefined
  readonly domain: string | undefined
  readonly binding: string | undefined
  readonly dueBefore: number | undefined
  readonly limit: number
}

/** Throws SPOOL_ERR_INVALID, SPOOL_ERR_CORRUPT for a damaged page. A row that cannot be read is left out, and told. */
export function list(store: RowStore, query: MessageQuery, onUnreadable: OnUnreadable): Listed {
  const checked = check(query)
  const kind = kindOf(query)
  const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor, kind)
  try {
    return kind === 'q'
      ? listQueue(store, checked, after, onUnreadable)
      : listMessages(store, checked, after, onUnreadable)
  } catch (error) {
    throw pageError(store, kind === 'q' ? 'queue' : 'messages', error)
  }
}

/** The page of several stores, from the page of each. */
export function pageOf(
  listed: readonly Listed[],
  query: MessageQuery,
): Listed & { cursor: string | null } {
  const { limit } = check(query)
  const ends = listed.map(({ last }) => last).filter((last) => last !== null)
  // Beyond the first of these there may be more in one of them.
  let last = ends.sort(Buffer.compare)[0] ?? null
  let found = listed.flatMap((part) => part.found)
  if (listed.length > 1) {
    const seen = new Set<string>()
    const isNew = ({ id }: ListedMessage) => seen.size < seen.add(id.toString('latin1')).size
    found = found
      .filter(({ key }) => last === null || key.compare(last) <= 0)
      .sort((a, b) => a.key.compare(b.key))
      .filter(isNew)
    if (found.length > limit) {
      found = found.slice(0, limit)
      last = found.at(-1)?.key ?? null
    }
  }
  return { found, last, cursor: last === null ? null : kindOf(query) + last.toString('base64url') }
}

/** By which index: of due time, or of creation. */
function kindOf({ domain, binding, dueBefore }: MessageQuery): 'q' | 'm' {
  return domain !== undefined || binding !== undefined || dueBefore !== undefined ? 'q' : 'm'
}

function listMessages(
  store: RowStore,
  { state, limit }: Query,
  after: Buffer | undefined,
  onUnreadable: OnUnreadable,
): Listed {
  const found: Listed['found'] = []
  let steps = 0
  let last: Buffer = after ?? FIRST_ID
  const start = last
  for (const { key, value } of store.db('messages').getRange({
    start,
    exclusiveStart: after !== undefined,
  })) {
    if (found.length === limit || steps++ === MAX_STEPS) return { found, last }
    last = Buffer.from(key)
    const record = readable(last, value, onUnreadable)
    if (record === undefined) continue
    if (state === undefined || record.state === state) found.push({ key: last, id: last, record })
  }
  assertEnded(store, 'messages', steps === 0 && after === undefined ? null : last, { start })
  return { found, last: null }
}

function listQueue(
  store: RowStore,
  query: Query,
  after: Buffer | undefined,
  onUnreadable: OnUnreadable,
): Listed {
  const { state, domain, binding, dueBefore, limit } = query
  const found: Listed['found'] = []
  let steps = 0
  let last: Buffer = after ?? FIRST
  const start = last
  const end = dueBefore === undefined ? AFTER_ALL : queueKey(dueBefore, FIRST_ID)
  for (const { key, value } of store.db('queue').getRange({
    start,
    exclusiveStart: after !== undefined,
    end,
  })) {
    if (found.length === limit || steps++ === MAX_STEPS) return { found, last }
    last = Buffer.from(key)
    if (!belongs(value, binding, domain)) continue
    const id = Buffer.from(splitQueueKey(last).id)
    const bytes = store.db('messages').get(id)
    if (bytes === undefined) continue
    const record = readable(id, bytes, onUnreadable)
    if (record === undefined) continue
    if (state === undefined || record.state === state) found.push({ key: last, id, record })
  }
  assertEnded(store, 'queue', steps === 0 && after === undefined ? null : last, { start, end })
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
