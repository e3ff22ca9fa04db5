/** A typed client of the REST service, over fetch. Bodies stream both ways. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Static } from 'typebox'
import type { Problem } from './problem.js'
import {
  type Injected,
  type JobSchema,
  MESSAGE_TYPE,
  type Meta,
  type Quarantined,
  type SpoolState,
} from './schemas.js'

/** The service's refusal, or that it could not be reached (status 0, code `UNREACHABLE`). */
export class ClientError extends Error {
  override readonly name = 'ClientError'
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

export interface InjectOptions {
  /** Envelope sender; empty for the null sender. */
  readonly mailfrom: string
  readonly rcptto: readonly string[]
  readonly body: Uint8Array | AsyncIterable<Uint8Array>
}

export type MetaJson = Static<typeof Meta>
export type InjectedJson = Static<typeof Injected>
export type JobJson = Static<typeof JobSchema>
export type QuarantinedJson = Static<typeof Quarantined>
export type SpoolStateJson = Static<typeof SpoolState>

export interface ListOptions {
  readonly state?: string | undefined
  readonly domain?: string | undefined
  readonly binding?: string | undefined
}

const FIRST_POLL_MS = 20

export class BobbinClient {
  readonly #base: string

  /** @param url where the service is, as in `http://127.0.0.1:8025` */
  constructor(url: string) {
    this.#base = url.replace(/\/+$/, '')
  }

  /** Resolves once the message is durable. */
  async inject({ mailfrom, rcptto, body }: InjectOptions): Promise<InjectedJson> {
    const query = new URLSearchParams({ from: mailfrom })
    for (const to of rcptto) query.append('to', to)
    const streamed = !(body instanceof Uint8Array)
    const response = await this.#fetch(`/v1/messages?${query}`, {
      method: 'POST',
      headers: { 'content-type': MESSAGE_TYPE },
      body: streamed ? ReadableStream.from(body) : body,
      ...(streamed ? { duplex: 'half' } : {}),
    })
    return (await response.json()) as InjectedJson
  }

  async meta(id: string): Promise<MetaJson> {
    return (await this.#json(`/v1/messages/${encodeURIComponent(id)}/meta`)) as MetaJson
  }

  /** The content, as it comes. */
  async content(id: string): Promise<AsyncIterable<Uint8Array>> {
    const response = await this.#fetch(`/v1/messages/${encodeURIComponent(id)}/content`)
    return response.body ?? new Blob([]).stream()
  }

  async remove(id: string): Promise<void> {
    await this.#fetch(`/v1/messages/${encodeURIComponent(id)}`, { method: 'DELETE' })
  }

  /** Every message that fits, page after page. */
  async *list(options: ListOptions = {}): AsyncGenerator<MetaJson> {
    let cursor: string | null = null
    do {
      const query = new URLSearchParams({ limit: '1000' })
      for (const [name, value] of Object.entries({ ...options, cursor: cursor ?? undefined })) {
        if (value !== undefined) query.set(name, String(value))
      }
      const page = (await this.#json(`/v1/messages?${query}`)) as {
        messages: MetaJson[]
        cursor: string | null
      }
      yield* page.messages
      cursor = page.cursor
    } while (cursor !== null)
  }

  /** Starts a long operation and polls it to its end. Throws ClientError when it fails. */
  async job(
    path: string,
    onProgress?: (progress: JobJson['progress']) => void,
    body?: object,
  ): Promise<unknown> {
    const response = await this.#fetch(path, {
      method: 'POST',
      ...(body === undefined
        ? {}
        : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    })
    let job = (await response.json()) as JobJson
    for (let wait = FIRST_POLL_MS; job.state === 'running'; wait = Math.min(wait * 2, 1000)) {
      onProgress?.(job.progress)
      await delay(wait)
      job = (await this.#json(`/v1/jobs/${job.id}`)) as JobJson
    }
    if (job.state === 'done') return job.result
    throw new ClientError(0, job.error?.code ?? 'CANCELLED', job.error?.message ?? 'cancelled')
  }

  /** Every entry, page after page. */
  async *quarantine(): AsyncGenerator<QuarantinedJson> {
    let cursor: string | null = null
    do {
      const after: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
      const page = (await this.#json(`/v1/spool/quarantine?limit=1000${after}`)) as {
        entries: QuarantinedJson[]
        cursor: string | null
      }
      yield* page.entries
      cursor = page.cursor
    } while (cursor !== null)
  }

  async quarantined(name: string): Promise<QuarantinedJson> {
    return (await this.#json(`/v1/spool/quarantine/${encodeURIComponent(name)}`)) as QuarantinedJson
  }

  /** Puts a quarantined message back; returns its new id. */
  async release(
    name: string,
    { from, to, force }: { from?: string; to?: string; force?: boolean },
  ): Promise<string> {
    const query = new URLSearchParams()
    if (from !== undefined) query.set('from', from)
    if (to !== undefined) query.set('to', to)
    if (force === true) query.set('force', 'true')
    const path = `/v1/spool/quarantine/${encodeURIComponent(name)}/release?${query}`
    const response = await this.#fetch(path, { method: 'POST' })
    return ((await response.json()) as { id: string }).id
  }

  async purge(name: string): Promise<void> {
    await this.#fetch(`/v1/spool/quarantine/${encodeURIComponent(name)}`, { method: 'DELETE' })
  }

  async spool(): Promise<SpoolStateJson> {
    return (await this.#json('/v1/spool')) as SpoolStateJson
  }

  async #json(path: string): Promise<unknown> {
    return (await this.#fetch(path)).json()
  }

  async #fetch(path: string, init: RequestInit & { duplex?: string } = {}): Promise<Response> {
    let response: Response
    try {
      response = await fetch(this.#base + path, init)
    } catch (cause) {
      const reason =
        cause instanceof Error && cause.cause instanceof Error ? cause.cause : (cause as Error)
      throw new ClientError(0, 'UNREACHABLE', `cannot reach ${this.#base}: ${reason.message}`, {
        cause,
      })
    }
    if (response.ok) return response
    const problem = (await response.json().catch(() => ({}))) as Partial<Problem>
    throw new ClientError(
      response.status,
      problem.code ?? `HTTP_${response.status}`,
      problem.detail ?? `${this.#base} answered ${response.status} ${response.statusText}`,
    )
  }
}
