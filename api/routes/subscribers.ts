/** Log subscribers over HTTP: their checkpoints, and what comes after them. */
import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { pack } from 'msgpackr'
import Type from 'typebox'
import {
  addSubscriber,
  checkpointAt,
  compareLogIds,
  describeJournal,
  follow,
  formatLogId,
  getCheckpoint,
  type LogId,
  lastId,
  listJournal,
  MAX_SUBSCRIBER_BYTES,
  parseLogId,
  type ReadRecordsOptions,
  type RecordBatch,
  readRecords,
  recordToJson,
  removeSubscriber,
  setCheckpoint,
} from '../../jlog/index.js'
import { passing } from '../../spool/index.js'
import { Capacity } from '../capacity.js'
import { subscriberToJson } from '../journal-json.js'
import { preferred } from '../negotiation.js'
import { HttpError } from '../problem.js'
import {
  Empty,
  JournalParams,
  LogIdText,
  MSGPACK_TYPE,
  NDJSON_TYPE,
  problems,
  RecordLine,
  Subscriber,
  SubscriberParams,
} from '../schemas.js'
import type { RouteOptions } from '../server.js'

const PAGE_RECORDS = 10_000
/** An answer holds no more than this, however many records were asked for; the next call gives the rest. */
const PAGE_BYTES = 4 * 1024 * 1024
/** Of msgpack, which is made in one piece. */
const PACKED_BYTES = 1024 * 1024
/** Read at a time, at least a record. */
const PIECE_BYTES = 128 * 1024
const TEXT_CHARS = 32 * 1024
const MAX_WAIT_SECONDS = 300
const X_MSGPACK_TYPE = 'application/x-msgpack'

type Batches = AsyncGenerator<RecordBatch, void, void>
type Next = IteratorResult<RecordBatch, void>

export const subscriberRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { journals, tails, limits, ownJournals, ownSubscriber },
) => {
  /** Without it what the relay has to compare after a crash may be gone, and records come twice. */
  const refuseOwn = (name: string, sub: string) => {
    if (sub !== ownSubscriber || !ownJournals.includes(name)) return
    const detail = `${JSON.stringify(sub)} is the service's own: it is neither moved nor removed`
    throw new HttpError(409, 'SUBSCRIBER_IN_USE', detail)
  }
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
      const dir = await journals.path(name)
      const bytes = Buffer.byteLength(sub)
      if (bytes > MAX_SUBSCRIBER_BYTES) {
        const detail = `a subscriber's name has up to ${MAX_SUBSCRIBER_BYTES} bytes, this one has ${bytes}`
        throw new HttpError(400, 'JLOG_ERR_INVALID_SUBSCRIBER', detail)
      }
      const asked = parseWhence(request.query.whence)
      const isId = typeof asked === 'object' && 'log' in asked
      const whence = isId ? await placeOf(dir, asked) : asked
      const checkpoint = await capacity.make(
        async () => (await listJournal(dir)).checkpoints.length,
        () => addSubscriber(dir, sub, whence),
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
        response: { 204: Empty, ...problems(404, 409) },
      },
    },
    async (request, reply) => {
      const { name, sub } = request.params
      refuseOwn(name, sub)
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
          'The next records, oldest first, up to `limit` of them and 4 MiB; the checkpoint stays where it is. None yet: an empty answer, after waiting up to `wait` seconds for one.',
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
              [NDJSON_TYPE]: { schema: Type.Unsafe<Buffer | Readable>(RecordLine) },
              [MSGPACK_TYPE]: {
                schema: Type.Unsafe<Buffer | Readable>({ type: 'array', items: RecordLine }),
              },
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
      const type = preferred(request.headers.accept, [NDJSON_TYPE, MSGPACK_TYPE, X_MSGPACK_TYPE])
      const isBinary = type !== NDJSON_TYPE
      const limitBytes = isBinary ? PACKED_BYTES : PAGE_BYTES
      const read = () => pieces(dir, { after, limitRecords: limit, limitBytes })
      let batches = read()
      let first = await batches.next()
      if (first.done && wait > 0) {
        const isAdmitted = await tails.admit(() =>
          waitForRecord(dir, after, wait * 1000, reply.raw),
        )
        if (isAdmitted === null)
          throw new HttpError(429, 'TOO_MANY_TAILS', 'too many wait for records already')
        batches = read()
        first = await batches.next()
      }
      reply.type(isBinary ? MSGPACK_TYPE : NDJSON_TYPE).header('vary', 'accept')
      return reply.send(isBinary ? await packRecords(first, batches) : await lines(first, batches))
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
      refuseOwn(name, sub)
      const dir = await journals.path(name)
      const id = parseLogId(request.body.id)
      const judge = (before: LogId | null) => {
        if (before === null || compareLogIds(id, before) >= 0 || request.query.rewind) return
        throw new HttpError(
          409,
          'CHECKPOINT_BACKWARDS',
          'the checkpoint is after that id already; rewind=true moves it back',
        )
      }
      judge(await getCheckpoint(dir, sub))
      const place = await placeOf(dir, id)
      // Again, because another call may have moved it since.
      await setCheckpoint(dir, sub, place, { judge })
      return { checkpoint: formatLogId(place) }
    },
  )

  /** Until there is one after `after`, the time is over, the client is gone, or the service closes; nothing is left of it then. */
  async function waitForRecord(
    dir: string,
    after: LogId,
    milliseconds: number,
    client: ServerResponse,
  ): Promise<void> {
    const stop = new AbortController()
    const end = () => stop.abort()
    const timer = setTimeout(end, milliseconds)
    client.once('close', end)
    tails.signal.addEventListener('abort', end, { once: true })
    if (tails.signal.aborted || client.destroyed) end()
    try {
      for await (const batch of follow(dir, { from: after, signal: stop.signal }))
        if (batch.length > 0) break
    } finally {
      clearTimeout(timer)
      client.off('close', end)
      tails.signal.removeEventListener('abort', end)
    }
  }
}

