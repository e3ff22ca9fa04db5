/** The spool's face: messages in, messages out, each acknowledged only once a power cut could not take it. */
import type { Activity, Due, ReadActivity, Waiting } from './activity.js'
import { ContextDictionary, type DictionaryName } from './context.js'
import { Core } from './core.js'
import { Deferral } from './deferral.js'
import type { Disposed, Disposition, FreeEvent } from './dispositions.js'
import { type ImportOptions, type ImportReport, Imports } from './import.js'
import { type MessageRecord, metaOf } from './layout.js'
import type { Claim, ClaimOptions, ExtendedClaim } from './leases.js'
import type {
  ContentOptions,
  CopyOptions,
  MessageMeta,
  MessagePage,
  MessageQuery,
  MessageSnapshot,
  MetaPatch,
  NewMessage,
  RemoveOptions,
  StagedBody,
  StageOptions,
  SwapOutMetaOptions,
  SwapOutMetaResult,
  SwapOutOptions,
  SwapOutResult,
  SwappedBody,
} from './message.js'
import { parseId } from './message-id.js'
import { applyPatch } from './meta-writes.js'
import { threadId } from './names.js'
import { DEFAULT_MODE, type SpoolOptions, type SpoolStats } from './options.js'
import type { Outbox } from './outbox.js'
import type { Ownership } from './owner.js'
import type { ContentStructure } from './parts.js'
import { Quarantine } from './quarantine.js'
import type { Store } from './store.js'
import type { WantedRange } from './swap-in.js'
import { SwapOuts } from './swap-out.js'
import { Tiers } from './tiers.js'
import { Upkeep } from './upkeep.js'
import { validatePatch } from './validate.js'

export class Spool {
  readonly nodeName: string
  /** Check, repair, quarantine, backup. */
  readonly upkeep: Upkeep
  readonly #core: Core
  readonly #tiers: Tiers
  readonly #swapOuts: SwapOuts
  readonly #imports: Imports
  readonly #atRest: () => Promise<void>
  #closing: Promise<void> | undefined

