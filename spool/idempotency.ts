/**
 * Exactly-once storing: what was stored under a caller's key is kept, with its answer, in the transaction of
 * its messages, so that there are both or neither. Who asks again with the same key gets that answer for
 * the same content, and a refusal for another, until it ends; also over a restart. Of several who ask at
 * once one stores. What has ended is removed a bounded number at a time; how many are kept is bounded.
 */
import { createHash } from 'node:crypto'
import { type Bodies, Staged } from './bodies.js'
import type { Clock } from './clock.js'
import type { Committer, Transaction } from './committer.js'
import { invalid, ofMessage, SpoolError } from './errors.js'
import {
  decodeKept,
  encodeKept,
  isKeptEndKey,
  type KeptAnswer,
  keptEndKey,
  keptEnds,
  keptKey,
  pack,
  pairs,
  splitKeptEnd,
} from './layout.js'
import type { ContentOf, NewMessage, StagedBody, SwapOutResult } from './message.js'
import { formatId, parseId } from './message-id.js'
import type { RowStore } from './rows.js'
import type { Storing } from './storing.js'
import { type ContextLimits, type Envelope, isCount, validateMessage } from './validate.js'

export interface IdempotencyOptions {
  /** How long a key is kept; 86,400 (a day) when not given. */
  seconds?: number | undefined
  /** How many are kept; 10,000,000 when not given. A further one is refused with SPOOL_ERR_KEYS_FULL. */
  maxKeys?: number | undefined
}

export interface IdempotencyParts {
  readonly store: RowStore
  readonly committer: Committer
  readonly bodies: Bodies
  readonly clock: Clock
  readonly contextLimits: ContextLimits
}

interface Asked {
  readonly message: NewMessage
  readonly envelope: Envelope
  readonly body: Staged | ContentOf
}

const DEFAULT_SECONDS = 86_400
const DEFAULT_MAX_KEYS = 10_000_000
const MAX_SECONDS = 366 * 86_400
const MAX_KEY_BYTES = 255
/** Messages prepared before others have their turn. */
const TURN = 256
/** Bytes of the rows of a key, beside its answer. */
const KEPT_WEIGHT = 256
/** Removed in one operation. */
const STEP = 256
const TICK_MS = 1000
/** A page of LMDB: keys are spread evenly, so each look-up is likely to meet one that is not mapped yet. */
const PAGE_BYTES = 4096
const NONE = Buffer.alloc(0)

export class IdempotencyKeys {
  readonly #parts: IdempotencyParts
  readonly #milliseconds: number
  readonly #maxKeys: number
  #timer: NodeJS.Timeout | undefined
  #busy: Promise<void> | null = null
  #stopped = false

  /** Throws SPOOL_ERR_INVALID for a setting. */
  constructor(
    parts: IdempotencyParts,
    { seconds = DEFAULT_SECONDS, maxKeys = DEFAULT_MAX_KEYS }: IdempotencyOptions = {},
  ) {
    if (!(seconds > 0 && seconds <= MAX_SECONDS)) {
      throw invalid('idempotency.seconds', `not a number of seconds up to ${MAX_SECONDS}`)
    }
    if (!isCount(maxKeys)) throw invalid('idempotency.maxKeys', 'not a count')
    this.#parts = parts
    this.#milliseconds = Math.ceil(seconds * 1000)
    this.#maxKeys = maxKeys
  }

  /** Removes what has ended from time to time; a look-up each time when there is none. */
  start(): void {
    this.#timer = setInterval(() => void this.expire().catch(() => undefined), TICK_MS).unref()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#timer)
    await this.#busy?.catch(() => undefined)
  }

