/** Quarantine: what could not be read, listed, shown, released and purged. */

import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { quarantineToJson } from '../message-json.js'
import { Binary, Empty, MessageId, problems, Quarantined } from '../schemas.js'
import type { RouteOptions } from '../server.js'

export const quarantineRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (
  app,
  { spool: { upkeep } },
) => {
  const { quarantine } = upkeep
  const NameParams = Type.Object({ name: Type.String({ description: 'As the list has it.' }) })

  app.get(
    '/spool/quarantine',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'quarantine_list',
        summary: 'What is in quarantine',
        tags: ['quarantine'],
        querystring: Type.Object(
          {
            cursor: Type.Optional(Type.String({ description: 'As the page before gave it' })),
            limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            entries: Type.Array(Quarantined),
            cursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problems(400),
        },
      },
    },
    async (request) => {
      const { entries, cursor } = await quarantine.list(request.query)
      return { entries: entries.map(quarantineToJson), cursor }
    },
  )

  app.get(
    '/spool/quarantine/:name',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'quarantine_show',
        summary: 'An entry, and where it came from',
        tags: ['quarantine'],
        params: NameParams,
        response: { 200: Quarantined, ...problems(404) },
      },
    },
    async (request) => quarantineToJson(await quarantine.show(request.params.name)),
  )

  app.get(
    '/spool/quarantine/:name/content',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'quarantine_content',
        summary: 'The bytes of an entry',
        description: 'The content as far as it was there; or the row, when there is none.',
        tags: ['quarantine'],
        params: NameParams,
        response: {
          200: {
            description: 'As they were in the spool',
            content: { 'application/octet-stream': { schema: Type.Unsafe<unknown>(Binary) } },
          },
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const content = await quarantine.content(request.params.name)
      return reply
        .type('application/octet-stream')
        .send(Readable.from(content, { objectMode: false }))
    },
  )

  app.post(
    '/spool/quarantine/:name/release',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'quarantine_release',
        summary: 'Put a message back into the spool',
        description:
          'Stores it anew, under a new id and due at once, and deletes the entry. What is not whole, or not known to be, is released only with force.',
        tags: ['quarantine'],
        params: NameParams,
        querystring: Type.Object(
          {
            from: Type.Optional(Type.String({ description: 'Sender, where the meta is lost.' })),
            to: Type.Optional(Type.String({ description: 'Recipient, where the meta is lost.' })),
            force: Type.Boolean({ default: false }),
          },
          { additionalProperties: false },
        ),
        response: { 201: Type.Object({ id: MessageId }), ...problems(400, 404, 503, 507) },
      },
    },
    async (request, reply) => {
      const { from: mailfrom, to: rcptto, force } = request.query
      reply.code(201)
      return { id: await upkeep.release(request.params.name, { mailfrom, rcptto, force }) }
    },
  )

  app.delete(
    '/spool/quarantine/:name',
    {
      config: { scope: 'admin' },
      schema: {
        operationId: 'quarantine_purge',
        summary: 'Delete an entry for good',
        tags: ['quarantine'],
        params: NameParams,
        response: { 204: Empty, ...problems(404) },
      },
    },
    async (request, reply) => {
      await quarantine.purge(request.params.name)
      return reply.code(204).send(null)
    },
  )
}
