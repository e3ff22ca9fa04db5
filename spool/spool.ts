/** The spool's face: messages in, messages out, each acknowledged only once a power cut could not take it. */
import { Bodies } from './bodies.js'
import { Committer, type Transaction } from './committer.js'
import { ContextDictionary, type DictionaryName } from './context.js'
import { invalid, SpoolError } from './errors.js'
import type { EventOptions } from './events.js'
import {
  decodeBodyRef,
  decodeCounters,
  decodeMeta,
  encodeCounters,
  type MessageRecord,
  metaOf,
  queueRow,
  STATE_COUNTERS,
} from './layout.js'
import { list } from './listing.js'
import type {
  ByteRange,
  MessageMeta,
  MessagePage,
  MessageQuery,
  MetaPatch,
  NewMessage,
  StagedBody,
  StageOptions,
  SwapOutMetaOptions,
  SwapOutMetaResult,
  SwapOutResult,
  SwappedBody,
} from './message.js'
import { IdGenerator, parseId } from './message-id.js'
import { applyPatch, MetaWrites } from './meta-writes.js'
import type { Outbox, OutboxSize } from './outbox.js'
import { OutboxStore } from './outbox-store.js'
import { type Ownership, own } from './owner.js'
import { Store } from './store.js'
import { refCount, Storing } from './swap-out.js'
import { CONTEXT_LIMITS, type ContextLimits, isCount, validatePatch } from './validate.js'

const DEFAULT_MODE = 0o640
const DEFAULT_LARGE = 256 * 1024

export interface SpoolOptions {
  /** Base directory; made when absent. */
  path: string
  /** Offline reading: takes no ownership, refuses every write, works beside a running service. */
  readOnly?: boolean | undefined
  /** Of the files; 0o640 when not given. */
  mode?: number | undefined
  /** `EC_NODE_NAME` when not given, else `default`. */
  nodeName?: string | undefined
  /** Bodies over it are never whole in memory; 256 KiB when not given. */
  largeMessageThreshold?: number | undefined
  /** No limit when not given. */
  maxMessageSize?: number | undefined
  /** Address space reserved for the store's file, in bytes; the file may outgrow it. */
  mapSize?: number | undefined
  /** Of the dictionaries of a message; keys of 255 bytes and 64 KiB in all when not given. */
  contextLimits?: ContextLimits | undefined
  /** No events are logged when not given. */
  events?: EventOptions | undefined
}

export interface SpoolStats {
  messages: number
  bodies: number
  /** Of all bodies, each counted once. */
  bytes: number
  outbox: OutboxSize
  /** Messages that have a next attempt, due or not yet. */
  due: number
  /** Why the spool takes no writes; null when it does. */
  readOnly: string | null
}

/** Throws SPOOL_ERR_OWNED, SPOOL_ERR_OPEN, SPOOL_ERR_INVALID. Does not scan the spool. */
export async function openSpool(options: SpoolOptions): Promise<Spool> {
  const { path, readOnly = false, mode = DEFAULT_MODE, mapSize } = options
  if (typeof path !== 'string' || path === '') throw invalid('path', 'not a directory name')
  const storeOptions = { path, readOnly, mode, mapSize }
  if (readOnly) return new Spool(await Store.open(storeOptions), null, options)
  await Store.makeDirectory(storeOptions)
  const owner = await own(path, mode)
  try {
    return new Spool(await Store.open(storeOptions), owner, options)
  } catch (error) {
    await owner.release()
    throw error
  }
}

export class Spool {
  readonly nodeName: string
  readonly #store: Store
  readonly #owner: Ownership | null
  readonly #events: EventOptions | undefined
  readonly #contextLimits: ContextLimits
  readonly #ids = new IdGenerator()
  readonly #outbox: OutboxStore
  readonly #metas: MetaWrites
  readonly #committer: Committer
  readonly #bodies: Bodies
  #closing: Promise<void> | undefined