  /** Keys that are kept, those that have ended and are not removed yet among them. */
  get size(): number {
    return Math.ceil(this.#parts.store.count('idempotency') / 2)
  }

  /**
   * Stores messages under a key, all or none, or gives the answer that is kept. Then, too, their staged bodies
   * are dealt with; only when this throws are they the caller's again. Throws SPOOL_ERR_KEY_REUSED,
   * SPOOL_ERR_KEYS_FULL, SPOOL_ERR_CORRUPT, and what storing throws.
   */
  async storeOnce(
    name: string,
    messages: readonly NewMessage[],
    begin: () => Storing,
  ): Promise<SwapOutResult[]> {
    const key = checkKey(name)
    const ours: StagedBody[] = []
    try {
      const staged: Asked[] = []
      for (const [i, message] of messages.entries()) {
        try {
          const envelope = validateMessage(message, this.#parts.contextLimits)
          const body = await this.#stage(message.body, ours)
          staged.push({ message: { ...message, body }, envelope, body })
        } catch (error) {
          throw ofMessage(error, i)
        }
        if (i % TURN === TURN - 1) await turn()
      }
      const fingerprint = fingerprintOf(staged)
      // First what is committed: with it, content that is shared need not be there any more.
      const kept = this.#find(key) ?? (await this.#store(key, fingerprint, staged, begin()))
      if (!('kept' in kept)) return kept
      const results = replay(kept.kept, fingerprint)
      for (const { body } of staged) if (body instanceof Staged) await body.discard()
      return results
    } finally {
      // Those that are in a message are not touched by this.
      for (const body of ours) await body.discard()
    }
  }

  async #stage(body: NewMessage['body'], ours: StagedBody[]): Promise<Staged | ContentOf> {
    if (body instanceof Uint8Array) {
      const staged = await this.#parts.bodies.stage(body)
      ours.push(staged)
      return staged
    }
    if (body instanceof Staged || typeof (body as ContentOf | undefined)?.refs === 'string') {
      return body as Staged | ContentOf
    }
    throw invalid('body', 'neither bytes nor a staged body')
  }

  async #store(
    key: Buffer,
    fingerprint: Buffer,
    messages: readonly Asked[],
    storing: Storing,
  ): Promise<SwapOutResult[] | { kept: KeptAnswer }> {
    let isStored = false
    try {
      for (const [i, { message }] of messages.entries()) {
        await storing.add(message).catch((error: unknown) => {
          throw ofMessage(error, i)
        })
        if (i % TURN === TURN - 1) await turn()
      }
      const weight = storing.weight + KEPT_WEIGHT + storing.results.length * 64
      // What is found is a result, not an error: it holds only once the transaction it was seen in is durable.
      const kept = await this.#parts.committer.submit((tx) => {
        const found = this.#keep(tx, key, fingerprint, storing.results)
        if (found === undefined) storing.write(tx)
        return found
      }, weight)
      isStored = kept === undefined
      return kept === undefined ? storing.results : { kept }
    } finally {
      if (!isStored) await storing.giveUp()
    }
  }

  #find(key: Buffer): { kept: KeptAnswer } | undefined {
    this.#parts.store.touched(PAGE_BYTES)
    const kept = this.#current(this.#parts.store.db('idempotency').get(key))
    return kept && { kept }
  }

  /**
   * Within the transaction that stores: keeps the answer, or returns the one that is kept already, and
   * then nothing may be stored. Throws SPOOL_ERR_KEYS_FULL, SPOOL_ERR_CORRUPT.
   */
  #keep(
    tx: Transaction,
    key: Buffer,
    fingerprint: Buffer,
    results: readonly SwapOutResult[],
  ): KeptAnswer | undefined {
    const row = tx.get('idempotency', key)
    const kept = this.#current(row)
    if (kept !== undefined) return kept
    if (row === undefined && this.size >= this.#maxKeys) throw keysFull(this.#maxKeys)
    const ended = row && decodeKept(row)
    if (ended !== undefined) tx.remove('idempotency', keptEndKey(ended.until, key))
    const until = this.#parts.clock.now() + this.#milliseconds
    const answer = {
      until,
      fingerprint,
      results: results.map(({ ids, size, sha256 }) => ({
        ids: ids.map((id) => parseId(id)),
        size,
        sha256: Buffer.from(sha256, 'hex'),
      })),
    }
    tx.put('idempotency', key, encodeKept(answer))
    tx.put('idempotency', keptEndKey(until, key), NONE)
    return undefined
  }

  /** Removes what has ended; resolves when there is no more of it. */
  expire(): Promise<void> {
    this.#busy ??= this.#expire().finally(() => {
      this.#busy = null
    })
    return this.#busy
  }

  async #expire(): Promise<void> {
    const { store, committer, clock } = this.#parts
    const range = { ...keptEnds(clock.now()), limit: STEP }
    while (!this.#stopped) {
      const ends = [...store.db('idempotency').getKeys(range)].map((end) => Buffer.from(end))
      const last = ends.at(-1)
      if (last === undefined) return
      // What is not removed, being damaged, is passed over.
      range.start = Buffer.concat([last, NONE, Buffer.alloc(1)])
      store.touched(ends.length * PAGE_BYTES)
      await committer.submit((tx) => {
        for (const end of ends.filter(isKeptEndKey)) removeEnded(tx, end)
      }, ends.length * 256)
    }
  }

  #current(row: Buffer | undefined): KeptAnswer | undefined {
    if (row === undefined) return undefined
    const kept = decodeKept(row)
    if (kept === undefined) {
      throw new SpoolError('SPOOL_ERR_CORRUPT', 'what is kept under the key cannot be read', {
        advice: 'run the spool repair',
      })
    }
    return kept.until > this.#parts.clock.now() ? kept : undefined
  }
}

