/** The service: stores, relay and server wired together, started in order and stopped in the reverse one. */
import { join } from 'node:path'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { buildServer } from '../api/index.js'
import { JournalSet, SAFETY } from '../jlog/index.js'
import { openSpool, SpaceWatch, type Spool } from '../spool/index.js'
import type { Config } from './config.js'
import { journalsPath, spoolPath } from './data-directory.js'
import { eventJournals } from './event-settings.js'
import { Gate } from './gate.js'
import { Metrics } from './metrics/metrics.js'
import { eventRelay, spoolOptions } from './own-spool.js'
import { Readiness } from './readiness.js'
import { RELAY_SUBSCRIBER, type Relay } from './relay.js'
import { shedLimits } from './shed-settings.js'
import { VERSION } from './version.js'

const NOT_RECORDED = 'not in the log of administration'

export class Service {
  readonly #spool: Spool
  readonly #journals: JournalSet
  readonly #relay: Relay
  readonly #server: FastifyInstance
  readonly #gate: Gate
  readonly #space: SpaceWatch
  readonly #readiness: Readiness
  readonly #config: Config
  readonly #log: FastifyBaseLogger
  readonly #stopHeartbeat: () => void
  #stopping: Promise<void> | undefined

  private constructor(
    config: Config,
    log: FastifyBaseLogger,
    stores: {
      spool: Spool
      journals: JournalSet
      relay: Relay
      server: FastifyInstance
      gate: Gate
      stopHeartbeat: () => void
      space: SpaceWatch
      readiness: Readiness
    },
  ) {
    this.#config = config
    this.#log = log
    this.#spool = stores.spool
    this.#journals = stores.journals
    this.#relay = stores.relay
    this.#server = stores.server
    this.#gate = stores.gate
    this.#space = stores.space
    this.#readiness = stores.readiness
    this.#stopHeartbeat = stores.stopHeartbeat
  }

  /**
   * Opens the stores and takes requests.
   * @throws ConfigError; SpoolError SPOOL_ERR_OWNED when another process has the spool; whatever opening or listening meets
   */
  static async start(config: Config, log: FastifyBaseLogger): Promise<Service> {
    const metrics = new Metrics()
    const fileMode = Number.parseInt(config.spool.file_mode, 8)
    const gate = await Gate.open(config, log)
    // First of the stores, because it makes this process the owner of the data directory.
    const spool = await openSpool({
      ...spoolOptions(config),
      observer: metrics.spoolObserver,
    })
    const undo: (() => Promise<unknown>)[] = [() => spool.close()]
    try {
      const journals = await JournalSet.open(journalsPath(config.data), {
        fileMode,
        observe: (journal) => metrics.journalObserver(journal),
      })
      undo.push(() => journals.close())
      if (!(await journals.has(config.events.journal)))
        await journals.create(config.events.journal, { safety: SAFETY.safe })
      const own = eventJournals(config.events)
      const relay = eventRelay(spool, journals, config, log)
      relay.start()
      undo.push(() => relay.stop())
      const space = new SpaceWatch(spoolPath(config.data), {
        low: config.spool.min_free,
        high: config.spool.resume_free,
      })
      await space.start()
      undo.push(() => space.stop())
      const limits = { ...shedLimits(config.shed), backlog: config.events.max_backlog }
      const readiness = new Readiness({ spool, space }, limits, log)
      readiness.start()
      undo.push(async () => readiness.stop())
      const server = await buildServer({
        spool,
        journals,
        ownJournals: own,
        ownSubscriber: RELAY_SUBSCRIBER,
        limits: {
          maxBufferedBody: config.limits.json_bytes,
          maxMessageSize: config.spool.max_message_size,
          maxRecipients: config.limits.recipients,
          maxBatch: config.limits.batch,
          maxTails: config.limits.tails,
          maxJournals: config.limits.journals,
          maxSubscribers: config.limits.subscribers,
          maxConnections: config.limits.connections,
          maxHeaderBytes: config.limits.header_bytes,
          headersTimeout: config.limits.headers_timeout * 1000,
          idleTimeout: config.limits.idle_timeout * 1000,
          maxInFlight: limits.inFlight,
          requestTimeout: config.limits.request_timeout * 1000,
          rate:
            config.limits.rate === 0
              ? null
              : { max: config.limits.rate, window: config.limits.rate_window * 1000 },
        },
        notReady: () => readiness.reasons,
        backupRoot: config.spool.backup_root || null,
        importRoot: config.spool.import_root || null,
        authenticator: gate.tokens ?? undefined,
        tls: gate.tls,
        version: VERSION,
        metrics: { registry: metrics.registry, collect: () => metrics.collect() },
        logger: log,
        logRequests: config.log.requests,
      })
      undo.push(() => gate.close())
      undo.push(() => server.close())
      metrics.watch({
        spool,
        spoolFile: join(spoolPath(config.data), 'data.mdb'),
        space: () => space.space,
        readiness,
        journals,
        relay,
        outbox: spool.outbox,
        ownJournals: own,
      })
      const stopHeartbeat = startHeartbeat(spool, config.events.heartbeat)
      undo.push(async () => stopHeartbeat())
      const service = new Service(config, log, {
        spool,
        journals,
        relay,
        server,
        gate,
        space,
        readiness,
        stopHeartbeat,
      })
      const address = await gate.listen(server)
      log.info({ address, data: config.data, pid: process.pid, version: VERSION }, 'ready')
      return service
    } catch (error) {
      for (const close of undo.reverse()) await close()
      throw error
    }
  }

  /**
   * Takes no more connections, finishes what it holds within the grace time, relays what is waiting, and closes the stores.
   * Idempotent: everybody gets the same end.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** Cuts the connections that are left, so that `stop` need not wait for them; nothing unacknowledged is lost by it. */
  hurry(): void {
    this.#gate.hurry()
  }

  /** Reads tokens and certificate again; what is wrong with them is logged, and the old ones stay. */
  async reload(): Promise<void> {
    for (const { what, error, note } of await this.#gate.reload()) {
      const outcome = error === null ? 'done' : 'failed'
      const event = { user: 'service', peer: 'local', note: `reload ${what}: ${outcome}: ${note}` }
      await this.#spool
        .log({ type: 'administration', ...event })
        .catch((err: unknown) => this.#log.error({ err, ...event }, NOT_RECORDED))
    }
  }

  async #stop(): Promise<void> {
    this.#log.info('stopping')
    const grace = setTimeout(() => this.hurry(), this.#config.shutdown.grace * 1000).unref()
    this.#readiness.stopping()
    this.#stopHeartbeat()
    await this.#server.close()
    clearTimeout(grace)
    await this.#gate.close()
    this.#readiness.stop()
    await this.#space.stop()
    await this.#relay.stop()
    await this.#spool.close()
    await this.#journals.close()
    this.#log.info('stopped')
  }
}

/** Logs a sign of life every so many seconds; on a spool that takes no writes there is none. */
function startHeartbeat(spool: Spool, seconds: number): () => void {
  if (seconds === 0) return () => undefined
  const beat = () => void spool.log({ type: 'heartbeat' }).catch(() => undefined)
  const timer = setInterval(beat, seconds * 1000).unref()
  return () => clearInterval(timer)
}
