/** The spool's face: messages in, messages out, each acknowledged only once a power cut could not take it. */
import { Bodies } from './bodies.js'
import { contentDropped, release } from './body-refs.js'
import { Committer, type Transaction } from './committer.js'
import { Contents } from './contents.js'
import { ContextDictionary, type DictionaryName } from './context.js'
import { Delivery, type DeliveryOptions } from './delivery.js'
import type { Disposed, Disposition, FreeEvent } from './dispositions.js'
import { invalid, SpoolError } from './errors.js'
import type { EventOptions } from './events.js'
import { Hooks, type SpoolHooks } from './hooks.js'
import {
  type BodyRef,
  decodeBodyRef,
  decodeCounters,
  decodeMeta,
  encodeCounters,
  isDropped,
  type MessageRecord,
  metaOf,
  queueRow,
  STATE_COUNTERS,
} from './layout.js'
import type { Claim, ClaimOptions, ExtendedClaim } from './leases.js'
import { list } from './listing.js'
import type {
  ByteRange,
  ContentOptions,
  CopyOptions,
  MessageMeta,
  MessagePage,
  MessageQuery,
  MessageSnapshot,
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
import { threadId } from './names.js'
import type { Outbox, OutboxSize } from './outbox.js'
import { OutboxStore } from './outbox-store.js'
import { type Ownership, own } from './owner.js'
import { type ContentStructure, readHeaders, readStructure } from './parts.js'
import { Quarantine } from './quarantine.js'
import { Store } from './store.js'
import { Storing } from './swap-out.js'
import { Upkeep } from './upkeep.js'
import { CONTEXT_LIMITS, type ContextLimits, isCount, validatePatch } from './validate.js'

const DEFAULT_MODE = 0o640
const DEFAULT_LARGE = 256 * 1024

export interface SpoolOptions extends DeliveryOptions {
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
  /** Leave a message that cannot be read where it is; it is moved to quarantine when not given. */
  leaveUnreadable?: boolean | undefined
  /** For the program that embeds the spool. */
  hooks?: SpoolHooks | undefined
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
  readonly #hooks: Hooks
  readonly #contextLimits: ContextLimits
  readonly #ids = new IdGenerator()
  readonly #outbox: OutboxStore
  readonly #metas: MetaWrites
  readonly #committer: Committer
  readonly #bodies: Bodies
  readonly #contents: Contents
  readonly #delivery: Delivery
  /** Check, repair and quarantine. */
  readonly upkeep: Upkeep
  #closing: Promise<void> | undefined

  /** For `openSpool`, and for repair, which leaves alone what an open would delete (`sweep`). */
  constructor(store: Store, owner: Ownership | null, options: SpoolOptions, { sweep = true } = {}) {
    this.#store = store
    this.#owner = owner
    this.#hooks = new Hooks(options.hooks)
    this.#events = options.events
    this.#contextLimits = options.contextLimits ?? CONTEXT_LIMITS
    this.nodeName = options.nodeName ?? process.env.EC_NODE_NAME ?? 'default'
    const { counters, lastId } = readCounters(store)
    if (lastId !== undefined) this.#ids.startAfter(lastId)
    for (const key of store.db('messages').getKeys({ reverse: true, limit: 1 })) {
      this.#ids.startAfter(Buffer.from(key))
    }
    this.#outbox = new OutboxStore(store, () => this.#committer)
    this.#metas = new MetaWrites(() => this.#committer, this.#hooks)
    this.#committer = new Committer(store, counters, {
      beforeCommit: (tx) => this.#beforeCommit(tx),
      afterCommit: ({ writes }) => {
        this.#hooks.committed(writes)
        this.#outbox.committed()
        this.#metas.committed()
        this.#bodies.committed()
        this.#delivery.committed()
      },
    })
    this.#bodies = new Bodies(store, this.#committer, this.#ids, {
      largeMessageThreshold: options.largeMessageThreshold ?? DEFAULT_LARGE,
      maxMessageSize: options.maxMessageSize ?? Number.POSITIVE_INFINITY,
    })
    this.#contents = new Contents({
      committer: this.#committer,
      metas: this.#metas,
      bodies: this.#bodies,
      ids: this.#ids,
    })
    const parts = {
      store,
      committer: () => this.#committer,
      ids: this.#ids,
      metas: this.#metas,
      bodies: () => this.#bodies,
      events: options.events,
    }
    this.#delivery = new Delivery(parts, options)
    if (store.readOnly) {
      this.#committer.refuse(
        new SpoolError('SPOOL_ERR_READ_ONLY', 'the spool was opened for reading only', {
          file: store.path,
        }),
      )
    } else if (sweep) {
      this.#bodies.sweep()
      this.#delivery.start()
    }
    this.upkeep = new Upkeep({
      store,
      committer: this.#committer,
      bodies: this.#bodies,
      metas: this.#metas,
      quarantine: new Quarantine(store.path, options.mode ?? DEFAULT_MODE),
      leaveUnreadable: options.leaveUnreadable ?? false,
      indexLanes: () => this.#delivery.lanes.index(),
      restore: async (message, source) => {
        const body = await this.stageBody(source)
        return (await this.swapOut({ ...message, body })).ids[0] as string
      },
    })
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
    const storing = this.#storing()
    if (!storing.addAtOnce(message)) await this.#prepare(storing, [message])
    await this.#commit(storing)
    return storing.results[0] as SwapOutResult
  }

  /** Stores messages in one transaction, all or none. A staged body may be given to several of them. */
  async swapOutMulti(messages: readonly NewMessage[]): Promise<SwapOutResult[]> {
    this.#writable()
    if (!Array.isArray(messages)) throw invalid('messages', 'not a list')
    if (messages.length === 0) return []
    const taken = await this.#hooks.swapOutMulti(messages)
    if (taken !== null) return taken
    const storing = this.#storing()
    await this.#prepare(storing, messages)
    await this.#commit(storing)
    return storing.results
  }

  /**
   * The body, or a range of it, which may depend on what the body is.
   * Throws SPOOL_ERR_NOT_FOUND, also when the content was dropped.
   */
  async swapIn(
    id: string,
    range?: ByteRange | ((content: { size: number; sha256: string }) => ByteRange),
  ): Promise<SwappedBody> {
    const { ref } = this.#contentOf(id)
    const onCorrupt = (error: unknown) => this.upkeep.unreadable(id, error)
    if (range === undefined) return this.#bodies.read(ref, { start: 0, end: ref.size }, onCorrupt)
    const wanted =
      typeof range === 'function'
        ? range({ size: ref.size, sha256: ref.sha256.toString('hex') })
        : range
    return this.#bodies.read(ref, check(wanted), onCorrupt)

    function check({ start, end }: ByteRange): ByteRange {
      if (!isCount(start) || !isCount(end) || start > end || end > ref.size) {
        throw invalid('range', `not within the ${ref.size} bytes of the body`)
      }
      return { start, end }
    }
  }

  /** The header alone, without the empty line. Throws as `swapIn`. */
  async swapInHeaders(id: string): Promise<SwappedBody> {
    const onCorrupt = (error: unknown) => this.upkeep.unreadable(id, error)
    return readHeaders(this.#bodies, this.#contentOf(id).ref, onCorrupt)
  }

  /** The MIME structure, whatever the bytes are, read in one pass. Throws as `swapIn`. */
  async swapInStructure(id: string): Promise<ContentStructure> {
    const onCorrupt = (error: unknown) => this.upkeep.unreadable(id, error)
    return readStructure(this.#bodies, this.#contentOf(id).ref, onCorrupt)
  }

  /** Meta and content of one moment. Throws SPOOL_ERR_NOT_FOUND. */
  async snapshot(id: string): Promise<MessageSnapshot> {
    const key = parseId(id)
    this.#open()
    return this.#hooks.swappedIn(
      id,
      () => this.#snapshot(key, id),
      ({ meta }) => meta,
    )
  }

  #snapshot(key: Buffer, id: string): MessageSnapshot {
    const bytes = this.#store.db('messages').get(key)
    if (bytes === undefined) throw notFound(id)
    const stored = decodeMeta(key, bytes)
    const waiting = this.#metas.waiting(key)
    // A write that waits builds on the content it saw; with another one stored it is stored with that.
    const record = waiting?.body.equals(stored.body) ? waiting : stored
    const body = isDropped(record)
      ? null
      : this.#bodies.read(record, { start: 0, end: record.size })
    return { meta: metaOf(key, record), body }
  }

  /**
   * Gives a message another content, copy on write: others that share the old one keep it. Throws
   * SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION; then a staged body is the caller's again.
   */
  async swapOutContent(
    id: string,
    body: StagedBody | Uint8Array,
    options: ContentOptions = {},
  ): Promise<MessageMeta> {
    const key = parseId(id)
    this.#writable()
    return metaOf(key, await this.#contents.replace(key, id, body, options))
  }

  /** Drops a message's content and keeps its meta. Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION. */
  async swapRemoveContent(id: string, options: ContentOptions = {}): Promise<MessageMeta> {
    const key = parseId(id)
    this.#writable()
    return metaOf(key, await this.#contents.drop(key, id, options))
  }

  /**
   * Stores a copy as a message of its own, as it is at this moment, not attempted yet, with protocol
   * `internal`. Throws SPOOL_ERR_NOT_FOUND, also when the content was dropped.
   */
  async copy(id: string, { share = false }: CopyOptions = {}): Promise<SwapOutResult> {
    this.#writable()
    if (share) return this.swapOut(copyOf(await this.meta(id), { refs: id }))
    const { meta, body } = await this.snapshot(id)
    if (body === null) throw contentDropped(id)
    const staged = await this.#bodies.stage(body.stream)
    try {
      return await this.swapOut(copyOf(meta, staged))
    } catch (error) {
      await staged.discard()
      throw error
    }
  }

  /** Throws SPOOL_ERR_NOT_FOUND. */
  async meta(id: string): Promise<MessageMeta> {
    const key = parseId(id)
    const read = () => metaOf(key, this.#record(key, id))
    return this.#hooks.swappedIn(id, read, (meta) => meta)
  }

  /**
   * Objects that the embedding program attaches to a message: in memory only, gone with the message or
   * the process. Throws SPOOL_ERR_NOT_FOUND.
   */
  blobjects(id: string): Map<string, unknown> {
    const key = parseId(id)
    this.#record(key, id)
    return this.#hooks.objects(key)
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
        this.#metas.propose(tx, key, next)
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

  /**
   * As `swapRemove`, but a leased message goes when its lease lets go: `marked` until then, also over
   * restarts. A body that is being read goes when its last reader lets go, in either case.
   */
  async unlinkOnFree(id: string): Promise<'removed' | 'marked'> {
    const key = parseId(id)
    this.#writable()
    return this.#delivery.leases.unlinkOnFree(key, id)
  }

  /** Leases messages that are due, first due first. Throws SPOOL_ERR_INVALID. */
  async claim(options: ClaimOptions = {}): Promise<Claim> {
    this.#writable()
    return this.#delivery.leases.claim(options)
  }

  /** Brings the index by binding and domain up to date; claims by them do it by themselves when it pays. */
  async indexQueue(): Promise<void> {
    this.#writable()
    await this.#delivery.lanes.index()
  }

  /** Logs and removes messages that outlived their retention; it happens by itself every second. */
  async expire(): Promise<void> {
    this.#writable()
    await this.#delivery.expire()
  }

  /** Makes a claim end `leaseSeconds` from now. Throws SPOOL_ERR_NOT_FOUND when it has ended. */
  async extendClaim(lease: string, leaseSeconds?: number): Promise<ExtendedClaim> {
    this.#writable()
    return this.#delivery.leases.extend(lease, leaseSeconds)
  }

  /** Gives the messages of a claim back. Throws SPOOL_ERR_NOT_FOUND when it has ended. */
  async releaseClaim(lease: string): Promise<void> {
    this.#writable()
    await this.#delivery.leases.release(lease)
  }

  /**
   * What became of a message: its log record and what it does to the message stand or fall together.
   * Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_INVALID, SPOOL_ERR_LEASE.
   */
  async dispose(id: string, disposition: Disposition): Promise<Disposed> {
    this.#writable()
    return this.#delivery.dispositions.dispose(id, disposition)
  }

  /** Fails a message for good: logs a permanent failure and removes it. Throws SPOOL_ERR_NOT_FOUND. */
  async asyncFail(id: string, note: string): Promise<void> {
    await this.dispose(id, { type: 'permanent_failure', note })
  }

  /** Logs an event that is of no message here. Throws SPOOL_ERR_INVALID. */
  async log(event: FreeEvent): Promise<void> {
    this.#writable()
    await this.#delivery.dispositions.log(event)
  }

  /** Throws SPOOL_ERR_INVALID. */
  async list(query: MessageQuery = {}): Promise<MessagePage> {
    this.#open()
    await this.#metas.sync()
    const { found, cursor } = list(this.#store, query, (id, error) =>
      this.upkeep.unreadable(id, error),
    )
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

  /** `[spool name]::[node name]:[suffix]`. Throws SPOOL_ERR_INVALID for what is no id. */
  threadId(id: string, suffix = ''): string {
    return threadId(id, this.nodeName, suffix)
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
    await this.#delivery.stop()
    if (!this.#store.readOnly) await this.#metas.sync()
    this.#metas.stop()
    await this.upkeep.idle()
    this.#committer.refuse(closed(this.#store.path))
    await this.#committer.idle()
    await this.#bodies.close()
    await this.#committer.idle()
    await this.#store.close()
    await this.#owner?.release()
  }

  #storing(): Storing {
    return new Storing(
      this.#bodies,
      this.#ids,
      this.#events,
      this.#contextLimits,
      (id) => this.#contentOf(id, 'refs'),
      this.#hooks,
    )
  }

  #contentOf(id: string, field?: string): { source: Buffer; ref: BodyRef } {
    const source = parseId(id, field)
    this.#open()
    const bytes = this.#store.db('messages').getBinaryFast(source)
    if (bytes === undefined) throw notFound(id)
    const ref = decodeBodyRef(source, bytes)
    if (isDropped(ref)) throw contentDropped(id)
    return { source, ref }
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
    return release(tx, this.#bodies, record)
  }

  #beforeCommit(tx: Transaction): void {
    this.#metas.include(tx)
    this.#outbox.pack(tx)
    this.#delivery.include(tx)
    tx.put('state', STATE_COUNTERS, encodeCounters(tx.counters, this.#ids.last))
  }

  #record(key: Buffer, id: string): MessageRecord {
    this.#open()
    const waiting = this.#metas.waiting(key)
    if (waiting !== undefined) return waiting
    const bytes = this.#store.db('messages').get(key)
    if (bytes === undefined) throw notFound(id)
    try {
      return decodeMeta(key, bytes)
    } catch (error) {
      this.upkeep.unreadable(id, error)
      throw error
    }
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

function copyOf(meta: MessageMeta, body: NewMessage['body']): NewMessage {
  const { rcptto, retention } = meta
  return {
    ...meta,
    rcptto: [rcptto],
    retention: retention ?? undefined,
    protocol: 'internal',
    body,
  }
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
