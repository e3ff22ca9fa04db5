/**
 * `GET /metrics` for Prometheus: what the registry holds, and how long requests took and with what they were refused,
 * which is counted here. A request costs one observation, into a series found when its route was made.
 */
import type { FastifyPluginAsync, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { Counter, Histogram, type Registry } from 'prom-client'
import Type from 'typebox'

export interface ApiMetrics {
  readonly registry: Registry
  /** Called before the registry is printed. Its cost is a scrape's. */
  readonly collect?: () => Promise<void>
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Counts an error that was answered. */
    countProblem?: (code: string) => void
  }
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
/** More distinct codes than there are; beyond, something makes them up. */
const MAX_CODES = 200

const register: FastifyPluginAsync<ApiMetrics> = async (app, { registry, collect }) => {
  const durations = new Histogram({
    name: 'bobbin_http_request_duration_seconds',
    help: 'From the first byte of a request to the last of its answer, by route and class of status.',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS,
    registers: [registry],
  })
  const problems = new Counter({
    name: 'bobbin_errors_total',
    help: 'Errors answered, by the code that the problem document has.',
    labelNames: ['code'],
    registers: [registry],
  })

  app.addHook('onRoute', (route) => {
    const hooks = [route.onResponse ?? []].flat()
    route.onResponse = [...hooks, observer(durations, route)]
  })

  const codes = new Set<string>()
  app.decorate('countProblem', (code: string) => {
    const known = codes.has(code) || codes.size < MAX_CODES
    if (known) codes.add(code)
    problems.inc({ code: known ? code : 'OTHER' })
  })

  app.get(
    '/metrics',
    {
      config: { scope: 'metrics' },
      schema: {
        operationId: 'metrics',
        summary: 'Metrics for Prometheus',
        description: 'In the text format. docs/operations.md names each.',
        tags: ['operations'],
        response: {
          200: {
            description: 'The metrics',
            content: { 'text/plain': { schema: Type.String() } },
          },
        },
      },
    },
    async (_request, reply) => {
      await collect?.()
      const text = await registry.metrics()
      return reply
        .type(registry.contentType)
        .serializer((body: unknown) => body as string)
        .send(text)
    },
  )
}

function observer(durations: Histogram, { method, url }: RouteOptions) {
  const series: { observe(seconds: number): void }[] = []
  const name = [method].flat().join(',')
  return (_request: FastifyRequest, reply: FastifyReply, done: () => void) => {
    const status = Math.trunc(reply.statusCode / 100)
    series[status] ??= durations.labels(name, url, `${status}xx`)
    series[status].observe(reply.elapsedTime / 1000)
    done()
  }
}

export const metrics = fp(register, { name: 'metrics' })
