/**
 * One message of a source becomes ours: one for each recipient, with their log records and the mark that they
 * are imported, in one transaction. It keeps its id unless one of that id is here, its times and retries,
 * and shares its body with those it shared it with.
 */
import type { Staged } from './bodies.js'
import { refCount, share } from './body-refs.js'
import type { Transaction } from './committer.js'
import type { Core } from './core.js'
import { invalid, SpoolError } from './errors.js'
import type { ImportMarks } from './import-marks.js'
import { type BodyRef, DROPPED, encodeMeta, type MessageRecord, pairs, queueRow } from './layout.js'
import { formatId, idAt, parseId } from './message-id.js'
import { lineEndOf } from './sources/envelope-fields.js'
import {
  type SourceContent,
  SourceError,
  type SourceMessage,
  type SourceMeta,
  SUCCESS,
} from './sources/source.js'
import { type Envelope, isCount, time, validateMessage } from './validate.js'

export interface ImportTerms {
  /** The envelope, where the source does not tell it. */
  readonly mailfrom?: string | undefined
  readonly rcptto?: readonly string[] | undefined
  readonly regenerateIds: boolean
  /** Whether a `Received:` field is put before each message. */
  readonly trace: boolean
  /** Seconds; no imported message may stay longer after it was made. */
  readonly maxRetention?: number | undefined
  /** As log records name the source. */
  readonly base: string
  readonly nodeName: string
}

/** A body that is here, and a message that has it. */
interface Holder {
  readonly id: Buffer
  readonly ref: BodyRef
}

/** Shared bodies of which is remembered where they are. */
const MAX_SHARED = 4096
/** Clocks differ, by so much; after a restart the spool's goes on from its last id. */
const MAX_AHEAD_MS = 60_000
const EMPTY = Buffer.alloc(0)

export class MessageImporter {
  readonly #core: Core
  readonly #marks: ImportMarks
  readonly #terms: ImportTerms
  readonly #shared = new Map<string, Promise<Holder | null>>()

  constructor(core: Core, marks: ImportMarks, terms: ImportTerms) {
    this.#core = core
    this.#marks = marks
    this.#terms = terms
  }

  /**
   * Returns how many messages it became; 0 when it was imported meanwhile. Throws SourceError, SourceGone, and
   * SpoolError for what the spool does not take or cannot write.
   */
  async take(message: SourceMessage, signal: AbortSignal): Promise<number> {
    let keepId = !this.#terms.regenerateIds
    for (;;) {
      const content = await message.open()
      try {
        const ids = await this.#store(message, content, keepId, signal)
        if (ids !== 'collides') return ids.length
      } finally {
        await content.close()
      }
      keepId = false
    }
  }

