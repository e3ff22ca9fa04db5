/**
 * Changes of a message's meta: what a patch makes of a record, and the writes that were not forced.
 * Those are visible at once and go into the next commit, whoever makes it, or into one of their own
 * within half a second; a crash before that leaves the record as it was, never half of each.
 */
import type { Committer, Transaction } from './committer.js'
import type { Hooks } from './hooks.js'
import {
  COUNTED_STATES,
  decodeMeta,
  encodeMeta,
  type MessageRecord,
  pairs,
  queueRow,
  unpairs,
} from './layout.js'
import { type CheckedPatch, CONTEXT_LIMITS, type ContextLimits, checkContext } from './validate.js'

const SYNC_DELAY_MS = 500
/** Beyond so many the next commit is not waited for. */
const MAX_WAITING = 4096

export class MetaWrites {
  readonly #committer: () => Committer
  readonly #hooks: Hooks
  readonly #waiting = new Map<string, { id: Buffer; record: MessageRecord }>()
  /** Messages with a forced write or a removal on its way, and how many. */
  readonly #busy = new Map<string, number>()
  #written: { key: string; record: MessageRecord }[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(committer: () => Committer, hooks: Hooks) {
    this.#committer = committer
    this.#hooks = hooks
  }

  /** The record as an unforced write left it, when that is not committed yet. */
  waiting(id: Buffer): MessageRecord | undefined {
    return this.#waiting.get(keyOf(id))?.record
  }

  isBusy(id: Buffer): boolean {
    return this.#busy.has(keyOf(id))
  }

  /** Marks the message as being written while `work` lasts. */
  async during<T>(id: Buffer, work: () => Promise<T>): Promise<T> {
    this.begin(id)
    try {
      return await work()
    } finally {
      this.end(id)
    }
  }

  /** Marks the message as being written, until `end`. */
  begin(id: Buffer): void {
    const key = keyOf(id)
    this.#busy.set(key, (this.#busy.get(key) ?? 0) + 1)
  }

  end(id: Buffer): void {
    const key = keyOf(id)
    const left = (this.#busy.get(key) ?? 1) - 1
    if (left > 0) this.#busy.set(key, left)
    else this.#busy.delete(key)
  }

  /** The record that a write in this transaction builds on; undefined when there is no message. */
  current(tx: Transaction, id: Buffer): MessageRecord | undefined {
    const stored = tx.get('messages', id)
    if (stored === undefined) return undefined
    const waiting = tx.wrote('messages', id) ? undefined : this.waiting(id)
    return waiting ?? decodeMeta(id, stored)
  }

  /** As `write`, for a change that the embedding program may refuse: then throws. */
  propose(tx: Transaction, id: Buffer, next: MessageRecord): void {
    this.#hooks.check(id, next)
    this.write(tx, id, next)
  }

  /** Writes a record over the stored one, with its row in the index. */
  write(tx: Transaction, id: Buffer, next: MessageRecord): void {
    const bytes = tx.get('messages', id)
    if (bytes === undefined) return
    const stored = decodeMeta(id, bytes)
    tx.put('messages', id, encodeMeta(next))
    const from = queueRow(id, stored)
    const to = queueRow(id, next)
    if (!from.key.equals(to.key) || !from.value.equals(to.value)) {
      // Removed also when it is put again at once: `lanes` goes by it.
      tx.remove('queue', from.key)
      tx.put('queue', to.key, to.value)
    }
    tx.add('scheduled', Number(next.nextAttempt !== null) - Number(stored.nextAttempt !== null))
    if (next.state !== stored.state) {
      for (const state of COUNTED_STATES) {
        tx.add(state, Number(next.state === state) - Number(stored.state === state))
      }
    }
  }

  /** Takes an unforced write, unless the embedding program refuses it: then throws. */
  defer(id: Buffer, record: MessageRecord): void {
    this.#hooks.check(id, record)
    this.#waiting.set(keyOf(id), { id, record })
    if (this.#waiting.size >= MAX_WAITING) void this.sync()
    else this.#arm()
  }

  /** No unforced write of this message is to be made any more. */
  forget(id: Buffer): void {
    this.#waiting.delete(keyOf(id))
  }

  /** Commits what waits; true when all of it is on the disk. */
  async sync(): Promise<boolean> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#waiting.size === 0) return true
    try {
      await this.#committer().submit((tx) => this.include(tx), 0)
      return this.#waiting.size === 0
    } catch {
      // Still visible, and tried again; on a spool that takes no more writes there is nothing to try.
      if (this.#committer().refusal === null) this.#arm()
      return false
    }
  }

  /** Adds what waits to a transaction. */
  include(tx: Transaction): void {
    this.#written = []
    for (const [key, { id, record }] of this.#waiting) {
      if (!tx.wrote('messages', id)) this.write(tx, id, record)
      this.#written.push({ key, record })
    }
  }

  /** After a commit: what it included waits no longer, unless it has changed since. */
  committed(): void {
    for (const { key, record } of this.#written) {
      if (this.#waiting.get(key)?.record === record) this.#waiting.delete(key)
    }
    this.#written = []
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  #arm(): void {
    this.#timer ??= setTimeout(() => void this.sync(), SYNC_DELAY_MS).unref()
  }
}

/** The record after the patch, one version on. Throws SPOOL_ERR_INVALID for a context that grew too large. */
export function applyPatch(
  record: MessageRecord,
  patch: CheckedPatch,
  limits: ContextLimits = CONTEXT_LIMITS,
): MessageRecord {
  const { nextAttempt, retries, retention, bindingGroup, binding, context } = patch
  const next = {
    ...record,
    nextAttempt: nextAttempt === undefined ? record.nextAttempt : nextAttempt,
    retries: retries ?? record.retries,
    retention: retention === undefined ? record.retention : retention,
    bindingGroup: bindingGroup ?? record.bindingGroup,
    binding: binding ?? record.binding,
    version: record.version + 1,
  }
  if (next.state === 'queued' || next.state === 'deferred') {
    next.state = next.retries > 0 ? 'deferred' : 'queued'
  }
  if (context !== undefined) {
    const merged = {
      conn: merge(unpairs(record.conn), context.conn),
      mess: merge(unpairs(record.mess), context.mess),
    }
    checkContext(merged, limits)
    next.conn = pairs(merged.conn)
    next.mess = pairs(merged.mess)
  }
  return next
}

/** RFC 7396 on one dictionary: null removes a key, and null for the whole empties it. */
function merge(
  dictionary: Record<string, string>,
  patch: Record<string, string | null> | null | undefined,
): Record<string, string> {
  if (patch === undefined) return dictionary
  if (patch === null) return {}
  const merged = new Map(Object.entries(dictionary))
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key)
    else merged.set(key, value)
  }
  return Object.fromEntries(merged)
}

function keyOf(id: Buffer): string {
  return id.toString('latin1')
}