/**
 * Where a checkpoint at `id` stands, by ids that are there. Throws HttpError 409 for one after the journal's end: what is appended up to
 * it would be lost on the subscriber.
 */
async function placeOf(dir: string, id: LogId): Promise<LogId> {
  const last = await lastId(dir)
  if (compareLogIds(id, last) > 0)
    throw new HttpError(409, 'CHECKPOINT_AHEAD', `the journal ends at ${formatLogId(last)}`)
  return id.log === last.log ? id : checkpointAt(dir, id)
}

function isRewind(query: unknown): boolean {
  return (query as { rewind?: boolean }).rewind === true
}

/** What comes after `after`, read as it is asked for. */
async function* pieces(dir: string, options: ReadRecordsOptions): Batches {
  for await (const batch of readRecords(dir, { ...options, batchBytes: PIECE_BYTES })) {
    if (batch.length > 0) yield batch
  }
}

function recordLines(batch: RecordBatch): Buffer {
  const parts: Buffer[] = []
  let lines = ''
  for (const record of batch) {
    lines += `${recordToJson(record)}\n`
    // A long string is garbage that only a full collection takes away.
    if (lines.length < TEXT_CHARS) continue
    parts.push(Buffer.from(lines, 'latin1'))
    lines = ''
  }
  batch.release()
  if (parts.length === 0) return Buffer.from(lines, 'latin1')
  return Buffer.concat([...parts, Buffer.from(lines, 'latin1')])
}

/** In one buffer when it is a single piece; else read as fast as the client takes it, so that a slow one holds little. */
async function lines(first: Next, batches: Batches): Promise<Buffer | Readable> {
  if (first.done) return Buffer.alloc(0)
  const bytes = recordLines(first.value)
  const second = await batches.next()
  if (second.done) return bytes
  async function* rest(): AsyncGenerator<Buffer, void, void> {
    yield bytes
    yield recordLines(second.value as RecordBatch)
    for await (const batch of batches) yield recordLines(batch)
  }
  const stream = Readable.from(passing(rest()), { objectMode: false })
  // Also when the client went away before the first of it was read.
  stream.once('close', () => void batches.return().catch(() => undefined))
  return stream
}

async function packRecords(first: Next, batches: Batches): Promise<Buffer> {
  const records: object[] = []
  for (let next = first; !next.done; next = await batches.next()) {
    for (const { id, sec, usec, payload } of next.value) {
      records.push({ id: formatLogId(id), sec, usec, size: payload.length, data: payload })
    }
  }
  return pack(records)
}

function parseWhence(whence: string): 'begin' | 'end' | LogId | { copy: string } {
  if (whence === 'begin' || whence === 'end') return whence
  return whence.startsWith('copy:') ? { copy: whence.slice('copy:'.length) } : parseLogId(whence)
}
