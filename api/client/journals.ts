/** Journals and their subscribers: `client.journals`. */
import { pack } from 'msgpackr'
import { type LogRecord, recordsOfLines } from './log-record.js'
import { type CallOptions, goneBefore, type Transport } from './transport.js'
import type {
  AlterSettingsJson,
  AppendedJson,
  InspectionJson,
  JournalJson,
  JournalSettingsJson,
  SubscriberJson,
} from './types.js'
import type { JobCalls, JobRequest } from './upkeep.js'

const DEFAULT_TIMEOUT_MS = 60_000
/** Nothing comes before all of the journal has been read. */
const INSPECTION_TIMEOUT_MS = 3_600_000

export interface RepairRequest extends Omit<JobRequest, 'query' | 'json'> {
  readonly dryRun?: boolean | undefined
}

export interface ReadOptions extends CallOptions {
  /** At most so many records; 1 to 10,000, default 1,000. An answer is also bounded in bytes. */
  readonly limit?: number | undefined
  /** Seconds to wait for a record when there is none yet; default 0. */
  readonly wait?: number | undefined
}

export class JournalCalls {
  readonly #transport: Transport
  readonly #jobs: JobCalls

  constructor(transport: Transport, jobs: JobCalls) {
    this.#transport = transport
    this.#jobs = jobs
  }

  async list(options: CallOptions = {}): Promise<JournalJson[]> {
    const path = '/v1/journals'
    return (await this.#transport.json<{ journals: JournalJson[] }>({ ...options, path })).journals
  }

  /** Throws ClientError 409 when there is one of that name. */
  create(
    name: string,
    settings: JournalSettingsJson = {},
    options: CallOptions = {},
  ): Promise<JournalJson> {
    return this.#transport.json({ ...options, method: 'PUT', path: at(name), json: settings })
  }

  describe(name: string, options: CallOptions = {}): Promise<JournalJson> {
    return this.#transport.json({ ...options, path: at(name) })
  }

  alter(
    name: string,
    settings: AlterSettingsJson,
    options: CallOptions = {},
  ): Promise<JournalJson> {
    const call = { method: 'PATCH', path: at(name), json: settings, repeatable: true } as const
    return this.#transport.json({ ...options, ...call })
  }

  /** With all its records. */
  delete(name: string, options: CallOptions = {}): Promise<void> {
    return this.#delete(at(name), options)
  }

  /**
   * All of the records in order, or none; durable when it resolves, in a journal whose safety is `safe`. Not retried once it
   * may have been done: there is no telling a repetition from a record that is there twice.
   */
  append(
    name: string,
    records: readonly (Uint8Array | string)[],
    options: CallOptions = {},
  ): Promise<AppendedJson> {
    const method = 'POST'
    const body = pack(records.map((record) => Buffer.from(record as Uint8Array)))
    const type = 'application/msgpack'
    return this.#transport.json({ ...options, method, path: at(name, 'records'), body, type })
  }

  async subscribers(name: string, options: CallOptions = {}): Promise<SubscriberJson[]> {
    const call = { ...options, path: at(name, 'subscribers') }
    return (await this.#transport.json<{ subscribers: SubscriberJson[] }>(call)).subscribers
  }

  /**
   * @param whence `begin` (default), `end`, a log id, or `copy:SUBSCRIBER`
   * Throws ClientError 409 when there is one of that name.
   */
  addSubscriber(
    name: string,
    subscriber: string,
    { whence, ...options }: CallOptions & { whence?: string | undefined } = {},
  ): Promise<{ name: string; checkpoint: string }> {
    const path = at(name, 'subscribers', subscriber)
    return this.#transport.json({ ...options, method: 'PUT', path, query: { whence } })
  }

  removeSubscriber(name: string, subscriber: string, options: CallOptions = {}): Promise<void> {
    return this.#delete(at(name, 'subscribers', subscriber), options)
  }

  /** What comes after the subscriber's checkpoint, which stays where it is. */
  async read(
    name: string,
    subscriber: string,
    { limit, wait = 0, timeout = DEFAULT_TIMEOUT_MS, ...options }: ReadOptions = {},
  ): Promise<LogRecord[]> {
    const path = at(name, 'subscribers', subscriber, 'records')
    const text = await this.#transport.text({
      ...options,
      path,
      query: { limit, wait },
      headers: { ...options.headers, accept: 'application/x-ndjson' },
      timeout: timeout + wait * 1000,
    })
    return recordsOfLines(text)
  }

  /** Everything up to and including the id has been dealt with. Throws ClientError 409 for one before, without `rewind`. */
  checkpoint(
    name: string,
    subscriber: string,
    id: string,
    { rewind, ...options }: CallOptions & { rewind?: boolean | undefined } = {},
  ): Promise<{ checkpoint: string }> {
    const path = at(name, 'subscribers', subscriber, 'checkpoint')
    const call = { method: 'PUT', path, query: { rewind }, json: { id }, repeatable: true } as const
    return this.#transport.json({ ...options, ...call })
  }

  /** Looks for damage: reads all of it and changes nothing. */
  inspect(
    name: string,
    { timeout = INSPECTION_TIMEOUT_MS, ...options }: CallOptions = {},
  ): Promise<InspectionJson> {
    return this.#transport.json({ ...options, timeout, path: at(name, 'inspect') })
  }

  /** Resolves with the report of `bobbin jlog repair --json` once it is done. `dryRun`: what would be done. */
  repair<Report = unknown>(
    name: string,
    { dryRun, ...request }: RepairRequest = {},
  ): Promise<Report> {
    return this.#jobs.run(at(name, 'repair'), { ...request, query: { dry_run: dryRun } })
  }

  /** Removes the segments that every subscriber has read; resolves with their names. */
  async clean(name: string, options: CallOptions = {}): Promise<string[]> {
    const call = { method: 'POST', path: at(name, 'clean'), repeatable: true } as const
    return (await this.#transport.json<{ removed: string[] }>({ ...options, ...call })).removed
  }

  #delete(path: string, options: CallOptions): Promise<void> {
    const call = { method: 'DELETE', path, repeatable: true, doneBefore: goneBefore } as const
    return this.#transport.json({ ...options, ...call })
  }
}

function at(name: string, ...rest: string[]): string {
  return ['/v1/journals', ...[name, ...rest].map(encodeURIComponent)].join('/')
}