  /** For `openSpool`. */
  constructor(store: Store, owner: Ownership | null, options: SpoolOptions) {
    this.#store = store
    this.#owner = owner
    this.#events = options.events
    this.#contextLimits = options.contextLimits ?? CONTEXT_LIMITS
    this.nodeName = options.nodeName ?? process.env.EC_NODE_NAME ?? 'default'
    const { counters, lastId } = readCounters(store)
    if (lastId !== undefined) this.#ids.startAfter(lastId)
    for (const key of store.db('messages').getKeys({ reverse: true, limit: 1 })) {
      this.#ids.startAfter(Buffer.from(key))
    }
    this.#outbox = new OutboxStore(store, () => this.#committer)
    this.#metas = new MetaWrites(() => this.#committer)
    this.#committer = new Committer(store, counters, {
      beforeCommit: (tx) => this.#beforeCommit(tx),
      afterCommit: () => {
        this.#outbox.committed()
        this.#metas.committed()
        this.#bodies.committed()
      },
    })
    this.#bodies = new Bodies(store, this.#committer, this.#ids, {
      largeMessageThreshold: options.largeMessageThreshold ?? DEFAULT_LARGE,
      maxMessageSize: options.maxMessageSize ?? Number.POSITIVE_INFINITY,
    })
    if (store.readOnly) {
      this.#committer.refuse(
        new SpoolError('SPOOL_ERR_READ_ONLY', 'the spool was opened for reading only', {
          file: store.path,
        }),
      )
    } else {
      this.#bodies.sweep()
    }
  }

  /**
   * Takes a body in before its message: a small one into memory, a large one into the spool as it
   * comes. Throws SPOOL_ERR_TOO_LARGE, and SPOOL_ERR_ABORTED when the signal fires or the source
   * breaks off; then nothing is left of it.
   */
  async stageBody(
    source: Uint8Array | AsyncIterable<Uint8Array>,
    options: StageOptions = {},
  ): Promise<StagedBody> {
    this.#writable()
    return this.#bodies.stage(source, options)
  }

  /** Stores a message, one for each recipient, with its log records. Answers when all of it is durable. */
  async swapOut(message: NewMessage): Promise<SwapOutResult> {
    this.#writable()
    const storing = new Storing(this.#bodies, this.#ids, this.#events, this.#contextLimits)
    if (!storing.addAtOnce(message)) await this.#prepare(storing, [message])
    await this.#commit(storing)
    return storing.results[0] as SwapOutResult
  }

  /** Stores messages in one transaction, all or none. A staged body may be given to several of them. */
  async swapOutMulti(messages: readonly NewMessage[]): Promise<SwapOutResult[]> {
    this.#writable()
    if (!Array.isArray(messages)) throw invalid('messages', 'not a list')
    if (messages.length === 0) return []
    const storing = new Storing(this.#bodies, this.#ids, this.#events, this.#contextLimits)
    await this.#prepare(storing, messages)
    await this.#commit(storing)
    return storing.results
  }

  /** The body, or a range of it. Throws SPOOL_ERR_NOT_FOUND. */
  async swapIn(id: string, range?: ByteRange): Promise<SwappedBody> {
    const key = parseId(id)
    this.#open()
    const bytes = this.#store.db('messages').getBinaryFast(key)
    if (bytes === undefined) throw notFound(id)
    const ref = decodeBodyRef(key, bytes)
    return this.#bodies.read(ref, range === undefined ? { start: 0, end: ref.size } : check(range))

    function check({ start, end }: ByteRange): ByteRange {
      if (!isCount(start) || !isCount(end) || start > end || end > ref.size) {
        throw invalid('range', `not within the ${ref.size} bytes of the body`)
      }
      return { start, end }
    }
  }

  /** Throws SPOOL_ERR_NOT_FOUND. */
  async meta(id: string): Promise<MessageMeta> {
    const key = parseId(id)
    return metaOf(key, this.#record(key, id))
  }

  /** Reads the meta back from the store; metas are not kept in memory, so it is what `meta` does. */
  async refetchMeta(id: string): Promise<MessageMeta> {
    return this.meta(id)
  }

  /**
   * Changes the meta without touching the body. Forced: `complete` once durable. Not forced: `partial`,
   * visible at once, on the disk with the next commit or within half a second; `complete` when another
   * write of the same message made it durable anyway. Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION.
   */
  async swapOutMeta(
    id: string,
    patch: MetaPatch,
    options: SwapOutMetaOptions = {},
  ): Promise<SwapOutMetaResult> {
    const checked = validatePatch(patch)
    return this.#update(id, (record) => applyPatch(record, checked, this.#contextLimits), options)
  }

  /** One of the message's dictionaries, key by key. Throws SPOOL_ERR_INVALID. */
  context(id: string, dictionary: DictionaryName): ContextDictionary {
    const key = parseId(id)
    const access = {
      id,
      limits: this.#contextLimits,
      record: () => this.#record(key, id),
      update: (change: (record: MessageRecord) => MessageRecord, options: SwapOutMetaOptions) =>
        this.#update(id, change, options),
    }
    return new ContextDictionary(access, dictionary)
  }

  async #update(
    id: string,
    change: (record: MessageRecord) => MessageRecord,
    { force = true, ifVersion }: SwapOutMetaOptions,
  ): Promise<SwapOutMetaResult> {
    const key = parseId(id)
    this.#writable()
    if (!force && !this.#metas.isBusy(key)) {
      const record = this.#record(key, id)
      checkVersion(record, id, ifVersion)
      const next = change(record)
      this.#metas.defer(key, next)
      return { result: 'partial', meta: metaOf(key, next) }
    }
    const next = await this.#metas.during(key, async () => {
      const written = await this.#committer.submit((tx) => {
        const record = this.#metas.current(tx, key)
        if (record === undefined) throw notFound(id)
        checkVersion(record, id, ifVersion)
        const next = change(record)
        this.#metas.write(tx, key, next)
        return next
      }, 512)
      this.#metas.forget(key)
      return written
    })
    return { result: 'complete', meta: metaOf(key, next) }
  }

  /** Removes a message; its body goes with its last message. Logs nothing. Throws SPOOL_ERR_NOT_FOUND. */
  async swapRemove(id: string): Promise<void> {
    const key = parseId(id)
    this.#writable()
    const afterwards = await this.#metas.during(key, async () => {
      const removed = await this.#committer.submit((tx) => this.#remove(tx, key, id), 256)
      this.#metas.forget(key)
      return removed
    })
    afterwards()
  }

  /** Throws SPOOL_ERR_INVALID. */
  async list(query: MessageQuery = {}): Promise<MessagePage> {
    this.#open()
    await this.#metas.sync()
    const { found, cursor } = list(this.#store, query)
    const messages = found.map(({ id, record }) => metaOf(id, this.#metas.waiting(id) ?? record))
    return { messages, cursor }
  }

  /** Reads counters; costs the same however many messages there are. */
  async stats(): Promise<SpoolStats> {
    this.#open()
    const counters = this.#store.readOnly
      ? readCounters(this.#store).counters
      : this.#committer.counters
    return {
      messages: this.#store.count('messages'),
      bodies: counters.bodies,
      bytes: counters.bytes,
      outbox: {
        ...this.#outbox.size(),
        records: counters.outboxRecords,
        bytes: counters.outboxBytes,
      },
      due: counters.scheduled,
      readOnly: this.readOnly,
    }
  }

  /** Why the spool takes no writes; null when it does. */
  get readOnly(): string | null {
    return this.#committer.refusal?.message ?? null
  }

  get outbox(): Outbox {
    return this.#outbox
  }

  /** Idempotent. What is under way is finished; whatever comes later is refused with SPOOL_ERR_CLOSED. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (!this.#store.readOnly) await this.#metas.sync()
    this.#metas.stop()
    this.#committer.refuse(closed(this.#store.path))
    await this.#committer.idle()
    await this.#bodies.close()
    await this.#committer.idle()
    await this.#store.close()
    await this.#owner?.release()
  }

  async #prepare(storing: Storing, messages: readonly NewMessage[]): Promise<void> {
    try {
      for (const message of messages) await storing.add(message)
    } catch (error) {
      await storing.giveUp()
      throw error
    }
  }

  async #commit(storing: Storing): Promise<void> {
    try {
      await this.#committer.submit((tx) => storing.write(tx), storing.weight)
    } catch (error) {
      await storing.giveUp()
      throw error
    }
  }

  #remove(tx: Transaction, key: Buffer, id: string): () => void {
    const stored = tx.get('messages', key)
    if (stored === undefined) throw notFound(id)
    const record = decodeMeta(key, stored)
    tx.remove('messages', key)
    tx.remove('queue', queueRow(key, record).key)
    if (record.nextAttempt !== null) tx.add('scheduled', -1)
    const refs = tx.get('refs', record.body)?.readUInt32BE() ?? 1
    if (refs > 2) tx.put('refs', record.body, refCount(refs - 1))
    else if (refs === 2) tx.remove('refs', record.body)
    if (refs > 1) return () => undefined
    tx.add('bodies', -1)
    tx.add('bytes', -record.size)
    return this.#bodies.drop(tx, record)
  }

  #beforeCommit(tx: Transaction): void {
    this.#metas.include(tx)
    this.#outbox.pack(tx)
    tx.put('state', STATE_COUNTERS, encodeCounters(tx.counters, this.#ids.last))
  }

  #record(key: Buffer, id: string): MessageRecord {
    this.#open()
    const waiting = this.#metas.waiting(key)
    if (waiting !== undefined) return waiting
    const bytes = this.#store.db('messages').get(key)
    if (bytes === undefined) throw notFound(id)
    return decodeMeta(key, bytes)
  }

  #open(): void {
    if (this.#closing !== undefined) throw closed(this.#store.path)
  }

  /** Throws SPOOL_ERR_CLOSED or SPOOL_ERR_READ_ONLY. */
  #writable(): void {
    this.#open()
    if (this.#committer.refusal !== null) throw this.#committer.refusal
  }
}

function readCounters(store: Store): ReturnType<typeof decodeCounters> {
  return decodeCounters(store.db('state').get(STATE_COUNTERS))
}

function checkVersion(record: MessageRecord, id: string, ifVersion: number | undefined): void {
  if (ifVersion === undefined || record.version === ifVersion) return
  throw new SpoolError(
    'SPOOL_ERR_VERSION',
    `the meta of ${id} stands at version ${record.version}, not ${ifVersion}`,
    { id, version: record.version, advice: 'read it again and repeat the change' },
  )
}

function notFound(id: string): SpoolError {
  return new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
}

function closed(file: string): SpoolError {
  return new SpoolError('SPOOL_ERR_CLOSED', 'the spool is closed', { file })
}
