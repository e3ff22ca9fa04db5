/** A dictionary of a message: `client.context(id, 'conn' | 'mess')`. */

import { ClientError } from './errors.js'
import type { CallOptions, Transport } from './transport.js'
import type { ChangedContextJson } from './types.js'

export interface ContextChange extends CallOptions {
  /** The version that the meta must have; else ClientError 412. */
  readonly ifVersion?: number | undefined
  /** false: visible at once, durable with what comes after it. */
  readonly force?: boolean | undefined
}

export interface ContextSet extends ContextChange {
  /** Over what is there; else that is ClientError 409. */
  readonly replace?: boolean | undefined
}

export class ContextCalls {
  readonly #transport: Transport
  readonly #path: string

  constructor(transport: Transport, id: string, dictionary: 'conn' | 'mess') {
    this.#transport = transport
    this.#path = `/v1/messages/${encodeURIComponent(id)}/context/${dictionary}`
  }

  entries(options: CallOptions = {}): Promise<Record<string, string>> {
    return this.#transport.json({ ...options, path: this.#path })
  }

  /** undefined when there is no such key, or no such message. */
  async get(key: string, options: CallOptions = {}): Promise<string | undefined> {
    try {
      return await this.#transport.json<string>({ ...options, path: this.#at(key) })
    } catch (error) {
      if (error instanceof ClientError && error.status === 404) return undefined
      throw error
    }
  }

  set(key: string, value: string, options: ContextSet = {}): Promise<ChangedContextJson> {
    return this.#change('PUT', this.#at(key), options, value)
  }

  /** All of its entries at once. */
  setAll(
    entries: Readonly<Record<string, string>>,
    options: ContextSet = {},
  ): Promise<ChangedContextJson> {
    return this.#change('PUT', this.#path, options, entries)
  }

  delete(key: string, options: ContextChange = {}): Promise<ChangedContextJson> {
    return this.#change('DELETE', this.#at(key), options)
  }

  /** Empties it. */
  clean(options: ContextChange = {}): Promise<ChangedContextJson> {
    return this.#change('DELETE', this.#path, options)
  }

  #at(key: string): string {
    return `${this.#path}/${encodeURIComponent(key)}`
  }

  #change(
    method: 'PUT' | 'DELETE',
    path: string,
    { ifVersion, force, replace, ...options }: ContextSet,
    json?: unknown,
  ): Promise<ChangedContextJson> {
    const match: Record<string, string> =
      ifVersion === undefined ? {} : { 'if-match': `"${ifVersion}"` }
    return this.#transport.json({
      ...options,
      method,
      path,
      query: { force, replace },
      headers: { ...options.headers, ...match },
      json,
      // What only an untouched dictionary takes is refused the second time, done or not.
      repeatable:
        ifVersion === undefined && (method === 'DELETE' ? path === this.#path : replace === true),
    })
  }
}
