/** Check, repair, compaction and backup of the spool, as jobs. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { confinedPath } from '../confined-path.js'
import { HttpError } from '../problem.js'
import { JobRef, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { accepted } from './jobs.js'

export const upkeepRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { spool: { upkeep }, jobs, backupRoot = null },
) => {
  const deep = (isDefault: boolean) =>
    Type.Object(
      {
        deep: Type.Boolean({
          default: isDefault,
          description:
            'Read each content, and compare it with its hash. Without, only whether all of its chunks are there is looked at: not whether they have the right length and bytes.',
        }),
      },
      { additionalProperties: false },
    )

  app.post(
    '/spool/check',
    {
      config: { scope: 'admin' },
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
      config: { scope: 'admin' },
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

  app.post(
    '/spool/compact',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'spool_compact',
        summary: 'Compact the spool',
        description:
          'Makes the file of the spool as small as it can be, which takes room for a copy of what is in use. Reads go on; what would be written waits, and new messages are refused once commits are late. The result of the job is the size before and after. It fails with SPOOL_ERR_BUSY when contents are being read at its end.',
        tags: ['spool'],
        response: { 202: JobRef, ...problems(409) },
      },
    },
    async (_request, reply) =>
      accepted(
        reply,
        jobs.start('spool_compact', (options) => upkeep.compact(options)),
      ),
  )

  app.post(
    '/spool/backup',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'spool_backup',
        summary: 'Back the spool up',
        description:
          'Copies the spool as of now into a new directory of this name below the setting spool.backup_root, while it is used. A directory of that name is a whole backup. The result of the job says where it is.',
        tags: ['spool'],
        body: Type.Object(
          {
            name: Type.String({
              pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$',
              examples: ['2026-03-01'],
            }),
          },
          { additionalProperties: false },
        ),
        response: { 202: JobRef, ...problems(400, 409, 422) },
      },
    },
    async (request, reply) => {
      if (backupRoot === null) {
        throw new HttpError(422, 'NO_BACKUP_ROOT', 'no spool.backup_root is configured')
      }
      const directory = await confinedPath(backupRoot, request.body.name, 'spool.backup_root')
      return accepted(
        reply,
        jobs.start('spool_backup', () => upkeep.backup(directory)),
      )
    },
  )
}
