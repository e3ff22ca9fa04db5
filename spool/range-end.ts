/**
 * lmdb-js ends a range without a word over a page that it cannot read, as if there were nothing behind it. Who must not
 * take a part for the whole asks here whether the end was the end. It costs one look at the last key.
 */
import type { Transaction } from 'lmdb'
import { SpoolError } from './errors.js'
import type { DatabaseName, RowRange } from './rows.js'

interface Keys {
  readonly path: string
  db(name: DatabaseName): {
    get(key: Buffer, options?: { transaction?: Transaction }): Buffer | undefined
    getKeys(range: RowRange & { transaction?: Transaction }): Iterable<Buffer>
  }
}

/**
 * After a range of `name` has ended behind `last`, the last key it gave, or null when it gave none. `range` as it was asked for. Throws
 * SPOOL_ERR_CORRUPT when there are keys behind it that cannot be reached.
 */
export function assertEnded(
  store: Keys,
  name: DatabaseName,
  last: Buffer | null,
  range: { start?: Buffer | undefined; end?: Buffer | undefined; transaction?: Transaction },
): void {
  // Without a snapshot a last row may have gone in between; hardly twice.
  if (hasEnded(store, name, last, range) || hasEnded(store, name, last, range)) return
  throw unreachable(store, name)
}

function hasEnded(
  store: Keys,
  name: DatabaseName,
  last: Buffer | null,
  range: Parameters<typeof assertEnded>[3],
): boolean {
  const { start, end, ...more } = range
  const db = store.db(name)
  const from = last ?? start
  let final: Buffer | null = null
  const down = { ...more, ...(end === undefined ? {} : { start: end }), reverse: true, limit: 1 }
  for (const key of db.getKeys(down)) final = Buffer.from(key)
  if (final === null) {
    // What LMDB counts need not be of the same commit: nothing at either end is nothing. Of where a former page of a list
    // ended all may be gone by now.
    if (last === null || db.get(last, more) === undefined) return true
    if (end !== undefined && last.compare(end) >= 0) return true
  } else if (from !== undefined && final.compare(from) <= 0) return true
  else if (end !== undefined && final.compare(end) >= 0) return true
  // Without a snapshot it may have come just now.
  const up = {
    ...more,
    ...(from === undefined ? {} : { start: from }),
    exclusiveStart: last !== null,
  }
  for (const _ of db.getKeys({ ...up, ...(end === undefined ? {} : { end }), limit: 1 }))
    return true
  return false
}

/** What lmdb-js throws (its codes are numbers) over a page that it does see, in our words. */
export function pageError(store: { path: string }, name: DatabaseName, error: unknown): unknown {
  const { code } = error as { code?: unknown }
  const isOfPages = typeof code === 'number' && code < -30_700 && code > -30_800
  return isOfPages ? unreachable(store, name, error) : error
}

export function unreachable(
  { path }: { path: string },
  name: DatabaseName,
  cause?: unknown,
): SpoolError {
  const what = `what is behind a damaged page of ${name} cannot be read`
  return new SpoolError('SPOOL_ERR_CORRUPT', what, {
    file: path,
    cause,
    advice: 'stop the service, and run bobbin spool repair',
  })
}