function removeEnded(tx: Transaction, end: Buffer): void {
  const { until, key } = splitKeptEnd(end)
  const row = tx.get('idempotency', key)
  const kept = row && decodeKept(row)
  // One that cannot be read keeps its end, and is for repair.
  if (row !== undefined && kept === undefined) return
  tx.remove('idempotency', end)
  // Another end: kept anew since.
  if (kept?.until === until) tx.remove('idempotency', key)
}

/** The answer that was given, given again. Throws SPOOL_ERR_KEY_REUSED when it was for something else. */
function replay(kept: KeptAnswer, fingerprint: Buffer): SwapOutResult[] {
  if (!kept.fingerprint.equals(fingerprint)) {
    throw new SpoolError(
      'SPOOL_ERR_KEY_REUSED',
      'something else was stored under this idempotency key',
      {
        field: 'idempotencyKey',
        advice: 'give each message a key of its own, and repeat it only with the same content',
      },
    )
  }
  return kept.results.map(({ ids, size, sha256 }) => ({
    result: 'complete',
    ids: ids.map((id) => formatId(Buffer.from(id))),
    size,
    sha256: Buffer.from(sha256).toString('hex'),
    replayed: true,
  }))
}

/** The key as rows know it. Throws SPOOL_ERR_INVALID. */
function checkKey(key: string): Buffer {
  if (typeof key !== 'string' || key === '') throw invalid('idempotencyKey', 'empty')
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) {
    throw invalid('idempotencyKey', `over ${MAX_KEY_BYTES} bytes`)
  }
  return keptKey(key)
}

/** Of all that is asked for: envelopes, options and contents, in order. */
function fingerprintOf(messages: readonly Asked[]): Buffer {
  const hashing = createHash('sha256')
  for (const { envelope, body } of messages) {
    const { mailfrom, rcptto, batchId, connectionId, protocol, bindingGroup, binding } = envelope
    const { nextAttempt, retention, peer, context } = envelope
    hashing.update(
      pack([
        [mailfrom, rcptto, batchId, connectionId, protocol, bindingGroup, binding],
        [nextAttempt === undefined ? 'now' : nextAttempt, retention, peer],
        [pairs(context.conn), pairs(context.mess)],
        body instanceof Staged ? [body.size, body.digest] : body.refs,
      ]),
    )
  }
  return hashing.digest()
}

function keysFull(maxKeys: number): SpoolError {
  return new SpoolError('SPOOL_ERR_KEYS_FULL', `${maxKeys} idempotency keys are kept already`, {
    advice: 'wait for some to end, or allow for more of them, or for a shorter time',
  })
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
