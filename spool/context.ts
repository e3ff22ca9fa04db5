/**
 * A message's two dictionaries of strings, `conn` and `mess`, key by key. They are part of the meta: a
 * change is a meta write with its guarantees and its version. Iteration is in key order (of UTF-16 code
 * units, in which they are stored).
 */
import { invalid, SpoolError } from './errors.js'
import { type MessageRecord, pairs, unpairs } from './layout.js'
import type { MessageMeta, SwapOutMetaOptions, SwapOutMetaResult } from './message.js'
import { type ContextLimits, checkContext } from './validate.js'

export type DictionaryName = 'conn' | 'mess'

export interface SetOptions extends SwapOutMetaOptions {
  /** Over what is there; without it a key that exists is refused with SPOOL_ERR_EXISTS. */
  replace?: boolean | undefined
}

/** What a dictionary works on. */
export interface ContextAccess {
  readonly id: string
  readonly limits: ContextLimits
  /** Throws SPOOL_ERR_NOT_FOUND. */
  record(): MessageRecord
  /** Writes what `change` makes of the record as it stands. Throws as `swapOutMeta`. */
  update(
    change: (record: MessageRecord) => MessageRecord,
    options: SwapOutMetaOptions,
  ): Promise<SwapOutMetaResult>
}

/** Every call throws SPOOL_ERR_NOT_FOUND when there is no such message. */
export class ContextDictionary {
  readonly #access: ContextAccess
  readonly #name: DictionaryName

  /** For `Spool.context`. Throws SPOOL_ERR_INVALID. */
  constructor(access: ContextAccess, name: DictionaryName) {
    if (name !== 'conn' && name !== 'mess') throw invalid('dictionary', 'neither conn nor mess')
    this.#access = access
    this.#name = name
  }

  async get(key: string): Promise<string | undefined> {
    return this.#read().get(key)
  }

  async exists(key: string): Promise<boolean> {
    return this.#read().has(key)
  }

  async size(): Promise<number> {
    return this.#read().size
  }

  async firstKey(): Promise<string | undefined> {
    return this.#read().keys().next().value
  }

  /** The key after this one, which need not exist itself. */
  async nextKey(key: string): Promise<string | undefined> {
    for (const next of this.#read().keys()) if (next > key) return next
    return undefined
  }

  /** In key order. */
  async entries(): Promise<[string, string][]> {
    return [...this.#read()]
  }

  /** Throws SPOOL_ERR_EXISTS, and SPOOL_ERR_INVALID for what is no string or over the limits. */
  async set(
    key: string,
    value: string,
    { replace = false, ...options }: SetOptions = {},
  ): Promise<SwapOutMetaResult & { created: boolean }> {
    let created = false
    const result = await this.#change((entries) => {
      created = !entries.has(key)
      if (!created && !replace) throw this.#exists(`has a key ${JSON.stringify(key)} already`)
      entries.set(key, value)
    }, options)
    return { ...result, created }
  }

  /** Makes the dictionary hold these entries and no others. Throws as `set`, unless it was empty. */
  async setAll(
    given: Record<string, string>,
    { replace = false, ...options }: SetOptions = {},
  ): Promise<SwapOutMetaResult> {
    return this.#change((entries) => {
      if (entries.size > 0 && !replace) throw this.#exists('is not empty')
      entries.clear()
      for (const [key, value] of Object.entries(given)) entries.set(key, value)
    }, options)
  }

  /** Throws SPOOL_ERR_NOT_FOUND when there is no such key. */
  async delete(key: string, options: SwapOutMetaOptions = {}): Promise<SwapOutMetaResult> {
    return this.#change((entries) => {
      if (entries.delete(key)) return
      const { id } = this.#access
      throw new SpoolError(
        'SPOOL_ERR_NOT_FOUND',
        `the ${this.#name} dictionary of ${id} has no key ${JSON.stringify(key)}`,
        { id },
      )
    }, options)
  }

  /** Removes every key. */
  async clean(options: SwapOutMetaOptions = {}): Promise<SwapOutMetaResult> {
    return this.#change((entries) => entries.clear(), options)
  }

  #read(): Map<string, string> {
    return toMap(this.#access.record()[this.#name])
  }

  #change(
    edit: (entries: Map<string, string>) => void,
    options: SwapOutMetaOptions,
  ): Promise<SwapOutMetaResult> {
    return this.#access.update((record) => {
      const entries = toMap(record[this.#name])
      edit(entries)
      const context: MessageMeta['context'] = {
        conn: unpairs(record.conn),
        mess: unpairs(record.mess),
        [this.#name]: Object.fromEntries(entries),
      }
      checkContext(context, this.#access.limits)
      return { ...record, [this.#name]: pairs(context[this.#name]), version: record.version + 1 }
    }, options)
  }

  #exists(what: string): SpoolError {
    const { id } = this.#access
    return new SpoolError('SPOOL_ERR_EXISTS', `the ${this.#name} dictionary of ${id} ${what}`, {
      id,
      advice: 'ask for it to be replaced',
    })
  }
}

function toMap(stored: readonly string[]): Map<string, string> {
  const entries = new Map<string, string>()
  for (let i = 0; i + 1 < stored.length; i += 2) {
    entries.set(stored[i] as string, stored[i + 1] as string)
  }
  return entries
}
