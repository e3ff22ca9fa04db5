/**
 * Deferred spooling: messages that lie in memory until they have failed so often, or there are too many of
 * them, or somebody asks for what only the store can do; then they are spooled, oldest first, as they
 * are, leases and all. They work on rows as stored messages do, only that these are in memory.
 *
 * What is logged of them is durable before it is answered, and in one transaction with the spooling, so a
 * subscriber sees each event once; a message that is lost in a crash is one whose record of reception has
 * no end after it. A close spools all of them.
 */
import { Staged } from './bodies.js'
import type { Transaction } from './committer.js'
import { Core, closed, type Held } from './core.js'
import { invalid, SpoolError } from './errors.js'
import {
  chunkCount,
  chunkKey,
  claimKey,
  decodeBodyRef,
  decodeClaim,
  decodeMeta,
  type MessageRecord,
} from './layout.js'
import { MemoryStore } from './memory-store.js'
import type { NewMessage, SwapOutResult } from './message.js'
import { Move } from './move.js'
import { packFrom, type SpoolOptions } from './options.js'
import { removeMessage } from './removal.js'
import { Storing } from './storing.js'
import { isCount } from './validate.js'

const MiB = 1024 * 1024
const DEFAULT_RETRIES = 1
const DEFAULT_MESSAGES = 10_000
const DEFAULT_BYTES = 64 * MiB
/** Spooled in one transaction, at most. */
const BATCH_MESSAGES = 1000
const BATCH_BYTES = 8 * MiB
/** What a message takes beside its body, at least. */
const MESSAGE_BYTES = 1500

export class Deferral implements Held {
  readonly under: Core
  readonly core: Core
  /** Failures with which a message is spooled. */
  readonly retries: number
  readonly #store: MemoryStore
  readonly #packFrom: number
  readonly #maxMessages: number
  readonly #maxBytes: number
  readonly #moves = new WeakMap<Transaction, Move>()
  /** Being stored here. */
  readonly #coming = { messages: 0, bytes: 0 }
  #relieving: Promise<void> | null = null
  #isClosing = false

