/**
 * One call: sent over fetch, watched for standstill, tried again where that does no harm, its refusal turned into a
 * ClientError. Knows HTTP, and nothing of what the service does.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type Body, bytesOf, isReplayable } from './body.js'
import { ClientError } from './errors.js'
import {
  Backoff,
  isUncertain,
  mayRetry,
  ONCE,
  parseRetryAfter,
  type RetryOptions,
} from './retry.js'
import type { ProblemJson } from './types.js'
import { unixFetch } from './unix-fetch.js'
import { Watch } from './watch.js'

/** What any call takes. */
export interface CallOptions {
  /** Ends the call; it then throws the signal's reason. `AbortSignal.timeout(ms)` bounds the whole of it, retries included. */
  readonly signal?: AbortSignal | undefined
  /** Milliseconds in which nothing moves before an attempt is given up; default: the client's. */
  readonly timeout?: number | undefined
  /** default: the client's; false: one attempt. */
  readonly retry?: RetryOptions | false | undefined
  /** Sent with this call, beside the client's. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export interface ClientOptions {
  /** Sent as `Authorization: Bearer`. */
  readonly token?: string | undefined
  /** Sent with each call. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Milliseconds in which nothing moves, neither way, before an attempt is given up; default 60,000. */
  readonly timeout?: number | undefined
  /** When what may safely be repeated is tried again; false: never. */
  readonly retry?: RetryOptions | false | undefined
  /** Told of each failure that is followed by another attempt, in so many milliseconds. */
  readonly onRetry?: ((error: ClientError, wait: number) => void) | undefined
  /** In place of Node's own: one with a proxy, or with certificates of one's own. */
  readonly fetch?: typeof globalThis.fetch | undefined
}

export type Query = Readonly<
  Record<string, string | number | boolean | readonly string[] | null | undefined>
>

export interface Call extends CallOptions {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | undefined
  readonly path: string
  readonly query?: Query | undefined
  /** Sent as `application/json`. */
  readonly json?: unknown
  /** Sent as it is; `type` says what it is. */
  readonly body?: Body | undefined
  readonly type?: string | undefined
  /** Whether doing it twice does no harm; default: true for GET only. */
  readonly repeatable?: boolean | undefined
  /** The answer that such a refusal of a repetition says the attempt before had, as text; undefined: none. */
  readonly doneBefore?: ((error: ClientError) => string | undefined) | undefined
}

/** For a removal: what is not there any more when it is repeated, the attempt before has removed. */
export const goneBefore = ({ status }: ClientError) => (status === 404 ? '' : undefined)

export interface Streamed {
  readonly response: Response
  /** Fails with a ClientError when the connection breaks. Ends it when it is left. */
  readonly body: AsyncGenerator<Uint8Array, void, void>
}

export class Transport {
  readonly #base: string
  readonly #options: ClientOptions
  readonly #fetch: typeof globalThis.fetch

  /** Throws TypeError when it is not a URL. */
  constructor(url: string | URL, options: ClientOptions) {
    const { protocol, pathname, href } = new URL(url)
    if (!['http:', 'https:', 'unix:'].includes(protocol))
      throw new TypeError(`${href}: give a URL that begins with http:, https: or unix:`)
    const socket = protocol === 'unix:' ? decodeURIComponent(pathname) : null
    this.#base = socket === null ? href.replace(/\/+$/, '') : 'http://localhost'
    this.#fetch = options.fetch ?? (socket === null ? globalThis.fetch : unixFetch(socket))
    this.#options = options
  }

  /** The answer's JSON; undefined when it has none. */
  async json<T>(call: Call): Promise<T> {
    const text = await this.text(call)
    return (text === '' ? undefined : parseJson(text, call)) as T
  }

  async text(call: Call): Promise<string> {
    const take = async (response: Response, watch: Watch) => {
      const text = await response.text()
      if (call.body === undefined) watch.end()
      else watch.cut()
      return text
    }
    return this.#retrying(call, take, call.doneBefore)
  }

