/** Import from another spool, as a job. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { confinedPath } from '../confined-path.js'
import { importToJson } from '../import-json.js'
import { ImportRequest, importOptions } from '../import-request.js'
import { JobRef, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { accepted } from './jobs.js'

export const importRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { spool, jobs, notReady, importRoot = null },
) => {
  app.post(
    '/spool/import',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'spool_import',
        summary: 'Import another spool',
        description:
          'Takes every message of another Bobbin spool, a Maildir, an mbox, a folder of .eml files or a Haraka queue, each once, with one import record each. What cannot be read stays where it is. While the service sheds load none begins, and one that is under way waits. Cancelled or interrupted, it goes on when it is asked for again. The result of the job is the report; docs/import.md says all of it.',
        tags: ['spool'],
        body: ImportRequest,
        response: { 202: JobRef, ...problems(400, 409, 422, 503) },
      },
    },
    async (request, reply) => {
      const path = await confinedPath(importRoot, request.body.path, 'spool.import_root')
      const options = importOptions(request.body)
      const hold = () => notReady()[0]?.detail ?? null
      return accepted(
        reply,
        jobs.start('spool_import', async (long) =>
          importToJson(await spool.importFrom(path, { ...options, ...long, hold })),
        ),
      )
    },
  )
}