  /** Logs that it failed. False when that is logged already, of this name. */
  async fail(message: SourceMessage, result: 2 | 3 | 4): Promise<boolean> {
    return this.#core.committer.submit((tx) => {
      if (this.#marks.resultIn(tx, message.key) !== undefined) return false
      this.#marks.put(tx, message.key, result, null)
      this.#log(tx, message, '', result)
      return true
    }, 512)
  }

  async #store(
    message: SourceMessage,
    content: SourceContent,
    keepId: boolean,
    signal: AbortSignal,
  ): Promise<Buffer[] | 'collides'> {
    const { meta, body, sharedAs } = content
    const base = this.#recordOf(meta)
    const ids = this.#idsFor(meta, base.rcptto.length, keepId)
    const put = (ref: BodyRef, takeBody: (tx: Transaction, users: number) => void) =>
      this.#commit(message, ids, base, ref, takeBody)
    if (body === null) return put(DROPPED, () => undefined)
    const holder = sharedAs === undefined ? undefined : await this.#shared.get(sharedAs)
    if (holder) {
      try {
        return await put(holder.ref, (tx, users) => share(tx, holder.id, holder.ref, users))
      } catch (error) {
        if (!isGone(error)) throw error
      }
    }
    const stored = this.#willHold(sharedAs)
    try {
      const source = this.#terms.trace ? this.#traced(body, ids[0] as Buffer) : body
      const staged = await this.#core.bodies.stage(source, { signal })
      const bodyId = 'stored' in staged.place ? staged.place.stored : this.#core.ids.next()
      const ref = { size: staged.size, body: bodyId, sha256: staged.digest }
      const result = await this.#withStaged(staged, () =>
        put(ref, (tx, users) => {
          this.#core.bodies.take(tx, staged, bodyId)
          if (users > 1) tx.putNew('refs', bodyId, refCount(users))
          tx.add('bodies', 1)
          tx.add('bytes', staged.size)
          tx.add('bytesStored', staged.size)
        }),
      )
      if (result !== 'collides' && result.length > 0) stored({ id: result[0] as Buffer, ref })
      return result
    } finally {
      stored(null)
    }
  }

  /** The staged body is discarded unless a message took it. */
  async #withStaged(
    staged: Staged,
    put: () => Promise<Buffer[] | 'collides'>,
  ): Promise<Buffer[] | 'collides'> {
    staged.state = 'taken'
    let isTaken = false
    try {
      const result = await put()
      isTaken = result !== 'collides' && result.length > 0
      return result
    } finally {
      if (!isTaken) {
        staged.state = 'free'
        await staged.discard()
      }
    }
  }

  async #commit(
    message: SourceMessage,
    ids: readonly Buffer[],
    { rcptto, ...base }: ImportedBase,
    ref: BodyRef,
    takeBody: (tx: Transaction, users: number) => void,
  ): Promise<Buffer[] | 'collides'> {
    const rows = ids.map((id, i) => {
      const record = { ...base, ...ref, rcptto: rcptto[i] as string }
      this.#core.hooks.check(id, record)
      return { id, meta: encodeMeta(record), queue: queueRow(id, record) }
    })
    const weight = rows.reduce((sum, { meta }) => sum + meta.length + 512, ref.size)
    return this.#core.committer.submit((tx) => {
      if (this.#marks.resultIn(tx, message.key) === SUCCESS) return []
      if (ids.some((id) => tx.get('messages', id) !== undefined)) return 'collides'
      takeBody(tx, ids.length)
      for (const { id, meta, queue } of rows) {
        tx.put('messages', id, meta)
        tx.putNew('queue', queue.key, queue.value)
        this.#log(tx, message, formatId(id), SUCCESS)
      }
      tx.add('messagesStored', ids.length)
      if (base.state === 'deferred') tx.add('deferred', ids.length)
      if (base.nextAttempt !== null) tx.add('scheduled', ids.length)
      this.#marks.put(tx, message.key, SUCCESS, ids[0] as Buffer)
      return [...ids]
    }, weight)
  }

  #log(tx: Transaction, message: SourceMessage, id: string, result: 1 | 2 | 3 | 4): void {
    this.#core.delivery.dispositions.record(tx, {
      type: 'import',
      time: Date.now(),
      originalId: message.originalId,
      id,
      result,
      source: this.#terms.base,
    })
  }

  /** Throws SourceError with result 2, and SPOOL_ERR_INVALID. */
  #recordOf(meta: SourceMeta): ImportedBase {
    const mailfrom = meta.mailfrom ?? this.#terms.mailfrom
    const rcptto = meta.rcptto ?? this.#terms.rcptto
    if (mailfrom === undefined)
      throw new SourceError(2, 'its sender is not known, and none is given')
    if (rcptto === undefined) {
      throw new SourceError(2, 'its recipients are not known, and none are given')
    }
    const now = Date.now()
    const { nextAttempt, retention, retries = 0, context } = meta
    if (!isCount(retries)) throw invalid('retries', 'not a count')
    const envelope: Envelope = validateMessage(
      {
        ...meta,
        mailfrom,
        rcptto,
        body: EMPTY,
        context,
        protocol: meta.protocol ?? 'internal',
        nextAttempt,
        retention: this.#retention(retention),
      },
      this.#core.contextLimits,
    )
    return {
      state: retries > 0 ? 'deferred' : 'queued',
      mailfrom,
      rcptto,
      created: meta.created === undefined ? now : time('created', meta.created),
      nextAttempt: envelope.nextAttempt === undefined ? now : envelope.nextAttempt,
      retries,
      version: 1,
      batchId: envelope.batchId,
      connectionId: envelope.connectionId,
      protocol: envelope.protocol,
      bindingGroup: envelope.bindingGroup,
      binding: envelope.binding,
      retention: envelope.retention,
      peer: envelope.peer,
      conn: pairs(envelope.context.conn),
      mess: pairs(envelope.context.mess),
      lease: null,
    }
  }

  #retention(own: number | null | undefined): number | undefined {
    const { maxRetention } = this.#terms
    if (maxRetention === undefined) return own ?? undefined
    return Math.min(own ?? maxRetention, maxRetention)
  }

  #idsFor({ id, created }: SourceMeta, count: number, keepId: boolean): Buffer[] {
    if (keepId && id !== undefined && count === 1) {
      const kept = parseId(id)
      if (isOurKind(kept) && this.#core.store.db('messages').get(kept) === undefined) return [kept]
    }
    // An id of a time to come would hold all that are made later behind it.
    const isPast = created !== undefined && created <= Date.now()
    return Array.from({ length: count }, () => (isPast ? idAt(created) : this.#core.ids.next()))
  }

  /** A trace field (RFC 5322 section 3.6.7) before the message, its line ended as the message's are. */
  async *#traced(
    body: AsyncIterable<Uint8Array>,
    id: Buffer,
  ): AsyncGenerator<Uint8Array, void, void> {
    const by = this.#terms.nodeName.replace(/[^A-Za-z0-9._-]/g, '-') || 'default'
    const date = new Date().toUTCString().replace('GMT', '+0000')
    const field = `Received: by ${by} (Bobbin spool import) id ${formatId(id)}; ${date}`
    let isFirst = true
    for await (const piece of body) {
      if (isFirst) yield Buffer.from(field + lineEndOf(piece))
      isFirst = false
      yield piece
    }
    if (isFirst) yield Buffer.from(`${field}\r\n`)
  }

  /** Says that a body is on its way; to be called with where it is. Only the first call counts. */
  #willHold(sharedAs: string | undefined): (holder: Holder | null) => void {
    if (sharedAs === undefined) return () => undefined
    let tell: (holder: Holder | null) => void = () => undefined
    const told = new Promise<Holder | null>((resolve) => {
      tell = resolve
    })
    this.#shared.delete(sharedAs)
    this.#shared.set(sharedAs, told)
    if (this.#shared.size > MAX_SHARED) {
      this.#shared.delete(this.#shared.keys().next().value as string)
    }
    return tell
  }
}

/**
 * An id that this spool could have made. One of a time to come would hold all that are made later behind it.
 */
function isOurKind(id: Buffer): boolean {
  const isVersion7 = (id[6] as number) >> 4 === 7 && (id[8] as number) >> 6 === 2
  return isVersion7 && id.readUIntBE(0, 6) <= Date.now() + MAX_AHEAD_MS
}

/** What the recipients of a message have in common. */
type ImportedBase = Omit<MessageRecord, 'rcptto' | keyof BodyRef> & {
  readonly rcptto: readonly string[]
}

/** The message that had the body is gone, or has another one. */
function isGone(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return (
    error instanceof SpoolError &&
    ['SPOOL_ERR_NOT_FOUND', 'SPOOL_ERR_CONFLICT'].includes(String(code))
  )
}
