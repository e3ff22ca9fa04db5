/** Storing messages: each with its log records, all of a call in one transaction or none. */
import { contentDropped } from './body-refs.js'
import type { Core } from './core.js'
import { invalid, ofMessage } from './errors.js'
import type {
  CopyOptions,
  MessageMeta,
  NewMessage,
  SwapOutOptions,
  SwapOutResult,
} from './message.js'
import { Storing } from './storing.js'
import type { SwapIns } from './swap-in.js'

/** Messages prepared before others have their turn. */
const TURN = 256

export class SwapOuts {
  readonly #core: Core
  readonly #swapIns: SwapIns

  constructor(core: Core, swapIns: SwapIns) {
    this.#core = core
    this.#swapIns = swapIns
  }

  async one(message: NewMessage, options: SwapOutOptions = {}): Promise<SwapOutResult> {
    this.#core.assertWritable()
    if (options.idempotencyKey !== undefined) {
      return (await this.#once(options.idempotencyKey, [message]))[0] as SwapOutResult
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
    if (share) return this.one(copyOf(this.#swapIns.meta(id), { refs: id }))
    const { meta, body } = this.#swapIns.snapshot(id)
    if (body === null) throw contentDropped(id)
    const staged = await this.#core.bodies.stage(body.stream)
    try {
      return await this.one(copyOf(meta, staged))
    } catch (error) {
      await staged.discard()
      throw error
    }
  }

  #once(key: string, messages: readonly NewMessage[]): Promise<SwapOutResult[]> {
    return this.#core.idempotency.storeOnce(key, messages, () => new Storing(this.#core))
  }

  async #add(
    storing: Storing,
    messages: readonly NewMessage[],
    name: (error: unknown, i: number) => unknown = (error) => error,
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