  /** The answer as it comes. Once it has begun to come nothing is tried again. */
  async stream(call: Call): Promise<Streamed> {
    return this.#retrying(call, async (response, watch) => {
      watch.pause()
      return { response, body: this.#read(response, watch) }
    })
  }

  async #retrying<T>(
    call: Call,
    take: (response: Response, watch: Watch) => Promise<T>,
    doneBefore?: (error: ClientError) => T | undefined,
  ): Promise<T> {
    const { method = 'GET', body, repeatable = method === 'GET', signal } = call
    const { retry = this.#options.retry ?? {} } = call
    const replayable = body === undefined || isReplayable(body)
    const backoff = new Backoff(retry === false ? ONCE : retry)
    for (let mayBeDone = false; ; ) {
      try {
        return await this.#attempt(call, take)
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof ClientError)) throw error
        const done = mayBeDone ? doneBefore?.(error) : undefined
        if (done !== undefined) return done
        const wait =
          replayable && mayRetry(error, repeatable) ? backoff.next(error.retryAfter) : null
        if (wait === null) throw error
        mayBeDone ||= isUncertain(error)
        this.#options.onRetry?.(error, wait)
        await delay(wait, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted())
      }
    }
  }

  async #attempt<T>(
    call: Call,
    take: (response: Response, watch: Watch) => Promise<T>,
  ): Promise<T> {
    const { method = 'GET', signal, timeout = this.#options.timeout ?? 60_000 } = call
    signal?.throwIfAborted()
    const watch = new Watch(timeout, signal)
    const source: { failure?: unknown } = {}
    try {
      const response = await this.#fetch(this.#base + call.path + queryText(call.query), {
        method,
        headers: this.#headers(call),
        signal: watch.signal,
        ...requestBody(call, watch, source),
      })
      watch.moved()
      if (!response.ok) throw await this.#problem(response)
      return await take(response, watch)
    } catch (error) {
      const failure = this.#failure(error, watch)
      watch.cut()
      throw 'failure' in source ? source.failure : failure
    }
  }

  async *#read(response: Response, watch: Watch): AsyncGenerator<Uint8Array, void, void> {
    const reader = response.body?.getReader()
    try {
      for (;;) {
        watch.moved()
        const read = await reader?.read()
        watch.pause()
        if (read === undefined || read.done) return
        yield read.value
      }
    } catch (error) {
      throw this.#failure(error, watch)
    } finally {
      watch.cut()
    }
  }

  #headers({ json, type, headers }: Call): Record<string, string> {
    const { token, headers: common } = this.#options
    const contentType = json === undefined ? type : 'application/json'
    return {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...common,
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
      ...headers,
    }
  }

  /** What an attempt failed with, for the caller: its own abort, or a ClientError. */
  #failure(error: unknown, { signal }: Watch): unknown {
    if (error instanceof ClientError) return error
    if (signal.aborted) return signal.reason
    // `fetch failed` and `terminated` say nothing; what they were caused by does.
    const { cause = error } = error as Error
    const { message, code } = cause as NodeJS.ErrnoException
    const detail = `cannot reach ${this.#base}: ${message || code}`
    return new ClientError(0, 'UNREACHABLE', detail, { cause: error })
  }

  async #problem(response: Response): Promise<ClientError> {
    const text = await response.text()
    const problem = parseProblem(text)
    return new ClientError(
      response.status,
      problem.code ?? `HTTP_${response.status}`,
      problem.detail ?? `${this.#base} answered ${response.status} ${response.statusText}`,
      {
        errors: problem.errors,
        reasons: problem.reasons,
        requestId: problem.instance,
        retryAfter: parseRetryAfter(response.headers.get('retry-after')),
      },
    )
  }
}

function requestBody(
  { json, body }: Call,
  watch: Watch,
  source: { failure?: unknown },
): RequestInit & { duplex?: string } {
  if (json !== undefined) return { body: JSON.stringify(json) }
  if (body === undefined || body instanceof Uint8Array) return body ? { body } : {}
  async function* watched(from: Body): AsyncGenerator<Uint8Array> {
    try {
      for await (const bytes of bytesOf(from)) {
        // fetch would go on asking, with nowhere to send it.
        if (watch.signal.aborted) break
        watch.moved()
        yield bytes
      }
    } catch (error) {
      source.failure = error
      throw error
    }
    // By a failure, never by an end: the request must not look whole.
    watch.signal.throwIfAborted()
  }
  return { body: ReadableStream.from(watched(body)), duplex: 'half' }
}

function queryText(query: Query = {}): string {
  const text = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === null) continue
    for (const item of Array.isArray(value) ? value : [value]) text.append(name, String(item))
  }
  return text.size === 0 ? '' : `?${text}`
}

function parseJson(text: string, { method = 'GET', path }: Call): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new ClientError(0, 'BAD_ANSWER', `${method} ${path} was not answered with JSON`, {
      cause,
    })
  }
}

function parseProblem(text: string): Partial<ProblemJson> {
  try {
    const problem: unknown = JSON.parse(text)
    return typeof problem === 'object' && problem !== null ? problem : {}
  } catch {
    // A proxy's page, or nothing.
    return {}
  }
}
