/** The two dictionaries of a message, whole or key by key. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import Type from 'typebox'
import type { SwapOutMetaResult } from '../../spool/index.js'
import { ifMatch, parseIfMatch, preferred } from '../negotiation.js'
import { HttpError } from '../problem.js'
import { Dictionary, IdParams, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'

const params = {
  ...IdParams.properties,
  dictionary: Type.Enum(['conn', 'mess'], { description: 'Of the connection, or of the message' }),
}
const DictionaryParams = Type.Object(params)
const KeyParams = Type.Object({
  ...params,
  key: Type.String({ minLength: 1, description: 'Any UTF-8, percent-encoded' }),
})

const force = Type.Boolean({
  default: true,
  description: 'false: visible at once, synced later: 202, result partial',
})
const Forced = Type.Object({ force }, { additionalProperties: false })
const Replacing = Type.Object(
  {
    force,
    replace: Type.Boolean({ default: false, description: 'Over what is there; else that is 409' }),
  },
  { additionalProperties: false },
)

const Changed = Type.Object({
  result: Type.String({ examples: ['complete'] }),
  version: Type.Integer({ description: 'Of the meta, after the change.' }),
})
const changed = { 200: Changed, 202: Changed }

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export const contextRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { spool }) => {
  // Here only: Fastify's own parser would put replacement characters for what is not UTF-8.
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser('text/plain', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, utf8.decode(body as Buffer))
    } catch {
      done(new HttpError(400, 'INVALID_UTF8', 'body: not UTF-8'))
    }
  })

  app.get(
    '/messages/:id/context/:dictionary',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'context_list',
        summary: 'A dictionary of a message',
        description: 'In key order.',
        tags: ['context'],
        params: DictionaryParams,
        response: { 200: Dictionary, ...problems(404) },
      },
      // Written here, because an object would put keys that look like numbers first.
      serializerCompiler: () => (entries) => {
        if (!Array.isArray(entries)) return JSON.stringify(entries)
        const members = (entries as [string, string][]).map(
          ([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`,
        )
        return `{${members.join(',')}}`
      },
    },
    async (request) => {
      const { id, dictionary } = request.params
      const entries = await spool.context(id, dictionary).entries()
      return entries as unknown as Record<string, string>
    },
  )

  app.put(
    '/messages/:id/context/:dictionary',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'context_set_all',
        summary: 'Give a dictionary its entries, all of them',
        tags: ['context'],
        params: DictionaryParams,
        querystring: Replacing,
        headers: Type.Object({ 'if-match': ifMatch }),
        body: Dictionary,
        response: { ...changed, ...problems(400, 404, 409, 412, 503, 507) },
      },
    },
    async (request, reply) => {
      const { id, dictionary } = request.params
      const ifVersion = parseIfMatch(request.headers['if-match'])
      const result = await spool
        .context(id, dictionary)
        .setAll(request.body, { ...request.query, ifVersion })
      return answer(reply, 200, result)
    },
  )

  app.delete(
    '/messages/:id/context/:dictionary',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'context_clean',
        summary: 'Empty a dictionary',
        tags: ['context'],
        params: DictionaryParams,
        querystring: Forced,
        headers: Type.Object({ 'if-match': ifMatch }),
        response: { ...changed, ...problems(404, 412, 503, 507) },
      },
    },
    async (request, reply) => {
      const { id, dictionary } = request.params
      const ifVersion = parseIfMatch(request.headers['if-match'])
      const result = await spool.context(id, dictionary).clean({ ...request.query, ifVersion })
      return answer(reply, 200, result)
    },
  )

  app.get(
    '/messages/:id/context/:dictionary/:key',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'context_get',
        summary: 'A value of a dictionary',
        description: 'A JSON string, or the bare text when text/plain is what Accept prefers.',
        tags: ['context'],
        params: KeyParams,
        headers: Type.Object({
          accept: Type.Optional(Type.String({ examples: ['text/plain'] })),
        }),
        response: {
          200: {
            description: 'The value',
            content: {
              'application/json': { schema: Type.String() },
              'text/plain': { schema: Type.String() },
            },
          },
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { id, dictionary, key } = request.params
      const value = await spool.context(id, dictionary).get(key)
      if (value === undefined) {
        const detail = `the ${dictionary} dictionary of ${id} has no key ${JSON.stringify(key)}`
        throw new HttpError(404, 'SPOOL_ERR_NOT_FOUND', detail)
      }
      const plain = preferred(request.headers.accept, ['application/json', 'text/plain'])
      if (plain === 'text/plain')
        return reply
          .type('text/plain; charset=utf-8')
          .serializer((text: unknown) => text as string)
          .send(value)
      return reply
        .type('application/json; charset=utf-8')
        .serializer((text: unknown) => JSON.stringify(text))
        .send(value)
    },
  )

  app.put(
    '/messages/:id/context/:dictionary/:key',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'context_set',
        summary: 'Set a value of a dictionary',
        description:
          'A key that exists is refused (409) without replace=true. 201 for a new key, 200 for a replaced one.',
        tags: ['context'],
        params: KeyParams,
        querystring: Replacing,
        headers: Type.Object({ 'if-match': ifMatch }),
        body: {
          description: 'The value',
          content: {
            'application/json': { schema: Type.String({ examples: ['192.0.2.1'] }) },
            'text/plain': { schema: Type.String() },
          },
        },
        response: { ...changed, 201: Changed, ...problems(400, 404, 409, 412, 415, 503, 507) },
      },
    },
    async (request, reply) => {
      const { id, dictionary, key } = request.params
      const ifVersion = parseIfMatch(request.headers['if-match'])
      const value = (request.body as string | undefined) ?? ''
      const result = await spool
        .context(id, dictionary)
        .set(key, value, { ...request.query, ifVersion })
      return answer(reply, result.created ? 201 : 200, result)
    },
  )

  app.delete(
    '/messages/:id/context/:dictionary/:key',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'context_delete',
        summary: 'Remove a key of a dictionary',
        tags: ['context'],
        params: KeyParams,
        querystring: Forced,
        headers: Type.Object({ 'if-match': ifMatch }),
        response: { ...changed, ...problems(404, 412, 503, 507) },
      },
    },
    async (request, reply) => {
      const { id, dictionary, key } = request.params
      const ifVersion = parseIfMatch(request.headers['if-match'])
      const result = await spool
        .context(id, dictionary)
        .delete(key, { ...request.query, ifVersion })
      return answer(reply, 200, result)
    },
  )
}

function answer<Status extends 200 | 201>(
  reply: FastifyReply,
  status: Status,
  { result, meta }: SwapOutMetaResult,
) {
  reply.code(result === 'partial' ? 202 : status).header('etag', `"${meta.version}"`)
  return { result, version: meta.version }
}
