/**
 * Lists messages page by page: by domain, binding or due time over the queue index, else in order of
 * creation. A page looks at a bounded number of rows, so a filter that matches little gives short pages
 * rather than a long wait.
 */
import { invalid } from './errors.js'
import { decodeMeta, type MessageRecord, queueKey, splitQueueKey } from './layout.js'
import { MESSAGE_STATES, type MessageQuery } from './message.js'
import { ID_BYTES } from './message-id.js'
import type { Store } from './store.js'
import { isCount, time } from './validate.js'

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 1000
/** Rows and look-ups a page. */
const MAX_STEPS = 20_000

const FIRST_ID = Buffer.alloc(ID_BYTES)
const LAST_ID = Buffer.alloc(ID_BYTES, 0xff)
/** After every key of the queue index: no name begins with this byte. */
const AFTER_ALL = Buffer.from([0xff])

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

/** Throws SPOOL_ERR_INVALID. */
export function list(store: Store, query: MessageQuery): Listed {
  const checked = check(query)
  const byIndex =
    checked.domain !== undefined || checked.binding !== undefined || checked.dueBefore !== undefined
  const kind = byIndex ? 'q' : 'm'
  const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor, kind)
  const { found, last } = byIndex
    ? listQueue(store, checked, after)
    : listMessages(store, checked, after)
  return { found, cursor: last === null ? null : kind + last.toString('base64url') }
}

interface Walked {
  found: Listed['found']
  /** The last key looked at; null when there is nothing after it. */
  last: Buffer | null
}

function listMessages(store: Store, { state, limit }: Query, after: Buffer | undefined): Walked {
  const found: Listed['found'] = []
  let steps = 0
  let last: Buffer = FIRST_ID
  for (const { key, value } of store.db('messages').getRange({
    start: after ?? FIRST_ID,
    exclusiveStart: after !== undefined,
  })) {
    if (found.length === limit || steps++ === MAX_STEPS) return { found, last }
    last = Buffer.from(key)
    const record = decodeMeta(last, value)
    if (state === undefined || record.state === state) found.push({ id: last, record })
  }
  return { found, last: null }
}

/** Goes from queue to queue (a binding and a domain), each in order of due time. */
function listQueue(store: Store, query: Query, after: Buffer | undefined): Walked {
  const db = store.db('queue')
  const { binding, domain, dueBefore } = query
  const found: Listed['found'] = []
  let steps = 0
  let last = after
  let start = after ?? queueKey(binding ?? '', domain ?? '', 0, FIRST_ID)
  if (after === undefined && binding === undefined) start = Buffer.from([0])
  let exclusiveStart = after !== undefined
  walk: for (;;) {
    let next: Buffer | undefined
    for (const stored of db.getKeys({ start, exclusiveStart, end: AFTER_ALL })) {
      const key = Buffer.from(stored)
      if (steps++ >= MAX_STEPS || found.length >= query.limit) {
        return { found, last: last ?? null }
      }
      const at = splitQueueKey(key)
      next = skip(at.binding, at.domain, at.due, query)
      if (next === END_OF_LIST) break walk
      if (next !== undefined) break
      last = key
      const id = Buffer.from(at.id)
      const value = store.db('messages').get(id)
      if (value === undefined) continue
      const record = decodeMeta(id, value)
      if (query.state === undefined || record.state === query.state) found.push({ id, record })
    }
    if (next === undefined) break
    start = next
    exclusiveStart = false
    // Where to go on is where nothing was found so far: a cursor may stand there too.
    last = next
  }
  return { found, last: null }

  function skip(
    atBinding: string,
    atDomain: string,
    due: number | null,
    wanted: Query,
  ): Buffer | undefined {
    if (binding !== undefined && atBinding !== binding) return END_OF_LIST
    if (domain !== undefined && atDomain !== domain) {
      return Buffer.compare(Buffer.from(atDomain), Buffer.from(domain)) < 0
        ? queueKey(atBinding, domain, 0, FIRST_ID)
        : endOfBinding(atBinding)
    }
    if (dueBefore !== undefined && (due === null || due >= (wanted.dueBefore as number))) {
      return queueKey(atBinding, atDomain, null, LAST_ID)
    }
    return undefined
  }
}

const END_OF_LIST = Buffer.alloc(0)

/** Before the next binding's first key: names hold no control characters. */
function endOfBinding(binding: string): Buffer {
  return Buffer.concat([Buffer.from(binding), Buffer.from([1])])
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