  /** Throws SPOOL_ERR_INVALID for a setting. */
  constructor(under: Core, options: SpoolOptions) {
    const {
      suppressRetries = DEFAULT_RETRIES,
      maxResidentMessages = DEFAULT_MESSAGES,
      maxResidentBytes = DEFAULT_BYTES,
    } = options
    for (const [field, value] of Object.entries({ suppressRetries, maxResidentMessages })) {
      if (!isCount(value) || value === 0) throw invalid(field, 'not a count above 0')
    }
    if (!isCount(maxResidentBytes)) throw invalid('maxResidentBytes', 'not a number of bytes')
    this.under = under
    this.retries = suppressRetries
    this.#maxMessages = maxResidentMessages
    this.#maxBytes = maxResidentBytes
    this.#packFrom = packFrom(options)
    this.#store = new MemoryStore(under.store.path)
    const onUnreadable = () => undefined
    this.core = new Core({ store: this.#store, options, sweep: true, onUnreadable, held: this })
  }

  has(key: Buffer): boolean {
    return this.#store.db('messages').get(key) !== undefined
  }

  /** Messages, and what they take in memory. */
  get size(): { messages: number; bytes: number } {
    return { messages: this.#store.count('messages'), bytes: this.#store.bytes }
  }

  /** Stores messages in memory, all or none; null when they are for the store. `name`: of the message at fault. */
  async swapOut(
    messages: readonly NewMessage[],
    name: (error: unknown, i: number) => unknown,
  ): Promise<SwapOutResult[] | null> {
    if (!messages.every((message) => this.#isHere(message))) return null
    const coming = sizeOf(messages)
    if (coming.messages > this.#maxMessages || coming.bytes > this.#maxBytes) return null
    const storing = new Storing(this.core)
    let isComing = false
    try {
      for (const [i, message] of messages.entries()) {
        await storing.add(message).catch((error) => {
          throw name(error, i)
        })
      }
      while (!this.#hasRoom(coming)) await this.#relieve()
      if (this.#isClosing) throw closed(this.under.store.path)
      this.#count(coming, 1)
      isComing = true
      await this.core.committer.submit((tx) => storing.write(tx), storing.weight)
    } catch (error) {
      await storing.giveUp()
      throw error
    } finally {
      if (isComing) this.#count(coming, -1)
    }
    return storing.results
  }

  /** Spools those of these messages that are here; durable when it resolves. */
  async spool(keys: readonly Buffer[]): Promise<void> {
    const here = keys.filter((key) => this.has(key))
    if (here.length === 0) return
    const { committer, metas } = this.core
    const taken: Buffer[] = []
    try {
      await committer.submit((tx) => this.#take(tx, here, taken), 0)
      for (const key of taken) metas.forget(key)
    } finally {
      for (const key of taken) metas.end(key)
    }
  }

  /** Spools all of them, then takes no more. Throws what spooling throws, and says how many are lost. */
  async close(): Promise<void> {
    this.#isClosing = true
    await this.core.delivery.stop()
    try {
      do {
        await this.spool(this.#oldest(BATCH_MESSAGES, BATCH_BYTES))
        await this.core.committer.idle()
      } while (this.#store.count('messages') > 0)
    } catch (cause) {
      const lost = this.#store.count('messages')
      const code = cause instanceof SpoolError ? cause.code : 'SPOOL_ERR_WRITE'
      const what = `${lost} deferred messages could not be spooled, and are lost`
      throw new SpoolError(code, what, { file: this.#store.path, cause })
    } finally {
      await this.core.close()
    }
  }

  /** What is logged, and what is spooled, goes into the store first. */
  async settle(tx: Transaction): Promise<void> {
    const { records, events } = tx
    const move = this.#moves.get(tx)
    if (records.length === 0 && events.length === 0 && move === undefined) return
    await move?.pack(this.#packFrom)
    const weight = records.reduce((sum, { payload }) => sum + payload.length, move?.weight ?? 0)
    await this.under.committer.submit((under) => {
      for (const record of records) under.log(record)
      under.events.push(...events)
      move?.write(under)
    }, weight)
  }

  isMoved(tx: Transaction, key: Buffer): boolean {
    return this.#moves.get(tx)?.ids.has(key.toString('latin1')) ?? false
  }

  /** Within a transaction in memory: takes messages out, to be written to the store with it; `taken` count as being written. */
  #take(tx: Transaction, keys: readonly Buffer[], taken: Buffer[]): void {
    const { metas, bodies } = this.core
    const move = this.#moves.get(tx) ?? new Move()
    for (const key of this.#withSharers(keys)) {
      const stored = tx.get('messages', key)
      const record = metas.current(tx, key)
      if (stored === undefined || record === undefined) continue
      // What is not forced would be made here still, and be gone with the message.
      metas.begin(key)
      taken.push(key)
      const claim = record.lease && tx.get('leases', claimKey(record.lease.token))
      move.add(key, record, claim ? decodeClaim(claim) : null, () => this.#rowsOf(record))
      const { messagesRemoved, bytesRemoved } = tx.counters
      const afterwards = removeMessage(tx, bodies, key, decodeMeta(key, stored))
      // It only goes elsewhere.
      tx.add('messagesRemoved', messagesRemoved - tx.counters.messagesRemoved)
      tx.add('bytesRemoved', bytesRemoved - tx.counters.bytesRemoved)
      afterwards()
    }
    this.#moves.set(tx, move)
  }

  /** With all that share a body with one of them: a body is in one place. */
  #withSharers(keys: readonly Buffer[]): Buffer[] {
    const shared = new Set<string>()
    const found = new Map<string, Buffer>()
    const messages = this.#store.db('messages')
    for (const key of keys) {
      const row = messages.get(key)
      if (row === undefined) continue
      found.set(key.toString('latin1'), key)
      const { body } = decodeBodyRef(key, row)
      if (this.#store.db('refs').get(body) !== undefined) shared.add(body.toString('latin1'))
    }
    if (shared.size > 0) {
      for (const { key, value } of messages.getRange({})) {
        const { body } = decodeBodyRef(key, value)
        if (shared.has(body.toString('latin1'))) found.set(key.toString('latin1'), key)
      }
    }
    return [...found.values()].sort(Buffer.compare)
  }

  #rowsOf({ body, size }: MessageRecord): Buffer[] {
    const rows: Buffer[] = []
    for (let n = 0; n < chunkCount(size); n++) {
      rows.push(this.#store.db('chunks').get(chunkKey(body, n)) as Buffer)
    }
    return rows
  }

  #oldest(maxMessages: number, maxBytes: number): Buffer[] {
    const keys: Buffer[] = []
    let bytes = 0
    for (const { key, value } of this.#store.db('messages').getRange({ limit: maxMessages })) {
      bytes += decodeBodyRef(key, value).size + MESSAGE_BYTES
      if (keys.length > 0 && bytes > maxBytes) break
      keys.push(key)
    }
    return keys
  }

  /** Makes some room, whoever asks first; the others wait for it. */
  async #relieve(): Promise<void> {
    const messages = Math.min(BATCH_MESSAGES, Math.ceil(this.#maxMessages / 4))
    const bytes = Math.min(BATCH_BYTES, this.#maxBytes / 4)
    const oldest = this.#oldest(messages, bytes)
    // All of it is still coming.
    if (oldest.length === 0) return new Promise((resolve) => setImmediate(resolve))
    this.#relieving ??= this.spool(oldest).finally(() => {
      this.#relieving = null
    })
    await this.#relieving
  }

  #hasRoom({ messages, bytes }: { messages: number; bytes: number }): boolean {
    const { size } = this
    return (
      size.messages + this.#coming.messages + messages <= this.#maxMessages &&
      size.bytes + this.#coming.bytes + bytes <= this.#maxBytes
    )
  }

  #count({ messages, bytes }: { messages: number; bytes: number }, sign: 1 | -1): void {
    this.#coming.messages += sign * messages
    this.#coming.bytes += sign * bytes
  }

  /** A large body lies in the store already, and one that is shared belongs there. */
  #isHere({ body }: NewMessage): boolean {
    if (body instanceof Staged) return this.core.bodies.takes(body)
    return body instanceof Uint8Array && this.core.bodies.isSmall(body)
  }
}

function sizeOf(messages: readonly NewMessage[]): { messages: number; bytes: number } {
  let count = 0
  const bodies = new Map<unknown, number>()
  for (const { body, rcptto } of messages) {
    count += Array.isArray(rcptto) ? rcptto.length : 1
    bodies.set(body, 'length' in body ? body.length : 'size' in body ? body.size : 0)
  }
  let bytes = count * MESSAGE_BYTES
  for (const size of bodies.values()) bytes += size
  return { messages: count, bytes }
}
