/**
 * The REST service over a message store and a journal store: plugins, routes, and nothing else. It neither listens
 * nor owns the stores; a test builds it and calls `inject`.
 */
import type { ServerOptions } from 'node:https'
import swaggerUi, { type FastifySwaggerUiOptions } from '@fastify/swagger-ui'
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginAsync,
} from 'fastify'
import { Registry } from 'prom-client'
import { Jobs } from '../spool/index.js'
import type { Authenticator } from './caller.js'
import { type ConnectionLimits, limitConnections, serverOptions } from './connections.js'
import { tellDeleted } from './deleted-journal.js'
import { holdBack } from './expect-continue.js'
import { audit } from './plugins/audit.js'
import { auth } from './plugins/auth.js'
import { type BodyParserOptions, bodyParsers } from './plugins/body-parsers.js'
import { closing } from './plugins/closing.js'
import { document } from './plugins/document.js'
import { loadShedding } from './plugins/load-shedding.js'
import { type ApiMetrics, metrics } from './plugins/metrics.js'
import type { Rate } from './plugins/rate.js'
import { RefusalLog, recordRefusedCertificates, refusalOf } from './plugins/refusals.js'
import { requestHead } from './plugins/request-head.js'
import { requestIds, requestLogging } from './plugins/request-log.js'
import { handleClientError, handleError, handleNotFound, Problem } from './problem.js'
import type { Reason } from './readiness.js'
import { claimRoutes } from './routes/claims.js'
import { contextRoutes } from './routes/context.js'
import { eventRoutes } from './routes/events.js'
import { healthRoutes } from './routes/health.js'
import { importRoutes } from './routes/import.js'
import { injectionRoutes } from './routes/injection.js'
import { jobRoutes } from './routes/jobs.js'
import { journalUpkeepRoutes } from './routes/journal-upkeep.js'
import { journalRoutes } from './routes/journals.js'
import { contentRoutes } from './routes/message-content.js'
import { messageRoutes } from './routes/messages.js'
import { quarantineRoutes } from './routes/quarantine.js'
import { spoolRoutes } from './routes/spool.js'
import { subscriberRoutes } from './routes/subscribers.js'
import { tailRoutes } from './routes/tail.js'
import { upkeepRoutes } from './routes/upkeep.js'
import { JobSchema, Journal, Meta, MimePartSchema } from './schemas.js'
import type { JournalStore, MessageStore } from './stores.js'
import { TailHubs } from './tail-hub.js'
import { compileValidator, schemaController } from './validation.js'

export interface ApiLimits extends BodyParserOptions, ConnectionLimits {
  /** Bytes of the largest message. */
  readonly maxMessageSize: number
  /** Recipients in one injection. */
  readonly maxRecipients: number
  /** Messages in one batch. */
  readonly maxBatch: number
  /** Event streams and long polls open at once. */
  readonly maxTails: number
  /** Journals, and subscribers of each; left out: 1000. */
  readonly maxJournals?: number
  readonly maxSubscribers?: number
  /** How many requests a caller may make; null or left out: any number. */
  readonly rate?: Rate | null
  /** Bytes of request bodies held at once; left out: 256 MiB. */
  readonly maxInFlight?: number
}

export interface ApiOptions {
  readonly spool: MessageStore
  readonly journals: JournalStore
  /** Journals that the service itself writes to: they cannot be deleted. */
  readonly ownJournals: readonly string[]
  /** Its own subscriber in each of these, which nobody else may move or remove; left out: it has none. */
  readonly ownSubscriber?: string
  readonly limits: ApiLimits
  /** Why no writes are taken now; empty when they are. Called at each readiness check and injection: no I/O. */
  readonly notReady: () => readonly Reason[]
  /** Where backups are made; null or left out: nowhere. */
  readonly backupRoot?: string | null
  /** Below which sources of imports lie; null or left out: none is taken. */
  readonly importRoot?: string | null
  /** Who may call what; left out: everybody everything. */
  readonly authenticator?: Authenticator | undefined
  /** Speak TLS, with these; null or left out: plain HTTP. */
  readonly tls?: ServerOptions | null
  readonly version: string
  /** Where requests are counted and what /metrics prints; a registry of its own when left out. */
  readonly metrics?: ApiMetrics
  readonly logger?: FastifyBaseLogger
  /** A line in the log for each request, at level info; at debug when left out. */
  readonly logRequests?: boolean
}

