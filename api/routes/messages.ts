/** Injection, listing, meta, removal. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import Type, { type Static } from 'typebox'
import { MESSAGE_STATES, type NewMessage } from '../../spool/index.js'
import { takeBody } from '../body.js'
import { idempotencyKey, noteReplay, parseIdempotencyKey } from '../idempotency-key.js'
import { metaToJson, parseTime, patchFromJson } from '../message-json.js'
import { renderMeta } from '../meta-render.js'
import { parseIfMatch, preferred } from '../negotiation.js'
import { HttpError, refuseWhenNotReady } from '../problem.js'
import {
  Empty,
  IdParams,
  Injected,
  type InjectionJson,
  injectionJson,
  injectionQuery,
  MESSAGE_TYPE,
  MetaPatchJson,
  MetaRef,
  problems,
  TimeInput,
} from '../schemas.js'
import type { RouteOptions } from '../server.js'

const PAGE_LIMIT = 1000
const META_TYPES = ['application/json', 'text/plain', 'application/xml'] as const

export const messageRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, options) => {
  const { spool, limits } = options
  const Query = injectionQuery(limits.maxRecipients)
  const Json = injectionJson(limits.maxRecipients)

  app.post(
    '/messages',
    {
      config: { scope: 'inject' },
      schema: {
        operationId: 'swap_out',
        summary: 'Inject a message',
        description:
          'Stores the message for each recipient, with the log record of its reception, and answers once all of it is durable.',
        tags: ['messages'],
        querystring: Query,
        headers: Type.Object({ 'idempotency-key': idempotencyKey }),
        body: {
          description: 'The message as it is, streamed, with from and to in the query; or JSON.',
          content: {
            [MESSAGE_TYPE]: { schema: Type.Unsafe<NodeJS.ReadableStream>({}) },
            'application/json': { schema: Json },
          },
        },
        response: { 201: Injected, ...problems(400, 404, 409, 413, 415, 503, 507) },
      },
    },
    async (request, reply) => {
      refuseWhenNotReady(options)
      const key = parseIdempotencyKey(request.headers['idempotency-key'])
      const message = isJson(request)
        ? messageFromJson(request.body as InjectionJson)
        : await messageFromStream(request, request.query, options)
      const result = await storeOrDiscard(options, message, key)
      noteReplay(reply, result)
      reply.code(201)
      return {
        result: result.result,
        ids: [...result.ids],
        size: result.size,
        sha256: result.sha256,
      }
    },
  )

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
        headers: Type.Object({
          'if-match': Type.Optional(Type.String({ description: 'The version it must have' })),
        }),
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
      config: { scope: 'deliver' },
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
        response: { 202: Empty, 204: Empty, ...problems(404, 503) },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      if (!request.query.when_free) await spool.swapRemove(id)
      else if ((await spool.unlinkOnFree(id)) === 'marked') return reply.code(202).send(null)
      return reply.code(204).send(null)
    },
  )
}

function isJson(request: FastifyRequest): boolean {
  return request.headers['content-type']?.startsWith('application/json') ?? false
}

function messageFromJson(json: InjectionJson): NewMessage {
  const { content, content_base64: base64, refs, context, ...envelope } = json
  if ([content, base64, refs].filter((given) => given !== undefined).length !== 1) {
    throw new HttpError(
      400,
      'INVALID_CONTENT',
      'body: give the message as content, as content_base64 or as refs, one of them',
    )
  }
  const body =
    refs !== undefined
      ? { refs }
      : content === undefined
        ? decodeBase64(base64!)
        : Buffer.from(content, 'utf8')
  return {
    ...envelopeOf(envelope),
    mailfrom: json.mailfrom,
    rcptto: json.rcptto,
    body,
    ...(context ? { context } : {}),
  }
}

/** By hand, because a pattern that says as much takes a stack as deep as the text is long. */
function decodeBase64(text: string): Buffer {
  const end = text.length - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0)
  const bad = text.search(/[^A-Za-z0-9+/]/)
  if (text.length % 4 !== 0 || (bad !== -1 && bad < end)) {
    const where = bad !== -1 && bad < end ? `at character ${bad}` : 'by its length'
    throw new HttpError(400, 'INVALID_CONTENT', `body.content_base64: not base64, ${where}`)
  }
  return Buffer.from(text, 'base64')
}

async function messageFromStream(
  request: FastifyRequest,
  query: Static<ReturnType<typeof injectionQuery>>,
  options: RouteOptions,
): Promise<NewMessage> {
  const { from, to, ...envelope } = query
  if (!request.headers['content-type']?.startsWith(MESSAGE_TYPE)) {
    throw new HttpError(
      415,
      'FST_ERR_CTP_INVALID_MEDIA_TYPE',
      `send the message as ${MESSAGE_TYPE} or application/json`,
    )
  }
  if (from === undefined || to === undefined) {
    throw new HttpError(
      400,
      'INVALID_ENVELOPE',
      'querystring: from (may be empty) and at least one to are needed',
    )
  }
  const body = await takeBody(request.raw, options)
  return { ...envelopeOf(envelope), mailfrom: from, rcptto: to, body }
}

function envelopeOf(
  fields: Omit<Static<ReturnType<typeof injectionQuery>>, 'from' | 'to'>,
): Omit<NewMessage, 'mailfrom' | 'rcptto' | 'body'> {
  const { batch_id, connection_id, protocol, binding_group, binding, next_attempt, retention } =
    fields
  return {
    protocol: protocol ?? 'rest',
    ...(batch_id === undefined ? {} : { batchId: batch_id }),
    ...(connection_id === undefined ? {} : { connectionId: connection_id }),
    ...(binding_group === undefined ? {} : { bindingGroup: binding_group }),
    ...(binding === undefined ? {} : { binding }),
    ...(next_attempt === undefined ? {} : { nextAttempt: parseTime(next_attempt) }),
    ...(retention === undefined ? {} : { retention }),
  }
}

async function storeOrDiscard(
  { spool }: RouteOptions,
  message: NewMessage,
  idempotencyKey: string | undefined,
) {
  try {
    return await spool.swapOut(message, { idempotencyKey })
  } catch (error) {
    if ('discard' in message.body) await message.body.discard()
    throw error
  }
}
