/**
 * Hooks for code that embeds the spool, and the objects that it may attach to messages. They run in the
 * spool's own thread and hold it up: they have to be quick.
 */
import { SpoolError } from './errors.js'
import { type MessageRecord, metaOf } from './layout.js'
import type { MessageMeta, NewMessage, SwapOutResult } from './message.js'
import { formatId } from './message-id.js'

export interface SpoolHooks {
  /**
   * Before a message is stored, and before its meta, context or content is changed or a failure is
   * counted: throw to refuse, and nothing is written. The caller gets what is thrown, when it is a
   * SpoolError, else SPOOL_ERR_REFUSED. Not asked about claims, which change nothing of the message.
   */
  preSwapOutMeta?: ((meta: MessageMeta) => void) | undefined
  /** After meta was read with `meta`, `refetchMeta` or `snapshot`; with the error when that failed. */
  postSwapInMeta?: ((id: string, meta: MessageMeta | null, error: unknown) => void) | undefined
  /**
   * Before `swapOutMulti` stores: takes over by giving the results, one a message, in order, once all is
   * durable; null leaves it to the spool. What it throws is the caller's.
   */
  swapOutMulti?: ((messages: readonly NewMessage[]) => Promise<SwapOutResult[] | null>) | undefined
}

export class Hooks {
  readonly #hooks: SpoolHooks
  /** By message, in memory only. */
  readonly #objects = new Map<string, Map<string, unknown>>()

  constructor(hooks: SpoolHooks = {}) {
    this.#hooks = hooks
  }

  /** Throws when the hook refuses. */
  check(key: Buffer, record: MessageRecord): void {
    const hook = this.#hooks.preSwapOutMeta
    if (hook === undefined) return
    try {
      hook(metaOf(key, record))
    } catch (cause) {
      if (cause instanceof SpoolError) throw cause
      const id = formatId(key)
      throw new SpoolError('SPOOL_ERR_REFUSED', `the meta of ${id} was refused`, { id, cause })
    }
  }

  /** Reads meta and tells the hook, also when that fails. */
  swappedIn<T>(id: string, read: () => T, metaIn: (read: T) => MessageMeta): T {
    const hook = this.#hooks.postSwapInMeta
    if (hook === undefined) return read()
    let result: T
    try {
      result = read()
    } catch (error) {
      hook(id, null, error)
      throw error
    }
    hook(id, metaIn(result), null)
    return result
  }

  /** The results of a hook that took over; null when there is none or it did not. */
  async swapOutMulti(messages: readonly NewMessage[]): Promise<SwapOutResult[] | null> {
    return (await this.#hooks.swapOutMulti?.(messages)) ?? null
  }

  objects(key: Buffer): Map<string, unknown> {
    const name = key.toString('latin1')
    let objects = this.#objects.get(name)
    if (objects === undefined) {
      objects = new Map()
      this.#objects.set(name, objects)
    }
    return objects
  }

  /** After a commit: the objects of what it removed go. */
  committed(
    writes: readonly { db: string; key: Buffer; value: Buffer | undefined }[],
    goesOn: (key: Buffer) => boolean,
  ): void {
    if (this.#objects.size === 0) return
    for (const { db, key, value } of writes) {
      if (db !== 'messages' || value !== undefined || goesOn(key)) continue
      this.#objects.delete(key.toString('latin1'))
    }
  }
}
