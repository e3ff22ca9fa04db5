/** Listing, meta, removal. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { MESSAGE_STATES } from '../../spool/index.js'
import { metaToJson } from '../message-json.js'
import { renderMeta } from '../meta-render.js'
import { ifMatch, parseIfMatch, preferred } from '../negotiation.js'
import { patchFromJson } from '../patch-json.js'
import { Empty, IdParams, MetaPatchJson, MetaRef, problems, TimeInput } from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { parseTime } from '../time.js'

const PAGE_LIMIT = 1000
const META_TYPES = ['application/json', 'text/plain', 'application/xml'] as const

export const messageRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { spool }) => {
  app.get(
    '/messages',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'spool_list',
        summary: 'List messages',
        tags: ['messages'],
        querystring: Type.Object(
          {
            state: Type.Optional(Type.Enum([...MESSAGE_STATES])),
            domain: Type.Optional(Type.String({ description: "The recipient's domain" })),
            binding: Type.Optional(Type.String()),
            due_before: Type.Optional(TimeInput),
            cursor: Type.Optional(Type.String({ description: 'As the page before gave it' })),
            limit: Type.Integer({ minimum: 1, maximum: PAGE_LIMIT, default: 100 }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            messages: Type.Array(MetaRef),
            cursor: Type.Union([Type.String(), Type.Null()], {
              description: 'For the next page; null on the last',
            }),
          }),
          ...problems(400),
        },
      },
    },
    async (request) => {
      const { state, domain, binding, due_before, cursor, limit } = request.query
      const page = await spool.list({
        limit,
        ...(state === undefined ? {} : { state }),
        ...(domain === undefined ? {} : { domain }),
        ...(binding === undefined ? {} : { binding }),
        ...(due_before === undefined ? {} : { dueBefore: parseTime(due_before) }),
        ...(cursor === undefined ? {} : { cursor }),
      })
      return { messages: page.messages.map(metaToJson), cursor: page.cursor }
    },
  )

  for (const [url, operationId] of [
    ['/messages/:id', 'message_get'],
    ['/messages/:id/meta', 'refetch_meta'],
  ] as const) {
    app.get(
      url,
      {
        config: { scope: 'read' },
        schema: {
          operationId,
          summary: 'Meta of a message',
          tags: ['messages'],
          description: 'As JSON, text or XML, whichever Accept prefers.',
          params: IdParams,
          headers: Type.Object({
            accept: Type.Optional(Type.String({ examples: ['text/plain'] })),
          }),
          response: {
            200: {
              description: 'The meta',
              content: {
                'application/json': { schema: MetaRef },
                'text/plain': { schema: Type.String() },
                'application/xml': { schema: Type.String() },
              },
            },
            ...problems(404),
          },
        },
      },
      async (request, reply) => {
        const meta = await spool.meta(request.params.id)
        reply.header('etag', `"${meta.version}"`).header('vary', 'accept')
        const type = preferred(request.headers.accept, META_TYPES)
        if (type === 'application/json') {
          return reply.type('application/json; charset=utf-8').send(metaToJson(meta))
        }
        const rendered = renderMeta(metaToJson(meta), type === 'text/plain' ? 'text' : 'xml')
        return reply
          .type(`${type}; charset=utf-8`)
          .serializer((text: unknown) => text as string)
          .send(rendered)
      },
    )
  }

  app.patch(
    '/messages/:id/meta',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'swap_out_meta',
        summary: 'Change the meta of a message',
        description:
          'A JSON merge patch (RFC 7396). Forced (default) it is durable before the answer; with force=false it is visible at once and synced later: 202, result partial.',
        tags: ['messages'],
        params: IdParams,
        querystring: Type.Object(
          { force: Type.Boolean({ default: true }) },
          { additionalProperties: false },
        ),
        headers: Type.Object({ 'if-match': ifMatch }),
        body: MetaPatchJson,
        response: {
          200: Type.Object({ result: Type.String(), meta: MetaRef }),
          202: Type.Object({ result: Type.String(), meta: MetaRef }),
          ...problems(400, 404, 412, 503, 507),
        },
      },
    },
    async (request, reply) => {
      const ifVersion = parseIfMatch(request.headers['if-match'])
      const { result, meta } = await spool.swapOutMeta(
        request.params.id,
        patchFromJson(request.body),
        {
          force: request.query.force,
          ...(ifVersion === undefined ? {} : { ifVersion }),
        },
      )
      reply.code(result === 'partial' ? 202 : 200).header('etag', `"${meta.version}"`)
      return { result, meta: metaToJson(meta) }
    },
  )

  app.delete(
    '/messages/:id',
    {
      config: { scope: 'deliver', audit: () => true },
      schema: {
        operationId: 'swap_remove',
        summary: 'Remove a message',
        description:
          'Its content goes with the last message that shares it, and when nobody reads it any more. With when_free a leased message goes when its lease lets go: 202 until then.',
        tags: ['messages'],
        params: IdParams,
        querystring: Type.Object(
          { when_free: Type.Boolean({ default: false }) },
          { additionalProperties: false },
        ),
        headers: Type.Object({ 'if-match': ifMatch }),
        response: { 202: Empty, 204: Empty, ...problems(400, 404, 412, 503) },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      const ifVersion = parseIfMatch(request.headers['if-match'])
      if (!request.query.when_free) await spool.swapRemove(id, { ifVersion })
      // Without a payload: null would be written as JSON.
      else if ((await spool.unlinkOnFree(id, { ifVersion })) === 'marked')
        return reply.code(202).send(undefined as never)
      return reply.code(204).send(null)
    },
  )
}
