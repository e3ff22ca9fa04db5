/** Messages on their way in: what each becomes in rows, prepared before its transaction begins. */
import { Staged } from './bodies.js'
import { refCount, share } from './body-refs.js'
import type { Transaction } from './committer.js'
import type { Core } from './core.js'
import { invalid } from './errors.js'
import { formatEvent } from './events.js'
import { type BodyRef, encodeMeta, type MessageRecord, pairs, queueRow } from './layout.js'
import type { ContentOf, NewMessage, SwapOutResult } from './message.js'
import { formatId } from './message-id.js'
import { checkJournal, type Envelope, validateMessage } from './validate.js'

interface Row {
  readonly id: Buffer
  readonly meta: Buffer
  readonly queue: { key: Buffer; value: Buffer }
  readonly event: string | undefined
}

interface SharedBody {
  readonly staged: Staged
  readonly id: Buffer
  /** Made here from the caller's bytes, so it is ours to discard. */
  readonly ours: boolean
  refs: number
}

/** Messages that are stored together: all or none. */
export class Storing {
  readonly results: SwapOutResult[] = []
  readonly #rows: Row[] = []
  readonly #bodies = new Map<Staged, SharedBody>()
  /** Bodies of messages that are stored already. */
  readonly #others: { source: Buffer; ref: BodyRef; refs: number }[] = []
  readonly #core: Core
  readonly #journal: string | null
  readonly #now = Date.now()
  #weight = 0
  #scheduled = 0

  constructor(core: Core) {
    this.#core = core
    const journal = core.events?.journalOf('reception') ?? null
    this.#journal = journal === null ? null : checkJournal(journal)
  }

  /** Bytes to be written. */
  get weight(): number {
    return this.#weight
  }

  /** Throws SPOOL_ERR_INVALID; then nothing is to be stored, and `giveUp` lets go of the bodies. */
  async add(message: NewMessage): Promise<void> {
    const envelope = validateMessage(message, this.#core.contextLimits)
    const given = message.body
    if (given instanceof Staged) this.#addStaged(envelope, given, false)
    else if (given instanceof Uint8Array)
      this.#addStaged(envelope, await this.#core.bodies.stage(given), true)
    else if (typeof (given as ContentOf | undefined)?.refs === 'string')
      this.#addShared(envelope, (given as ContentOf).refs)
    else throw invalid('body', 'neither bytes nor a staged body')
  }

  /** As `add`, for bytes that need no staging. False when they do. */
  addAtOnce(message: NewMessage): boolean {
    const given = message?.body
    if (!(given instanceof Uint8Array)) return false
    const envelope = validateMessage(message, this.#core.contextLimits)
    const staged = this.#core.bodies.inMemory(given)
    if (staged === undefined) return false
    this.#addStaged(envelope, staged, true)
    return true
  }

  /** Within the transaction. */
  write(tx: Transaction): void {
    for (const { staged, id, refs } of this.#bodies.values()) {
      this.#core.bodies.take(tx, staged, id)
      if (refs > 1) tx.putNew('refs', id, refCount(refs))
      tx.add('bodies', 1)
      tx.add('bytes', staged.size)
      tx.add('bytesStored', staged.size)
    }
    for (const { source, ref, refs } of this.#others) share(tx, source, ref, refs)
    const sec = Math.floor(this.#now / 1000)
    const usec = (this.#now % 1000) * 1000
    for (const { id, meta, queue, event } of this.#rows) {
      tx.putNew('messages', id, meta)
      tx.putNew('queue', queue.key, queue.value)
      if (event !== undefined) {
        tx.log({ journal: this.#journal as string, sec, usec, payload: event })
      }
    }
    tx.add('scheduled', this.#scheduled)
    tx.add('messagesStored', this.#rows.length)
  }

  /** Nothing was stored: the caller's staged bodies are theirs again, ours are discarded. */
  async giveUp(): Promise<void> {
    for (const { staged, ours } of this.#bodies.values()) {
      staged.state = 'free'
      if (ours) await staged.discard()
    }
  }

  #addStaged(envelope: Envelope, staged: Staged, ours: boolean): void {
    const ids = this.#newIds(envelope)
    const body = this.#share(staged, ids, ours)
    this.#add(envelope, ids, { size: staged.size, body: body.id, sha256: staged.digest })
  }

  /** The content of a message that is stored already. */
  #addShared(envelope: Envelope, id: string): void {
    const { source, ref } = this.#core.contentOf(id, 'refs')
    const ids = this.#newIds(envelope)
    this.#others.push({ source, ref, refs: ids.length })
    this.#add(envelope, ids, ref)
  }

  #newIds({ rcptto }: Envelope): Buffer[] {
    return rcptto.map(() => this.#core.ids.next(this.#now))
  }

  #add(envelope: Envelope, ids: readonly Buffer[], ref: BodyRef): void {
    const { nextAttempt = this.#now } = envelope
    const base: Omit<MessageRecord, 'rcptto'> = {
      state: 'queued',
      size: ref.size,
      body: ref.body,
      sha256: ref.sha256,
      mailfrom: envelope.mailfrom,
      created: this.#now,
      nextAttempt,
      retries: 0,
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
    if (nextAttempt !== null) this.#scheduled += ids.length
    const texts: string[] = []
    for (const [i, rcptto] of envelope.rcptto.entries()) {
      const id = ids[i] as Buffer
      const text = formatId(id)
      texts.push(text)
      const record = { ...base, rcptto }
      this.#core.hooks.check(id, record)
      const meta = encodeMeta(record)
      const queue = queueRow(id, record)
      const event = this.#event(text, envelope, rcptto, ref.size)
      this.#rows.push({ id, meta, queue, event })
      this.#weight += meta.length + queue.key.length + queue.value.length + (event?.length ?? 0)
    }
    this.results.push({
      result: this.#core.isDurable ? 'complete' : 'deferred',
      ids: texts,
      size: ref.size,
      sha256: ref.sha256.toString('hex'),
    })
  }

  #share(staged: Staged, ids: readonly Buffer[], ours: boolean): SharedBody {
    let body = this.#bodies.get(staged)
    if (body === undefined) {
      if (!this.#core.bodies.takes(staged)) throw invalid('body', 'staged in another spool')
      if (staged.state !== 'free') throw invalid('body', `the staged body is ${staged.state}`)
      staged.state = 'taken'
      const id = 'stored' in staged.place ? staged.place.stored : (ids[0] as Buffer)
      body = { staged, id, ours, refs: 0 }
      this.#bodies.set(staged, body)
      this.#weight += staged.weight
    }
    body.refs += ids.length
    return body
  }

  #event(id: string, envelope: Envelope, rcptto: string, size: number): string | undefined {
    const { events } = this.#core
    if (events === undefined || this.#journal === null) return undefined
    return formatEvent(
      {
        type: 'reception',
        time: this.#now,
        id,
        batchId: envelope.batchId,
        connectionId: envelope.connectionId,
        mailfrom: envelope.mailfrom,
        rcptto,
        size,
        protocol: envelope.protocol,
        bindingGroup: envelope.bindingGroup,
        binding: envelope.binding,
        peer: envelope.peer,
        context: (dictionary, key) => {
          const entries = envelope.context[dictionary]
          return Object.hasOwn(entries, key) ? entries[key] : undefined
        },
      },
      events,
    )
  }
}
