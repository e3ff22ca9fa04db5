/** Check and repair of the spool, as jobs. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { JobRef, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { accepted } from './jobs.js'

export const upkeepRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { spool: { upkeep }, jobs },
) => {
  const deep = (isDefault: boolean) =>
    Type.Object(
      {
        deep: Type.Boolean({
          default: isDefault,
          description: 'Compare each content with its hash, too.',
        }),
      },
      { additionalProperties: false },
    )

  app.post(
    '/spool/check',
    {
      schema: {
        operationId: 'spool_check',
        summary: 'Check the spool',
        description:
          'Compares everything in the spool with everything else, in one consistent look, while it is used. The result of the job is the report: how much was looked at, how many problems of each kind were found, and the first thousand of them.',
        tags: ['spool'],
        querystring: deep(false),
        response: { 202: JobRef, ...problems(400, 409) },
      },
    },
    async (request, reply) =>
      accepted(
        reply,
        jobs.start('spool_check', (options) => upkeep.check({ ...options, ...request.query })),
      ),
  )

  app.post(
    '/spool/repair',
    {
      schema: {
        operationId: 'spool_repair',
        summary: 'Repair the spool',
        description:
          'Checks, mends what can be mended while the spool is used, moves what cannot be read to quarantine, and checks again. Destroys nothing. The result of the job is the report: the checks before and after, what was mended, and what came into quarantine.',
        tags: ['spool'],
        querystring: deep(true),
        response: { 202: JobRef, ...problems(400, 409) },
      },
    },
    async (request, reply) =>
      accepted(
        reply,
        jobs.start('spool_repair', (options) => upkeep.repair({ ...options, ...request.query })),
      ),
  )
}
