/**
 * A client of the REST service: `new BobbinClient('http://127.0.0.1:8025')`. Bodies stream both ways. A call that may safely be
 * repeated is, when the service is away for a moment or sheds load; an injection carries an idempotency key, so it may be.
 * Whatever fails, fails with a ClientError.
 */
import { type Body, isReplayable } from './body.js'
import { type ClaimsOptions, claims, type Work, type WorkOptions, work } from './claims.js'
import { type ContentOptions, readContent } from './content.js'
import { ContextCalls } from './context.js'
import { ClientError } from './errors.js'
import {
  type BatchInjection,
  type Injection,
  injectionCall,
  injectionItem,
  MESSAGE_TYPE,
} from './injection.js'

import { JournalCalls } from './journals.js'
import { type RecordsOptions, subscriberRecords, type TailOptions, tailRecords } from './log.js'
import type { LogRecord } from './log-record.js'
import type { ChangeOptions, ContentMatch, InjectOptions, ListOptions } from './options.js'
import {
  type Call,
  type CallOptions,
  type ClientOptions,
  goneBefore,
  Transport,
} from './transport.js'
import type {
  ChangedMetaJson,
  ClaimedMessage,
  ClaimJson,
  ClaimRequest,
  DisposedJson,
  DispositionJson,
  EventJson,
  EventResultsJson,
  ExtendedClaimJson,
  InjectedJson,
  MetaJson,
  MetaPatchJson,
  MimeStructureJson,
  ReplacedContentJson,
  SpoolStateJson,
} from './types.js'
import { JobCalls, pages, QuarantineCalls } from './upkeep.js'

/** What takes the message away: the second time there is none, and nothing is logged twice. */
const FINAL = ['delivery', 'transfer', 'permanent_failure']

export class BobbinClient {
  readonly journals: JournalCalls
  readonly jobs: JobCalls
  readonly quarantine: QuarantineCalls
  readonly #transport: Transport
  readonly #options: ClientOptions

  /**
   * @param url where the service is, as in `http://127.0.0.1:8025`, or `unix:/run/bobbin.sock`
   * @throws TypeError when it is no such URL
   */
  constructor(url: string | URL, options: ClientOptions = {}) {
    this.#options = options
    this.#transport = new Transport(url, options)
    this.jobs = new JobCalls(this.#transport)
    this.journals = new JournalCalls(this.#transport, this.jobs)
    this.quarantine = new QuarantineCalls(this.#transport)
  }

  /** Resolves once the message is durable, for each recipient. */
  inject(injection: Injection, options: InjectOptions = {}): Promise<InjectedJson> {
    const isReplayed = !('body' in injection) || isReplayable(injection.body)
    const call = { ...injectionCall(injection), method: 'POST', path: '/v1/messages' } as const
    return this.#transport.json({ ...this.#keyed(options, isReplayed), ...call })
  }

  /** All of them or none, in one transaction: the fastest way for many at once. Results in order. */
  async injectBatch(
    injections: readonly BatchInjection[],
    options: InjectOptions = {},
  ): Promise<InjectedJson[]> {
    const { results } = await this.#transport.json<{ results: InjectedJson[] }>({
      ...this.#keyed(options, true),
      method: 'POST',
      path: '/v1/messages/batch',
      json: injections.map(injectionItem),
    })
    return results
  }

  /** Every message that fits, oldest first, page after page. */
  list({ state, domain, binding, due_before, ...call }: ListOptions = {}) {
    const query = { state, domain, binding, due_before }
    const path = '/v1/messages'
    return pages<'messages', MetaJson>(this.#transport, 'messages', { ...call, path, query })
  }

  meta(id: string, options: CallOptions = {}): Promise<MetaJson> {
    return this.#transport.json({ ...options, path: at(id, '/meta') })
  }

  changeMeta(
    id: string,
    patch: MetaPatchJson,
    { ifVersion, force, ...options }: ChangeOptions = {},
  ): Promise<ChangedMetaJson> {
    return this.#transport.json({
      ...options,
      method: 'PATCH',
      path: at(id, '/meta'),
      query: { force },
      headers: ifMatch(options, ifVersion),
      json: patch,
      repeatable: ifVersion === undefined,
    })
  }

