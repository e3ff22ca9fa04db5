/** The service's upkeep: long operations as jobs, and quarantine. `client.jobs`, `client.quarantine`. */
import { setTimeout as delay } from 'node:timers/promises'
import { ClientError } from './errors.js'
import {
  type CallOptions,
  goneBefore,
  type Query,
  type Streamed,
  type Transport,
} from './transport.js'
import type { JobJson, QuarantinedJson } from './types.js'

const FIRST_POLL_MS = 20
const LAST_POLL_MS = 1000

export interface JobRequest extends CallOptions {
  readonly query?: Query | undefined
  readonly json?: object | undefined
  /** Told of the progress at each poll. */
  readonly onProgress?: ((progress: JobJson['progress']) => void) | undefined
}

export class JobCalls {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  async list(options: CallOptions = {}): Promise<JobJson[]> {
    const path = '/v1/jobs'
    return (await this.#transport.json<{ jobs: JobJson[] }>({ ...options, path })).jobs
  }

  poll(id: string, options: CallOptions = {}): Promise<JobJson> {
    return this.#transport.json({ ...options, path: jobAt(id) })
  }

  /** Resolves when it has stopped, with how it ended. */
  cancel(id: string, options: CallOptions = {}): Promise<JobJson> {
    const call = { method: 'DELETE', path: jobAt(id), repeatable: true } as const
    return this.#transport.json({ ...options, ...call })
  }

  /** Starts one by a POST to its path, as `/v1/spool/check`, and does not wait for it. */
  start(path: string, { query, json, ...options }: JobRequest = {}): Promise<JobJson> {
    return this.#transport.json({ ...options, method: 'POST', path, query, json })
  }

  /** Starts one and waits for its end: its report. Throws ClientError with the job's code when it failed or was cancelled. */
  async run<Report = unknown>(path: string, request: JobRequest = {}): Promise<Report> {
    const { onProgress, query: _query, json: _json, ...options } = request
    let job = await this.start(path, request)
    for (
      let wait = FIRST_POLL_MS;
      job.state === 'running';
      wait = Math.min(wait * 2, LAST_POLL_MS)
    ) {
      onProgress?.(job.progress)
      await delay(wait)
      options.signal?.throwIfAborted()
      job = await this.poll(job.id, options)
    }
    if (job.state === 'done') return job.result as Report
    const { code, message } = job.error ?? {}
    throw new ClientError(
      0,
      code ?? `JOB_${job.state.toUpperCase()}`,
      message ?? `the job ${job.id} was ${job.state}`,
    )
  }
}

export interface ReleaseOptions extends CallOptions {
  /** Envelope, where the meta is lost. */
  readonly from?: string | undefined
  readonly to?: string | undefined
  /** Also what is not whole, or not known to be. */
  readonly force?: boolean | undefined
}

export class QuarantineCalls {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Every entry, page after page. */
  list(options: CallOptions = {}): AsyncGenerator<QuarantinedJson, void, void> {
    return pages<'entries', QuarantinedJson>(this.#transport, 'entries', {
      ...options,
      path: '/v1/spool/quarantine',
    })
  }

  show(name: string, options: CallOptions = {}): Promise<QuarantinedJson> {
    return this.#transport.json({ ...options, path: entryAt(name) })
  }

  /** The bytes of it, as far as they were there. */
  async content(name: string, options: CallOptions = {}): Promise<Streamed['body']> {
    return (await this.#transport.stream({ ...options, path: `${entryAt(name)}/content` })).body
  }

  /** Puts a message back into the spool; resolves with its new id. */
  async release(
    name: string,
    { from, to, force, ...options }: ReleaseOptions = {},
  ): Promise<string> {
    const { id } = await this.#transport.json<{ id: string }>({
      ...options,
      method: 'POST',
      path: `${entryAt(name)}/release`,
      query: { from, to, force },
    })
    return id
  }

  /** Deletes an entry for good. */
  purge(name: string, options: CallOptions = {}): Promise<void> {
    const call = { method: 'DELETE', path: entryAt(name), repeatable: true } as const
    return this.#transport.json({ ...options, ...call, doneBefore: goneBefore })
  }
}

/** Every item of a list that comes in pages. */
export async function* pages<Name extends string, Item>(
  transport: Transport,
  name: Name,
  { query, ...call }: CallOptions & { path: string; query?: Query },
): AsyncGenerator<Item, void, void> {
  let cursor: string | null = null
  do {
    const page: Record<Name, Item[]> & { cursor: string | null } = await transport.json({
      ...call,
      query: { limit: 1000, ...query, cursor },
    })
    yield* page[name]
    cursor = page.cursor
  } while (cursor !== null)
}

function jobAt(id: string): string {
  return `/v1/jobs/${encodeURIComponent(id)}`
}

function entryAt(name: string): string {
  return `/v1/spool/quarantine/${encodeURIComponent(name)}`
}
