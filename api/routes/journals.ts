/** Journals: make, describe, alter, delete, append. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { unpack } from 'msgpackr'
import Type from 'typebox'
import { describeJournal, formatLogId } from '../../jlog/index.js'
import { Capacity } from '../capacity.js'
import { alterOptionsFromJson, createOptionsFromJson, journalToJson } from '../journal-json.js'
import { mediaType } from '../negotiation.js'
import { requireScopes } from '../plugins/auth.js'
import { HttpError } from '../problem.js'
import {
  Binary,
  Empty,
  JournalParams,
  JournalRef,
  JournalSettings,
  LogIdText,
  MSGPACK_TYPE,
  NDJSON_TYPE,
  problems,
} from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { readByHandler } from '../validation.js'

export const journalRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { journals, ownJournals, limits },
) => {
  const capacity = new Capacity(
    limits.maxJournals ?? 1000,
    'TOO_MANY_JOURNALS',
    'journals (limits.journals)',
  )
  const describe = async (name: string) =>
    journalToJson(name, await describeJournal(await journals.path(name)))

  app.get(
    '/journals',
    {
      config: { scope: 'log' },
      schema: {
        operationId: 'journal_list',
        summary: 'List journals',
        tags: ['journals'],
        response: { 200: Type.Object({ journals: Type.Array(JournalRef) }) },
      },
    },
    async () => {
      const described = []
      for (const name of await journals.names()) {
        try {
          described.push(await describe(name))
        } catch (error) {
          // One that was deleted meanwhile is no reason to tell of none.
          if ((await journals.names()).includes(name)) throw error
        }
      }
      return { journals: described }
    },
  )

  app.put(
    '/journals/:name',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'journal_create',
        summary: 'Make a journal',
        description: 'A name is up to 128 letters, digits, dots, underscores and hyphens.',
        tags: ['journals'],
        params: JournalParams,
        body: JournalSettings,
        response: { 201: JournalRef, ...problems(400, 409, 422, 507) },
      },
      // No body is a journal with the default settings.
      preValidation: async (request) => {
        if (request.body === undefined) request.body = {}
      },
    },
    async (request, reply) => {
      const { name } = request.params
      await capacity.make(
        async () => {
          const names = await journals.names()
          // One that is there is refused for that; those of the service are there anyway.
          if (names.includes(name)) return 0
          return names.filter((other) => !ownJournals.includes(other)).length
        },
        () => journals.create(name, createOptionsFromJson(request.body)),
      )
      reply.code(201)
      return describe(name)
    },
  )

  app.get(
    '/journals/:name',
    {
      config: { scope: 'log' },
      schema: {
        operationId: 'journal_info',
        summary: 'Describe a journal',
        tags: ['journals'],
        params: JournalParams,
        response: { 200: JournalRef, ...problems(404) },
      },
    },
    async (request) => describe(request.params.name),
  )

  app.patch(
    '/journals/:name',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'journal_alter',
        summary: 'Change the settings of a journal',
        description:
          'Segment size, safety and the pre-commit buffer, at once and for whoever has it open. Compression is fixed when a journal is made: another one than it has is refused (422).',
        tags: ['journals'],
        params: JournalParams,
        body: JournalSettings,
        response: { 200: JournalRef, ...problems(400, 404, 422, 503, 507) },
      },
    },
    async (request) => {
      const { name } = request.params
      const { compression, ...settings } = request.body
      const path = await journals.path(name)
      if (compression !== undefined && compression !== (await describeJournal(path)).compression) {
        const detail = 'compression is fixed when a journal is made; make another journal'
        throw new HttpError(422, 'JLOG_ERR_NOT_SUPPORTED', detail)
      }
      await journals.alter(name, alterOptionsFromJson(settings))
      return describe(name)
    },
  )

  app.delete(
    '/journals/:name',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'journal_delete',
        summary: 'Delete a journal with all its records',
        tags: ['journals'],
        params: JournalParams,
        response: { 204: Empty, ...problems(404, 409) },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      if (ownJournals.includes(name)) {
        throw new HttpError(
          409,
          'JOURNAL_IN_USE',
          `the service writes its events to ${name}; it cannot be deleted`,
        )
      }
      await journals.delete(name)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/journals/:name/records',
    {
      config: { scope: 'log' },
      schema: {
        operationId: 'journal_append',
        summary: 'Append records',
        description:
          'One record (octets), a record a line (NDJSON), or a msgpack array of binaries; all of them in order, or none. The answer comes once they are on the disk, unless the journal is made less safe than that.',
        tags: ['journals'],
        params: JournalParams,
        body: {
          content: {
            'application/octet-stream': { schema: readByHandler<Buffer>(Binary) },
            [NDJSON_TYPE]: { schema: readByHandler<Buffer>({ description: 'Each line' }) },
            [MSGPACK_TYPE]: { schema: readByHandler<Buffer>({ type: 'array', items: Binary }) },
          },
        },
        response: {
          201: Type.Object({ first: LogIdText, last: LogIdText, count: Type.Integer() }),
          ...problems(400, 404, 413, 415, 503, 507),
        },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      // Whoever may log may not forge what the service itself has logged.
      if (ownJournals.includes(name)) requireScopes(request, reply, 'admin')
      const records = parseRecords(request.headers['content-type'], request.body)
      const { first, last, count } = await journals.append(name, records)
      reply.code(201)
      return { first: formatLogId(first), last: formatLogId(last), count }
    },
  )
}

function parseRecords(contentType: string | undefined, body: unknown): Uint8Array[] {
  const type = mediaType(contentType)
  if (!Buffer.isBuffer(body)) {
    throw new HttpError(
      415,
      'FST_ERR_CTP_INVALID_MEDIA_TYPE',
      `send records as application/octet-stream, ${NDJSON_TYPE} or ${MSGPACK_TYPE}`,
    )
  }
  if (type === 'application/octet-stream') return [body]
  const records = type === NDJSON_TYPE ? splitLines(body) : unpackRecords(body)
  if (records.length === 0) throw new HttpError(400, 'NO_RECORDS', 'body: there is no record in it')
  return records
}

/** Lines as they are, without their newline; an empty one is no record, as in any NDJSON. */
function splitLines(body: Buffer): Buffer[] {
  const lines: Buffer[] = []
  let start = 0
  while (start < body.length) {
    const found = body.indexOf(0x0a, start)
    const end = found === -1 ? body.length : found
    if (end > start) lines.push(body.subarray(start, end))
    start = end + 1
  }
  return lines
}

function unpackRecords(body: Buffer): Uint8Array[] {
  let value: unknown
  try {
    value = unpack(body)
  } catch (cause) {
    throw new HttpError(400, 'INVALID_MSGPACK', `body: not msgpack: ${(cause as Error).message}`)
  }
  if (!Array.isArray(value))
    throw new HttpError(400, 'INVALID_MSGPACK', 'body: not an array of binaries')
  const bad = value.findIndex((item) => !(item instanceof Uint8Array))
  if (bad !== -1) throw new HttpError(400, 'INVALID_MSGPACK', `body: item ${bad} is not a binary`)
  return value as Uint8Array[]
}
