/** Journals' upkeep: inspection, repair and cleaning, as the commands of the same names do them. */
import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import Type from 'typebox'
import {
  cleanJournal,
  inspectJournal,
  inspectSegment,
  repairJournal,
  reportToJson,
} from '../../jlog/index.js'
import { HttpError } from '../problem.js'
import { JobRef, JournalParams, NDJSON_TYPE, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { accepted } from './jobs.js'

/** Each reads a whole journal. */
const INSPECTIONS_AT_ONCE = 4

/** As `bobbin jlog inspect --json` gives it; what is in the lists is told by docs/jlog.md. */
const Inspection = Type.Object(
  {
    directory: Type.String(),
    sound: Type.Boolean({ description: 'A repair would change nothing.' }),
    records: Type.Integer({ description: 'Confirmed ones.' }),
    segments: Type.Array(
      Type.Object(
        {
          file: Type.String(),
          records: Type.Integer(),
          bytes: Type.Integer(),
          damaged_bytes: Type.Integer(),
          sound: Type.Boolean(),
        },
        { additionalProperties: true },
      ),
    ),
    missing: Type.Array(Type.Array(Type.Integer()), {
      description: 'Segments that are not there: first and last of each run.',
    }),
  },
  { additionalProperties: true, description: 'The report of bobbin jlog inspect --json' },
)

export const journalUpkeepRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { journals, jobs },
) => {
  let inspections = 0

  app.get(
    '/journals/:name/inspect',
    {
      config: { scope: 'log' },
      schema: {
        operationId: 'journal_inspect',
        summary: 'Look for damage in a journal',
        description:
          'Reads all of it, with the eyes of its repair, and changes nothing. With records, instead: each record and each damaged range of one segment, a line each.',
        tags: ['journals'],
        params: JournalParams,
        querystring: Type.Object(
          {
            records: Type.Optional(
              Type.String({
                pattern: '^[0-9a-fA-F]{1,8}$',
                description: 'A segment, as its file is named.',
                examples: ['00000000'],
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: {
            description: 'The report, or the records',
            content: {
              'application/json': { schema: Inspection },
              [NDJSON_TYPE]: { schema: Type.String() },
            },
          },
          ...problems(400, 404, 429),
        },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      const { records } = request.query
      const dir = await journals.path(name)
      if (inspections >= INSPECTIONS_AT_ONCE) {
        throw new HttpError(429, 'TOO_MANY_INSPECTIONS', 'too many journals are inspected already')
      }
      inspections++
      const done = () => void inspections--
      if (records !== undefined) {
        return sendRecords(reply, dir, name, Number.parseInt(records, 16), done)
      }
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      try {
        const found = await inspectJournal(dir, { signal: gone.signal })
        return reply
          .type('application/json; charset=utf-8')
          .serializer(JSON.stringify)
          .send(reportToJson(found) as never)
      } catch (error) {
        if (!gone.signal.aborted) throw error
        throw new HttpError(400, 'ECONNRESET', 'the client went away')
      } finally {
        done()
      }
    },
  )

  app.post(
    '/journals/:name/repair',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'journal_repair',
        summary: 'Repair a journal',
        description:
          'Keeps every record that something confirms, and every byte that it cuts in a file beside; may be done while the journal is used. The result of the job is the report of bobbin jlog repair --json: what was kept, cut and where it went, and where each checkpoint is now. With dry_run it tells what would be done.',
        tags: ['journals'],
        params: JournalParams,
        querystring: Type.Object(
          { dry_run: Type.Boolean({ default: false }) },
          { additionalProperties: false },
        ),
        response: { 202: JobRef, ...problems(400, 404, 409) },
      },
    },
    async (request, reply) => {
      const { dry_run: dryRun } = request.query
      const dir = await journals.path(request.params.name)
      return accepted(
        reply,
        jobs.start('journal_repair', async ({ signal, onProgress }) =>
          reportToJson(
            await repairJournal(dir, {
              dryRun,
              signal: signal ?? new AbortController().signal,
              onProgress: ({ segment, segments }) =>
                onProgress?.({ phase: 'segments', done: segment, total: segments }),
            }),
          ),
        ),
      )
    },
  )

  app.post(
    '/journals/:name/clean',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'journal_clean',
        summary: 'Remove what all subscribers have read',
        description:
          'The segments that every subscriber has read; never the one being written, and none of a journal without subscribers.',
        tags: ['journals'],
        params: JournalParams,
        response: {
          200: Type.Object({
            removed: Type.Array(Type.String(), { examples: [['00000000']] }),
          }),
          ...problems(404, 503),
        },
      },
    },
    async (request) => {
      const removed = await cleanJournal(await journals.path(request.params.name))
      return { removed: removed.map((log) => log.toString(16).padStart(8, '0')) }
    },
  )
}

/** A line each, as they are found. */
async function sendRecords(
  reply: FastifyReply,
  dir: string,
  name: string,
  log: number,
  done: () => void,
): Promise<FastifyReply> {
  const found = inspectSegment(dir, log)
  let first: Awaited<ReturnType<typeof found.next>>
  try {
    first = await found.next()
  } catch (error) {
    done()
    if ((error as { code?: unknown }).code !== 'JLOG_ERR_FILE_OPEN') throw error
    const segment = log.toString(16).padStart(8, '0')
    throw new HttpError(404, 'JLOG_ERR_FILE_OPEN', `journal ${name} has no segment ${segment}`)
  }
  async function* lines(): AsyncGenerator<string, void, void> {
    for (let next = first; !next.done; next = await found.next()) {
      yield `${JSON.stringify(reportToJson(next.value))}\n`
    }
  }
  const stream = Readable.from(lines())
  stream.once('close', () => {
    done()
    void found.return(undefined).catch(() => undefined)
  })
  return reply.type(NDJSON_TYPE).send(stream)
}
