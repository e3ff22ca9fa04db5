/** Dispositions: what became of messages, one at a time or in bulk. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import {
  DisposedJson,
  DispositionJson,
  disposedToJson,
  dispositionFromJson,
  EventLine,
  freeEventFromJson,
  misplaced,
} from '../event-json.js'
import { readNdjson } from '../ndjson.js'
import { HttpError, problemOf } from '../problem.js'
import { IdParams, NDJSON_TYPE, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { readByHandler } from '../validation.js'

/** Lines under way at once. */
const AT_ONCE = 1000

const LineResult = Type.Intersect([
  Type.Partial(DisposedJson),
  Type.Object({
    result: Type.String({ description: 'complete, or error' }),
    id: Type.Optional(Type.String()),
    status: Type.Optional(Type.Integer()),
    code: Type.Optional(Type.String()),
    detail: Type.Optional(Type.String()),
  }),
])

export const eventRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { spool }) => {
  app.post(
    '/messages/:id/events',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'dispose',
        summary: 'Report what became of a message',
        description:
          'Logged, and done to the message, in one transaction: delivery, transfer and permanent_failure remove it; transient_failure counts the retry and sets the next attempt by the schedule, or as given; attempt and rejection are logged only. ec_async_fail is permanent_failure.',
        tags: ['events'],
        params: IdParams,
        body: DispositionJson,
        response: { 200: DisposedJson, ...problems(400, 404, 409, 503, 507) },
      },
    },
    async ({ params, body }) =>
      disposedToJson(await spool.dispose(params.id, dispositionFromJson(body))),
  )

  app.post(
    '/events',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'dispose_multi',
        summary: 'Report in bulk',
        description:
          'A line each, with the id of its message: each stands for itself, and has its result in the answer, in order. Without an id: rejection (of a message that was never stored), authentication, administration. A line that cannot be read refuses the whole, and nothing is done.',
        tags: ['events'],
        body: {
          description: 'Each line an event.',
          content: { [NDJSON_TYPE]: { schema: readByHandler<Buffer>(EventLine) } },
        },
        response: {
          200: Type.Object({
            results: Type.Array(LineResult),
            failed: Type.Integer({ description: 'Lines whose result is an error.' }),
          }),
          ...problems(400, 413, 415, 503),
        },
      },
    },
    async (request) => {
      const lines = readLines(request)
      const results = []
      for (let at = 0; at < lines.length; at += AT_ONCE) {
        results.push(...(await Promise.all(lines.slice(at, at + AT_ONCE).map(apply))))
      }
      return { results, failed: results.filter(({ result }) => result === 'error').length }
    },
  )

  async function apply(line: EventLine) {
    const { id, type, ...rest } = line
    try {
      if (id === undefined) {
        await spool.log(freeEventFromJson(line))
        return { result: 'complete', outcome: 'logged', next_attempt: null }
      }
      const disposition = dispositionFromJson({ ...rest, type } as Parameters<
        typeof dispositionFromJson
      >[0])
      return { id, ...disposedToJson(await spool.dispose(id, disposition)) }
    } catch (error) {
      return { ...(id === undefined ? {} : { id }), result: 'error', ...problemOf(error as Error) }
    }
  }
}

/** Throws HttpError 400 naming the line. */
function readLines(request: FastifyRequest): EventLine[] {
  return readNdjson<EventLine>(request, EventLine, 'events').map(({ line, value }) => {
    const wrong = misplaced(value)
    if (wrong !== null) throw new HttpError(400, 'INVALID_LINE', `line ${line}: ${wrong}`)
    return value
  })
}