  /** One of a message's two dictionaries. */
  context(id: string, dictionary: 'conn' | 'mess'): ContextCalls {
    return new ContextCalls(this.#transport, id, dictionary)
  }

  /** The content, byte for byte, as it comes; begun again where it stood when the connection breaks. */
  content(
    id: string,
    options: ContentOptions = {},
  ): Promise<AsyncGenerator<Uint8Array, void, void>> {
    return readContent(this.#transport, at(id, '/content'), options)
  }

  /** The header block, without the empty line. */
  headers(id: string, options: CallOptions = {}): Promise<string> {
    return this.#transport.text({
      ...options,
      path: at(id, '/content'),
      query: { part: 'headers' },
    })
  }

  structure(id: string, options: CallOptions = {}): Promise<MimeStructureJson> {
    const query = { part: 'mime-structure' }
    return this.#transport.json({ ...options, path: at(id, '/content'), query })
  }

  /** Copy on write: messages that share the old content keep it. */
  replaceContent(
    id: string,
    body: Body,
    { ifSha256, ...options }: ContentMatch = {},
  ): Promise<ReplacedContentJson> {
    return this.#transport.json({
      ...options,
      method: 'PUT',
      path: at(id, '/content'),
      headers: ifMatch(options, ifSha256),
      body,
      type: MESSAGE_TYPE,
      repeatable: ifSha256 === undefined,
    })
  }

  /** The meta stays. */
  dropContent(id: string, { ifSha256, ...options }: ContentMatch = {}): Promise<void> {
    const headers = ifMatch(options, ifSha256)
    return this.#transport.json({ ...options, method: 'DELETE', path: at(id, '/content'), headers })
  }

  /** Under a new id. `share`: of the same content, copy on write. */
  copy(
    id: string,
    { share, ...options }: CallOptions & { share?: boolean | undefined } = {},
  ): Promise<InjectedJson> {
    const path = at(id, '/copy')
    return this.#transport.json({ ...options, method: 'POST', path, query: { share } })
  }

  /**
   * Nothing is logged. `whenFree`: a message that is leased goes when its lease lets go. `ifVersion`: the version that the meta must
   * have; else ClientError 412.
   */
  remove(
    id: string,
    {
      whenFree,
      ifVersion,
      ...options
    }: CallOptions & { whenFree?: boolean | undefined; ifVersion?: number | undefined } = {},
  ): Promise<void> {
    const call = { method: 'DELETE', repeatable: true, doneBefore: goneBefore } as const
    return this.#transport.json({
      ...options,
      ...call,
      path: at(id),
      query: { when_free: whenFree },
      headers: ifMatch(options, ifVersion),
    })
  }

  /** Leases due messages. When the answer is lost, and another is got instead, they are due again by its expiry. */
  claim(request: ClaimRequest = {}, options: CallOptions = {}): Promise<ClaimJson> {
    const call = { method: 'POST', path: '/v1/claims', json: request, repeatable: true } as const
    return this.#transport.json({ ...options, ...call })
  }

  /** It then ends so many seconds from now. Throws ClientError 404 when it has ended. */
  extendClaim(
    lease: string,
    lease_seconds: number,
    options: CallOptions = {},
  ): Promise<ExtendedClaimJson> {
    const path = `/v1/claims/${encodeURIComponent(lease)}`
    const call = { method: 'PATCH', path, json: { lease_seconds }, repeatable: true } as const
    return this.#transport.json({ ...options, ...call })
  }

  /** Its messages, those that were not disposed of, are due again at once. */
  releaseClaim(lease: string, options: CallOptions = {}): Promise<void> {
    const path = `/v1/claims/${encodeURIComponent(lease)}`
    const call = { method: 'DELETE', path, repeatable: true, doneBefore: goneBefore } as const
    return this.#transport.json({ ...options, ...call })
  }

  /**
   * Due messages, one after the other, for ever: `for await (const message of client.claims())`. A message is leased until the
   * next is asked for, however long that takes; report on it before. When the loop is left, or the signal aborts, what was
   * claimed and not reported on is released. A service that is away is waited for.
   */
  claims(options: ClaimsOptions = {}): AsyncGenerator<ClaimedMessage, void, void> {
    return claims(this.#claimCalls(), options)
  }

  /**
   * The same for several at once: calls `each` for due messages, `concurrency` at a time, until the signal aborts or one of
   * them throws; then waits for the others, releases what is left, and resolves, or throws that error.
   */
  work(options: WorkOptions, each: Work): Promise<void> {
    return work(this.#claimCalls(), options, each)
  }

  /** Tells what became of a message: logged, and done to it, in one. Retried when it is final or names its lease. */
  report(
    id: string,
    disposition: DispositionJson,
    options: CallOptions = {},
  ): Promise<DisposedJson> {
    const { type, lease } = disposition
    const isFinal = FINAL.includes(type)
    const outcome = isFinal ? 'removed' : 'expired'
    const answer = JSON.stringify({ result: 'complete', outcome, next_attempt: null })
    return this.#transport.json({
      ...options,
      method: 'POST',
      path: at(id, '/events'),
      json: disposition,
      repeatable: isFinal || (type === 'transient_failure' && lease !== undefined),
      doneBefore: ({ status }) => (status === 404 ? answer : undefined),
    })
  }

  /** Each stands for itself, and has its result in the answer, in order. Not retried once it may have been done. */
  reportAll(events: readonly EventJson[], options: CallOptions = {}): Promise<EventResultsJson> {
    return this.#transport.json({
      ...options,
      method: 'POST',
      path: '/v1/events',
      body: Buffer.from(events.map((event) => `${JSON.stringify(event)}\n`).join('')),
      type: 'application/x-ndjson',
    })
  }

  /**
   * What a journal holds after a subscriber's checkpoint, oldest first, for ever:
   * `for await (const record of client.records('mainlog', 'billing'))`. A record counts as taken when the next is asked for,
   * and the checkpoint follows what was taken; so nothing is missed, and what was in hand when the program died or left
   * the loop comes again. Ends when the signal aborts.
   */
  records(
    journal: string,
    subscriber: string,
    options: RecordsOptions = {},
  ): AsyncGenerator<LogRecord, void, void> {
    return subscriberRecords(this.#logCalls(), journal, subscriber, options)
  }

  /** Records as they are written, each once, over reconnections too; nothing is remembered. Ends when the signal aborts. */
  tail(journal: string, options: TailOptions = {}): AsyncGenerator<LogRecord, void, void> {
    return tailRecords(this.#logCalls(), journal, options)
  }

  /** Numbers, and the room that is left. */
  spool(options: CallOptions = {}): Promise<SpoolStateJson> {
    return this.#transport.json({ ...options, path: '/v1/spool' })
  }

  /** Why no messages are taken now; null when they are. */
  async notReady(options: CallOptions = {}): Promise<string | null> {
    try {
      await this.#transport.json({ ...options, path: '/readyz', retry: options.retry ?? false })
      return null
    } catch (error) {
      if (error instanceof ClientError && error.status === 503) return error.message
      throw error
    }
  }

  /** Under a key, when it may be sent more than once. */
  #keyed({ idempotencyKey, ...call }: InjectOptions, isReplayed: boolean): Partial<Call> {
    const { retry = this.#options.retry } = call
    const key = idempotencyKey ?? (isReplayed && retry !== false ? crypto.randomUUID() : undefined)
    if (key === undefined) return { ...call, repeatable: false }
    const headers = { ...call.headers, 'idempotency-key': quoted(key) }
    return { ...call, headers, repeatable: true }
  }

  #claimCalls() {
    return {
      claim: this.claim.bind(this),
      extendClaim: this.extendClaim.bind(this),
      releaseClaim: this.releaseClaim.bind(this),
      onRetry: this.#options.onRetry,
    }
  }

  #logCalls() {
    const { journals } = this
    return {
      read: journals.read.bind(journals),
      checkpoint: journals.checkpoint.bind(journals),
      describe: journals.describe.bind(journals),
      transport: this.#transport,
      onRetry: this.#options.onRetry,
    }
  }
}

function at(id: string, rest = ''): string {
  return `/v1/messages/${encodeURIComponent(id)}${rest}`
}

/** A string of RFC 9651, section 3.3.3. */
function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`
}

function ifMatch(
  { headers = {} }: CallOptions,
  match: string | number | undefined,
): Readonly<Record<string, string>> {
  return match === undefined ? headers : { ...headers, 'if-match': `"${match}"` }
}
