/** Log subscribers over HTTP: their checkpoints, and what comes after them. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { pack } from 'msgpackr'
import Type from 'typebox'
import {
  addSubscriber,
  compareLogIds,
  describeJournal,
  follow,
  formatLogId,
  getCheckpoint,
  type LogId,
  lastId,
  listJournal,
  parseLogId,
  type RecordBatch,
  readRecords,
  recordToJson,
  removeSubscriber,
  setCheckpoint,
} from '../../jlog/index.js'
import { Capacity } from '../capacity.js'
import { subscriberToJson } from '../journal-json.js'
import { HttpError } from '../problem.js'
import {
  Empty,
  JournalParams,
  LogIdText,
  MSGPACK_TYPE,
  NDJSON_TYPE,
  problems,
  Subscriber,
  SubscriberParams,
} from '../schemas.js'
import type { RouteOptions } from '../server.js'

const PAGE_RECORDS = 10_000
/** An answer holds no more than this, however many records were asked for; the next call gives the rest. */
const PAGE_BYTES = 4 * 1024 * 1024
const MAX_WAIT_SECONDS = 300

export const subscriberRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { journals, tails, limits },
) => {
  const capacity = new Capacity(
    limits.maxSubscribers ?? 1000,
    'TOO_MANY_SUBSCRIBERS',
    'subscribers of this journal (limits.subscribers)',
  )
  app.get(
    '/journals/:name/subscribers',
    {
      config: { scope: 'log' },
      schema: {
        operationId: 'subscriber_list',
        summary: 'List subscribers',
        tags: ['subscribers'],
        params: JournalParams,
        response: { 200: Type.Object({ subscribers: Type.Array(Subscriber) }), ...problems(404) },
      },
    },
    async (request) => {
      const { subscribers } = await describeJournal(await journals.path(request.params.name))
      return { subscribers: subscribers.map(subscriberToJson) }
    },
  )

  app.put(
    '/journals/:name/subscribers/:sub',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'subscriber_add',
        summary: 'Add a subscriber',
        tags: ['subscribers'],
        params: SubscriberParams,
        querystring: Type.Object(
          {
            whence: Type.String({
              default: 'begin',
              description: 'begin, end, a log id, or copy:SUBSCRIBER',
            }),
          },
          { additionalProperties: false },
        ),
        response: {
          201: Type.Object({ name: Type.String(), checkpoint: LogIdText }),
          ...problems(400, 404, 409, 422),
        },
      },
    },
    async (request, reply) => {
      const { name, sub } = request.params
      const { whence } = request.query
      const dir = await journals.path(name)
      const checkpoint = await capacity.make(
        async () => (await listJournal(dir)).checkpoints.length,
        () => addSubscriber(dir, sub, parseWhence(whence)),
      )
      reply.code(201)
      return { name: sub, checkpoint: formatLogId(checkpoint) }
    },
  )

  app.delete(
    '/journals/:name/subscribers/:sub',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'subscriber_remove',
        summary: 'Remove a subscriber',
        tags: ['subscribers'],
        params: SubscriberParams,
        response: { 204: Empty, ...problems(404) },
      },
    },
    async (request, reply) => {
      const { name, sub } = request.params
      await removeSubscriber(await journals.path(name), sub)
      return reply.code(204).send(null)
    },
  )

  app.get(
    '/journals/:name/subscribers/:sub/records',
    {
      config: { scope: 'log', endless: true },
      schema: {
        operationId: 'read_interval',
        summary: 'Records after the checkpoint',
        description:
          'The next records, oldest first; the checkpoint stays where it is. None yet: an empty answer, after waiting up to `wait` seconds for one.',
        tags: ['subscribers'],
        params: SubscriberParams,
        querystring: Type.Object(
          {
            limit: Type.Integer({ minimum: 1, maximum: PAGE_RECORDS, default: 1000 }),
            wait: Type.Number({
              minimum: 0,
              maximum: MAX_WAIT_SECONDS,
              default: 0,
              description: 'Seconds',
            }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: {
            description: 'A record a line, or by Accept a msgpack array of the same',
            content: {
              [NDJSON_TYPE]: { schema: Type.Unsafe<Buffer>({}) },
              [MSGPACK_TYPE]: { schema: Type.Unsafe<Buffer>({}) },
            },
          },
          ...problems(400, 404, 429),
        },
      },
    },
    async (request, reply) => {
      const { name, sub } = request.params
      const { limit, wait } = request.query
      const dir = await journals.path(name)
      const after = await getCheckpoint(dir, sub)
      let batches = await nextBatches(dir, after, limit)
      if (batches.length === 0 && wait > 0) {
        const closed = new AbortController()
        reply.raw.once('close', () => closed.abort())
        const signal = AbortSignal.any([
          closed.signal,
          tails.signal,
          AbortSignal.timeout(wait * 1000),
        ])
        const waited = await tails.admit(async () => {
          for await (const batch of follow(dir, { from: after, signal }))
            if (batch.length > 0) break
          return nextBatches(dir, after, limit)
        })
        if (waited === null)
          throw new HttpError(429, 'TOO_MANY_TAILS', 'too many wait for records already')
        batches = waited
      }
      const binary = request.headers.accept?.includes(MSGPACK_TYPE) ?? false
      return reply
        .type(binary ? MSGPACK_TYPE : NDJSON_TYPE)
        .send(
          binary ? packRecords(batches) : Buffer.concat(batches.map((batch) => recordLines(batch))),
        )
    },
  )

  app.put(
    '/journals/:name/subscribers/:sub/checkpoint',
    {
      config: { scope: 'log', audit: (request) => isRewind(request.query) },
      schema: {
        operationId: 'read_checkpoint',
        summary: 'Move the checkpoint',
        description:
          'Everything up to and including the id has been dealt with. Backwards only with rewind=true.',
        tags: ['subscribers'],
        params: SubscriberParams,
        querystring: Type.Object(
          { rewind: Type.Boolean({ default: false }) },
          { additionalProperties: false },
        ),
        body: Type.Object({ id: LogIdText }, { additionalProperties: false }),
        response: { 200: Type.Object({ checkpoint: LogIdText }), ...problems(400, 404, 409) },
      },
    },
    async (request) => {
      const { name, sub } = request.params
      const dir = await journals.path(name)
      const id = parseLogId(request.body.id)
      if (compareLogIds(id, await getCheckpoint(dir, sub)) < 0 && !request.query.rewind) {
        throw new HttpError(
          409,
          'CHECKPOINT_BACKWARDS',
          'the checkpoint is after that id already; rewind=true moves it back',
        )
      }
      const last = await lastId(dir)
      if (compareLogIds(id, last) > 0) {
        throw new HttpError(409, 'CHECKPOINT_AHEAD', `the journal ends at ${formatLogId(last)}`)
      }
      await setCheckpoint(dir, sub, id)
      return { checkpoint: formatLogId(id) }
    },
  )
}

function isRewind(query: unknown): boolean {
  return (query as { rewind?: boolean }).rewind === true
}

async function nextBatches(
  dir: string,
  after: LogId,
  limitRecords: number,
): Promise<RecordBatch[]> {
  const batches: RecordBatch[] = []
  for await (const batch of readRecords(dir, { after, limitRecords, limitBytes: PAGE_BYTES })) {
    if (batch.length > 0) batches.push(batch)
  }
  return batches
}

function recordLines(batch: RecordBatch): Buffer {
  let lines = ''
  for (const record of batch) lines += `${recordToJson(record)}\n`
  return Buffer.from(lines, 'utf8')
}

function packRecords(batches: RecordBatch[]): Buffer {
  const records = batches.flatMap((batch) =>
    Array.from(batch, ({ id, sec, usec, payload }) => ({
      id: formatLogId(id),
      sec,
      usec,
      size: payload.length,
      data: payload,
    })),
  )
  return pack(records)
}

function parseWhence(whence: string): 'begin' | 'end' | LogId | { copy: string } {
  if (whence === 'begin' || whence === 'end') return whence
  return whence.startsWith('copy:') ? { copy: whence.slice('copy:'.length) } : parseLogId(whence)
}