/** What every route file gets. */
export interface RouteOptions extends ApiOptions {
  readonly tails: TailHubs
  /** Cancelled when the server closes, before the stores below it do. */
  readonly jobs: Jobs
}

/** Longest name of a subscriber, percent-encoded: its file name is twice the bytes and must fit 255. */
const MAX_PARAM_LENGTH = 1024

export async function buildServer(options: ApiOptions): Promise<FastifyInstance> {
  const { limits } = options
  const http = serverOptions(limits)
  const app = Fastify({
    ...(options.logger ? { loggerInstance: options.logger } : {}),
    ...requestLogging({ everyRequest: options.logRequests }),
    frameworkErrors: handleError,
    clientErrorHandler: handleClientError,
    requestTimeout: limits.requestTimeout,
    connectionTimeout: limits.idleTimeout ?? 0,
    forceCloseConnections: 'idle',
    // plugins/closing.ts has a problem document for it.
    return503OnClosing: false,
    schemaController,
    bodyLimit: limits.maxBufferedBody,
    // To routes the one server is as the other; Fastify's types make two of them.
    ...(options.tls ? ({ https: { ...options.tls, ...http } } as object) : { http }),
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH, ignoreTrailingSlash: true },
  })
  limitConnections(app, limits)
  holdBack(app)
  app.setValidatorCompiler(compileValidator)
  app.setErrorHandler(handleError)
  app.setNotFoundHandler(handleNotFound)
  for (const schema of [Problem, Meta, Journal, JobSchema, MimePartSchema]) app.addSchema(schema)

  await app.register(requestIds)
  await app.register(closing)
  // Before any route: it looks at each.
  const refusals = new RefusalLog(options.spool, app.log)
  app.addHook('onClose', () => refusals.close())
  if (options.tls?.requestCert) recordRefusedCertificates(app, refusals)
  await app.register(auth, {
    authenticator: options.authenticator,
    rate: limits.rate,
    onRefused: (request, error) => refusals.add(refusalOf(request, error)),
  })
  await app.register(requestHead)
  const jobs = new Jobs()
  app.addHook('preClose', () => jobs.close())
  await app.register(audit, { spool: options.spool, jobs })
  await app.register(document, { version: options.version })
  const metered = options.metrics ?? { registry: new Registry() }
  await app.register(metrics, metered)
  await app.register(loadShedding, {
    notReady: options.notReady,
    maxInFlight: limits.maxInFlight,
    registry: metered.registry,
  })
  await app.register(swaggerUi, DOCUMENT_PAGE)
  await app.register(bodyParsers, limits)

  const tails = new TailHubs(limits.maxTails)
  app.addHook('preClose', async () => tails.close())
  const routes: RouteOptions = { ...options, tails, jobs }
  await app.register(healthRoutes, routes)
  await app.register(v1Routes, { prefix: '/v1', routes })
  app.get('/openapi.json', DESCRIBE, async () => app.swagger())
  return app
}

/** It talks to this service and to nobody else, and is in nobody else's page: who uses it may hold an administrator's token. */
const DOCUMENT_PAGE: FastifySwaggerUiOptions = {
  routePrefix: '/docs',
  staticCSP: [
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; '),
  // Without the plugin's own head, which has a field for the document of another service.
  uiConfig: { layout: 'BaseLayout', deepLinking: true },
  theme: { title: 'Bobbin' },
}

const DESCRIBE = {
  config: { scope: 'open' },
  schema: {
    operationId: 'describe',
    summary: 'This document',
    tags: ['operations'],
    response: {
      200: {
        description: 'OpenAPI 3.1; /docs shows it.',
        content: { 'application/json': { schema: { type: 'object', additionalProperties: true } } },
      },
    },
  },
} as const

const v1Routes: FastifyPluginAsync<{ routes: RouteOptions }> = async (v1, { routes }) => {
  for (const plugin of [
    injectionRoutes,
    messageRoutes,
    contentRoutes,
    contextRoutes,
    claimRoutes,
    eventRoutes,
    spoolRoutes,
    journalScope,
    jobRoutes,
    upkeepRoutes,
    importRoutes,
    quarantineRoutes,
  ]) {
    await v1.register(plugin, routes)
  }
}

const journalScope: FastifyPluginAsync<RouteOptions> = async (scope, routes) => {
  scope.setErrorHandler(tellDeleted(routes.journals))
  for (const plugin of [journalRoutes, journalUpkeepRoutes, subscriberRoutes, tailRoutes]) {
    await scope.register(plugin, routes)
  }
}
