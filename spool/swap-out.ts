/** Storing messages: each with its log records, all of a call in one transaction or none. */
import { contentDropped } from './body-refs.js'
import type { Core } from './core.js'
import { invalid, ofMessage, SpoolError } from './errors.js'
import type {
  ContentOf,
  CopyOptions,
  MessageMeta,
  NewMessage,
  SwapOutOptions,
  SwapOutResult,
} from './message.js'
import { Storing } from './storing.js'
import type { Tiers } from './tiers.js'

/** Messages prepared before others have their turn. */
const TURN = 256

/** Says of which message an error is. */
type NameError = (error: unknown, i: number) => unknown
const asItIs: NameError = (error) => error

export class SwapOuts {
  readonly #core: Core
  readonly #tiers: Tiers

  constructor(tiers: Tiers) {
    this.#core = tiers.stored.core
    this.#tiers = tiers
  }

  async one(message: NewMessage, options: SwapOutOptions = {}): Promise<SwapOutResult> {
    this.#core.assertWritable()
    const { idempotencyKey } = options
    if (message?.durability === 'deferred' || this.#tiers.deferral !== null) {
      const held = await this.#hold([message], idempotencyKey)
      if (held !== null) return held[0] as SwapOutResult
    }
    if (idempotencyKey !== undefined) {
      return (await this.#once(idempotencyKey, [message]))[0] as SwapOutResult
    }
    const storing = new Storing(this.#core)
    if (!storing.addAtOnce(message)) await this.#add(storing, [message])
    await this.#commit(storing)
    return storing.results[0] as SwapOutResult
  }

  async multi(
    messages: readonly NewMessage[],
    { idempotencyKey }: SwapOutOptions = {},
  ): Promise<SwapOutResult[]> {
    this.#core.assertWritable()
    if (!Array.isArray(messages)) throw invalid('messages', 'not a list')
    if (messages.length === 0) return []
    const held = await this.#hold(messages, idempotencyKey, ofMessage)
    if (held !== null) return held
    // The hook is not asked about these: only the spool can keep messages and key together.
    if (idempotencyKey !== undefined) return this.#once(idempotencyKey, messages)
    const taken = await this.#core.hooks.swapOutMulti(messages)
    if (taken !== null) return taken
    const storing = new Storing(this.#core)
    await this.#add(storing, messages, ofMessage)
    await this.#commit(storing)
    return storing.results
  }

  async copy(id: string, { share = false }: CopyOptions): Promise<SwapOutResult> {
    this.#core.assertWritable()
    const { swapIns } = this.#tiers.of(id)
    if (share) return this.one(copyOf(swapIns.meta(id), { refs: id }))
    const { meta, body } = swapIns.snapshot(id)
    if (body === null) throw contentDropped(id)
    const staged = await this.#core.bodies.stage(body.stream)
    try {
      return await this.one(copyOf(meta, staged))
    } catch (error) {
      await staged.discard()
      throw error
    }
  }

  /** Keeps messages in memory when all of them may be; null when they are to be stored. */
  async #hold(
    messages: readonly NewMessage[],
    idempotencyKey: string | undefined,
    name: NameError = asItIs,
  ): Promise<SwapOutResult[] | null> {
    const { deferral } = this.#tiers
    const count = messages.filter((message) => message?.durability === 'deferred').length
    if (deferral === null) {
      if (count > 0) throw unsafe()
      return null
    }
    // What they share has to be in the store, and so has the answer to a key.
    for (const message of messages) {
      const refs = (message?.body as ContentOf | undefined)?.refs
      if (typeof refs === 'string') await this.#tiers.settled(refs)
    }
    const isHeld = count === messages.length && idempotencyKey === undefined
    return isHeld ? deferral.swapOut(messages, name) : null
  }

  #once(key: string, messages: readonly NewMessage[]): Promise<SwapOutResult[]> {
    return this.#core.idempotency.storeOnce(key, messages, () => new Storing(this.#core))
  }

  async #add(
    storing: Storing,
    messages: readonly NewMessage[],
    name: NameError = asItIs,
  ): Promise<void> {
    for (const [i, message] of messages.entries()) {
      try {
        if (!storing.addAtOnce(message)) await storing.add(message)
      } catch (error) {
        await storing.giveUp()
        throw name(error, i)
      }
      if (i % TURN === TURN - 1) await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async #commit(storing: Storing): Promise<void> {
    try {
      await this.#core.committer.submit((tx) => storing.write(tx), storing.weight)
    } catch (error) {
      await storing.giveUp()
      throw error
    }
  }
}

function unsafe(): SpoolError {
  return new SpoolError('SPOOL_ERR_UNSAFE', 'deferred spooling is not switched on', {
    field: 'durability',
    advice: 'switch on unsafe spooling, or leave it durable',
  })
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