  /** For `openSpool`, and for repair, which leaves alone what an open would delete (`sweep`). */
  constructor(store: Store, owner: Ownership | null, options: SpoolOptions, { sweep = true } = {}) {
    this.nodeName = options.nodeName ?? process.env.EC_NODE_NAME ?? 'default'
    const onUnreadable = (id: string, error: unknown) => this.upkeep.unreadable(id, error)
    this.#core = new Core({ store, options, sweep, onUnreadable })
    const { committer, bodies, metas, delivery } = this.#core
    this.upkeep = new Upkeep({
      store,
      committer,
      bodies,
      metas,
      quarantine: new Quarantine(store.path, options.mode ?? DEFAULT_MODE),
      leaveUnreadable: options.leaveUnreadable ?? false,
      indexLanes: () => delivery.lanes.index(),
      spooled: (id) => this.#tiers.settled(id),
      restore: async (message, source) => {
        const body = await this.stageBody(source)
        return (await this.swapOut({ ...message, body })).ids[0] as string
      },
    })
    const mayDefer = options.unsafeSpooling === true && !store.readOnly
    this.#tiers = new Tiers(this.#core, mayDefer ? new Deferral(this.#core, options) : null)
    this.#swapOuts = new SwapOuts(this.#tiers)
    this.#atRest = async () => {
      await store.close()
      await owner?.release()
    }
    this.#imports = new Imports(this.#core, this.nodeName)
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
    this.#core.assertWritable()
    return this.#core.bodies.stage(source, options)
  }

  /** Stores a message, one for each recipient, with its log records. Answers when all of it is durable. */
  swapOut(message: NewMessage, options?: SwapOutOptions): Promise<SwapOutResult> {
    return this.#swapOuts.one(message, options)
  }

  /** Stores messages in one transaction, all or none. A staged body may be given to several of them. */
  swapOutMulti(
    messages: readonly NewMessage[],
    options?: SwapOutOptions,
  ): Promise<SwapOutResult[]> {
    return this.#swapOuts.multi(messages, options)
  }

  /**
   * The body, or a range of it, which may depend on what the body is.
   * Throws SPOOL_ERR_NOT_FOUND, also when the content was dropped.
   */
  async swapIn(id: string, range?: WantedRange): Promise<SwappedBody> {
    return this.#tiers.of(id).swapIns.content(id, range)
  }

  /** The header alone, without the empty line. Throws as `swapIn`. */
  async swapInHeaders(id: string): Promise<SwappedBody> {
    return this.#tiers.of(id).swapIns.headers(id)
  }

  /** The MIME structure, whatever the bytes are, read in one pass. Throws as `swapIn`. */
  async swapInStructure(id: string): Promise<ContentStructure> {
    return this.#tiers.of(id).swapIns.structure(id)
  }

  /** Meta and content of one moment. Throws SPOOL_ERR_NOT_FOUND. */
  async snapshot(id: string): Promise<MessageSnapshot> {
    return this.#tiers.of(id).swapIns.snapshot(id)
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
    this.#core.assertWritable()
    const { core } = await this.#tiers.settled(id)
    return metaOf(key, await core.contents.replace(key, id, body, options))
  }

  /** Drops a message's content and keeps its meta. Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION. */
  async swapRemoveContent(id: string, options: ContentOptions = {}): Promise<MessageMeta> {
    const key = parseId(id)
    this.#core.assertWritable()
    const { core } = await this.#tiers.settled(id)
    return metaOf(key, await core.contents.drop(key, id, options))
  }

  /**
   * Stores a copy as a message of its own, as it is at this moment, not attempted yet, with protocol
   * `internal`. Throws SPOOL_ERR_NOT_FOUND, also when the content was dropped.
   */
  copy(id: string, options: CopyOptions = {}): Promise<SwapOutResult> {
    return this.#swapOuts.copy(id, options)
  }

  /** Throws SPOOL_ERR_NOT_FOUND. */
  async meta(id: string): Promise<MessageMeta> {
    return this.#tiers.of(id).swapIns.meta(id)
  }

  /**
   * Objects that the embedding program attaches to a message: in memory only, gone with the message or
   * the process. Throws SPOOL_ERR_NOT_FOUND.
   */
  blobjects(id: string): Map<string, unknown> {
    const key = parseId(id)
    this.#tiers.of(id).core.record(key, id)
    return this.#core.hooks.objects(key)
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
    const { contextLimits } = this.#core
    return this.#update(id, (record) => applyPatch(record, checked, contextLimits), options)
  }

  /** One of the message's dictionaries, key by key. Throws SPOOL_ERR_INVALID. */
  context(id: string, dictionary: DictionaryName): ContextDictionary {
    const key = parseId(id)
    const access = {
      id,
      limits: this.#core.contextLimits,
      record: () => this.#tiers.of(id).core.record(key, id),
      update: (change: (record: MessageRecord) => MessageRecord, options: SwapOutMetaOptions) =>
        this.#update(id, change, options),
    }
    return new ContextDictionary(access, dictionary)
  }

  /** To be durable a message has to be spooled. */
  async #update(
    id: string,
    change: (record: MessageRecord) => MessageRecord,
    options: SwapOutMetaOptions,
  ): Promise<SwapOutMetaResult> {
    this.#core.assertWritable()
    if (options.force !== false) await this.#tiers.settled(id)
    return this.#tiers.on(id, ({ changes }) => changes.update(id, change, options))
  }

  /** Removes a message; its body goes with its last message. Logs nothing. Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_VERSION. */
  async swapRemove(id: string, options: RemoveOptions = {}): Promise<void> {
    this.#core.assertWritable()
    return this.#tiers.on(id, ({ changes }) => changes.remove(id, options))
  }

  /**
   * As `swapRemove`, but a leased message goes when its lease lets go: `marked` until then, also over
   * restarts. A body that is being read goes when its last reader lets go, in either case.
   */
  async unlinkOnFree(id: string, options: RemoveOptions = {}): Promise<'removed' | 'marked'> {
    const key = parseId(id)
    this.#core.assertWritable()
    return this.#tiers.on(id, ({ core }) => core.delivery.leases.unlinkOnFree(key, id, options))
  }

  /** Leases messages that are due, first due first. Throws SPOOL_ERR_INVALID. */
  async claim(options: ClaimOptions = {}): Promise<Claim> {
    this.#core.assertWritable()
    return this.#tiers.claim(options)
  }

  /** Brings the index by binding and domain up to date; claims by them do it by themselves when it pays. */
  async indexQueue(): Promise<void> {
    this.#core.assertWritable()
    await this.#core.delivery.lanes.index()
  }

  /** Removes messages, logged, that outlived their retention, and keys that ended; by itself every second. */
  async expire(): Promise<void> {
    this.#core.assertWritable()
    await this.#tiers.expire()
  }

  /** Makes a claim end `leaseSeconds` from now. Throws SPOOL_ERR_NOT_FOUND when it has ended. */
  async extendClaim(lease: string, leaseSeconds?: number): Promise<ExtendedClaim> {
    this.#core.assertWritable()
    return this.#tiers.extendClaim(lease, leaseSeconds)
  }

  /** Gives the messages of a claim back. Throws SPOOL_ERR_NOT_FOUND when it has ended. */
  async releaseClaim(lease: string): Promise<void> {
    this.#core.assertWritable()
    await this.#tiers.releaseClaim(lease)
  }

  /**
   * What became of a message: its log record and what it does to the message stand or fall together.
   * Throws SPOOL_ERR_NOT_FOUND, SPOOL_ERR_INVALID, SPOOL_ERR_LEASE.
   */
  async dispose(id: string, disposition: Disposition): Promise<Disposed> {
    this.#core.assertWritable()
    return this.#tiers.dispose(id, disposition)
  }

  /** Fails a message for good: logs a permanent failure and removes it. Throws SPOOL_ERR_NOT_FOUND. */
  async asyncFail(id: string, note: string): Promise<void> {
    await this.dispose(id, { type: 'permanent_failure', note })
  }

  /** Logs an event that is of no message here. Throws SPOOL_ERR_INVALID. */
  async log(event: FreeEvent): Promise<void> {
    this.#core.assertWritable()
    await this.#core.delivery.dispositions.log(event)
  }

  /** Throws SPOOL_ERR_INVALID. */
  async list(query: MessageQuery = {}): Promise<MessagePage> {
    this.#core.assertOpen()
    return this.#tiers.list(query)
  }

  /** Reads counters; costs the same however many messages there are. */
  async stats(): Promise<SpoolStats> {
    this.#core.assertOpen()
    return this.#tiers.stats
  }

  /** Sums since the spool was opened; no I/O. */
  get activity(): Activity & ReadActivity {
    return this.#tiers.activity
  }

  /** What waits to be on the disk; no I/O. */
  get waiting(): Waiting {
    return this.#core.committer.waiting
  }

  /** Messages that could be claimed now. Looks at no more than `limit` rows of the index. */
  due(limit: number): Due {
    this.#core.assertOpen()
    return this.#tiers.due(limit)
  }

  /**
   * Imports every message of another spool, a Maildir, an mbox, a folder of .eml files or a Haraka queue, once
   * each. Interrupted, it goes on when it is called again. Throws SPOOL_ERR_INVALID, SPOOL_ERR_OPEN,
   * SPOOL_ERR_OWNED, SPOOL_ERR_BUSY, SPOOL_ERR_ABORTED.
   */
  importFrom(path: string, options?: ImportOptions): Promise<ImportReport> {
    return this.#imports.run(path, options)
  }

  /** `[spool name]::[node name]:[suffix]`. Throws SPOOL_ERR_INVALID for what is no id. */
  threadId(id: string, suffix = ''): string {
    return threadId(id, this.nodeName, suffix)
  }

  /** Why the spool takes no writes; null when it does. */
  get readOnly(): string | null {
    return this.#core.committer.refusal?.message ?? null
  }

  get outbox(): Outbox {
    return this.#core.outbox
  }

  /**
   * Idempotent. What is under way is finished, deferred messages are spooled; whatever comes later is
   * refused with SPOOL_ERR_CLOSED. Throws when deferred messages could not be spooled, and are lost.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    try {
      await this.#core.close(async () => {
        try {
          await this.#tiers.deferral?.close()
        } finally {
          await this.upkeep.idle()
        }
      })
    } finally {
      await this.#atRest()
    }
  }
}
