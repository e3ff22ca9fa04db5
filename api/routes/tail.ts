/** Following a journal as Server-Sent Events (WHATWG HTML, section 9.2). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import {
  compareLogIds,
  follow,
  formatLogId,
  type LogId,
  lastId,
  parseLogId,
  type RecordBatch,
  readRecords,
  recordToJson,
} from '../../jlog/index.js'
import { HttpError } from '../problem.js'
import { JournalParams, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'
import type { JournalSource } from '../tail-hub.js'

export const tailRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { journals, tails },
) => {
  app.get(
    '/journals/:name/tail',
    {
      config: { scope: 'log', endless: true },
      schema: {
        operationId: 'journal_tail',
        summary: 'Follow a journal',
        description:
          'Server-Sent Events, one a record: its `id` is the log id, so that Last-Event-ID resumes after it; its `data` is the record as JSON. An id after the end of the journal is refused (409): what is appended up to it would be passed over.',
        tags: ['journals'],
        params: JournalParams,
        querystring: Type.Object(
          {
            from: Type.String({
              default: 'end',
              description: 'begin, end, or a log id: what comes after it',
            }),
          },
          { additionalProperties: false },
        ),
        headers: Type.Object({ 'last-event-id': Type.Optional(Type.String()) }),
        response: {
          200: {
            description: 'The events',
            content: { 'text/event-stream': { schema: Type.String() } },
          },
          ...problems(400, 404, 409, 429),
        },
      },
    },
    async (request, reply) => {
      const dir = await journals.path(request.params.name)
      const source = journalSource(dir)
      const after = await startOf(source, request.headers['last-event-id'] || request.query.from)
      await refuseAhead(source, after)
      const admitted = await tails.admit(async () => {
        reply.hijack()
        const { raw } = reply
        raw.writeHead(200, {
          'content-type': 'text/event-stream; charset=utf-8',
          'cache-control': 'no-store',
          'x-accel-buffering': 'no',
          'x-request-id': request.id,
        })
        // Nothing follows the head of an answer to HEAD, and the connection has to be free again.
        if (request.method === 'HEAD') {
          raw.end()
          return true
        }
        raw.write(': following\n\n')
        try {
          await tails.follow(dir, source, recordEvents, raw, after)
        } catch (error) {
          // Too late for a status; the client's reconnect, with Last-Event-ID, gets it.
          request.log.warn({ reqId: request.id, err: error }, 'following a journal ended')
        }
        raw.end()
        return true
      })
      if (admitted === null)
        throw new HttpError(429, 'TOO_MANY_TAILS', 'too many follow journals already')
      return reply
    },
  )
}

function journalSource(dir: string): JournalSource {
  return {
    records: (after, limitBytes) =>
      readRecords(dir, { limitBytes, ...(after === undefined ? {} : { after }) }),
    follow: (after, signal) => follow(dir, { from: after, signal }),
    end: () => lastId(dir),
  }
}

async function startOf(source: JournalSource, from: string): Promise<LogId | undefined> {
  if (from === 'begin') return undefined
  return from === 'end' ? source.end() : parseLogId(from)
}

/**
 * Whoever has seen records after the journal's end has seen those of another that had its name, or what a repair took off. What is
 * appended now has ids that they know, and would be passed over without a word. Throws HttpError 409.
 */
async function refuseAhead(source: JournalSource, after: LogId | undefined): Promise<void> {
  if (after === undefined) return
  const end = await source.end()
  if (compareLogIds(after, end) <= 0) return
  const detail = `${formatLogId(after)} is after the journal's end, ${formatLogId(end)}; begin again, or at the end`
  throw new HttpError(409, 'LOG_ID_AHEAD', detail)
}

function recordEvents(batch: RecordBatch): Buffer {
  let events = ''
  for (const record of batch)
    events += `id: ${formatLogId(record.id)}\ndata: ${recordToJson(record)}\n\n`
  return Buffer.from(events, 'utf8')
}
