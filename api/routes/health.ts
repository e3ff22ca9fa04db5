/** Liveness and readiness. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { notTaken } from '../problem.js'
import { problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'

export const healthRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { notReady }) => {
  const Status = Type.Object({ status: Type.String() })
  app.get(
    '/healthz',
    {
      config: { scope: 'open', uncounted: true },
      schema: {
        operationId: 'liveness',
        summary: 'Whether the process answers',
        description:
          'Says nothing of disk and journals: a restart mends neither. What is stuck does not answer.',
        tags: ['operations'],
        response: { 200: Status },
      },
    },
    async () => ({ status: 'ok' }),
  )
  app.get(
    '/readyz',
    {
      config: { scope: 'open', uncounted: true },
      schema: {
        operationId: 'readiness',
        summary: 'Whether messages are taken',
        description: 'If not, `reasons` says why, each with a stable code.',
        tags: ['operations'],
        response: { 200: Status, ...problems(503) },
      },
    },
    async () => {
      const reasons = notReady()
      if (reasons.length > 0) throw notTaken(reasons)
      return { status: 'ready' }
    },
  )
}
