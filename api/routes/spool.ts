/** The spool as a whole. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { spoolStateToJson } from '../message-json.js'
import { SpoolState } from '../schemas.js'
import type { RouteOptions } from '../server.js'

export const spoolRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { spool }) => {
  app.get(
    '/spool',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'spool_stats',
        summary: 'State of the spool',
        tags: ['spool'],
        response: { 200: SpoolState },
      },
    },
    async () => spoolStateToJson(await spool.stats(), await spool.upkeep.space()),
  )
}
