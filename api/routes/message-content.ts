/** A message's content: read byte for byte, replaced, dropped, copied. */
import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import parseRange from 'range-parser'
import Type from 'typebox'
import { passing } from '../../spool/index.js'
import { takeBody } from '../body.js'
import { structureToJson } from '../message-json.js'
import { mediaType } from '../negotiation.js'
import { HttpError, refuseWhenNotReady } from '../problem.js'
import {
  Binary,
  Empty,
  HEADERS_TYPE,
  IdParams,
  Injected,
  MESSAGE_TYPE,
  MimeStructureJson,
  problems,
} from '../schemas.js'
import type { RouteOptions } from '../server.js'
import type { MessageStore } from '../stores.js'
import { readByHandler } from '../validation.js'

/** Up to here a body is read in one piece. */
const WHOLE_BYTES = 64 * 1024

export const contentRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, options) => {
  const { spool } = options
  const content = {
    [MESSAGE_TYPE]: {
      schema: Type.Unsafe<Buffer | Readable>(Binary),
    },
  }
  app.get(
    '/messages/:id/content',
    {
      config: { scope: 'read' },
      schema: {
        operationId: 'swap_in',
        summary: 'Read a message back',
        description:
          'Byte for byte as it came in. ETag is its SHA-256; Range takes one range of bytes.',
        tags: ['messages'],
        params: IdParams,
        querystring: Type.Object(
          {
            part: Type.Optional(
              Type.Enum(['headers', 'mime-structure'], {
                description:
                  'headers: the header alone, without the empty line; mime-structure: the tree of MIME parts and what is wrong with it.',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        headers: Type.Object({
          range: Type.Optional(Type.String({ examples: ['bytes=0-1023'] })),
          'if-none-match': Type.Optional(Type.String()),
          'if-range': Type.Optional(Type.String()),
        }),
        response: {
          200: {
            description: 'The content, or what was asked for of it',
            content: {
              ...content,
              [HEADERS_TYPE]: content[MESSAGE_TYPE],
              'application/json': { schema: MimeStructureJson },
            },
          },
          206: { description: 'The range', content },
          304: { description: 'It is the content that If-None-Match names', type: 'null' },
          ...problems(404, 416),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      if (request.query.part !== undefined) {
        return sendPart(spool, id, request.query.part, request, reply)
      }
      let etag = ''
      let range: ReturnType<typeof rangeOf> | 'not modified' = null
      const body = await spool.swapIn(id, ({ size, sha256 }) => {
        etag = `"${sha256}"`
        range = matches(request.headers['if-none-match'], etag)
          ? 'not modified'
          : rangeOf(request.headers.range, request.headers['if-range'], etag, size)
        if (typeof range === 'string') return { start: 0, end: 0 }
        return range ?? { start: 0, end: size }
      })
      reply.header('etag', etag).header('accept-ranges', 'bytes').type(MESSAGE_TYPE)
      range = range as ReturnType<typeof rangeOf> | 'not modified'
      if (range === 'not modified') return reply.code(304).send(null)
      if (range === 'unsatisfiable') {
        reply.header('content-range', `bytes */${body.size}`)
        throw new HttpError(416, 'RANGE_NOT_SATISFIABLE', `the content has ${body.size} bytes`)
      }
      if (range !== null)
        reply.code(206).header('content-range', `bytes ${body.start}-${body.end - 1}/${body.size}`)
      const length = body.end - body.start
      reply.header('content-length', length)
      if (request.method === 'HEAD') {
        body.release()
        // A stream, because Fastify would count the bytes of anything else for content-length.
        return reply.send(Readable.from([]))
      }
      if (length <= WHOLE_BYTES) return reply.send(await body.buffer())
      const stream = Readable.from(passing(body.stream), { objectMode: false })
      stream.once('close', () => body.release())
      return reply.send(stream)
    },
  )

  app.put(
    '/messages/:id/content',
    {
      config: { scope: 'deliver' },
      schema: {
        operationId: 'swap_out_content',
        summary: 'Replace the content of a message',
        description:
          'Copy on write: messages that share the old content keep it. If-Match takes the ETag of the content that is to be replaced; If-None-Match: * stores it only where there is none.',
        tags: ['messages'],
        params: IdParams,
        headers: Type.Object({ 'if-match': contentMatch, 'if-none-match': noContent }),
        body: {
          description: 'The content as it is, streamed',
          content: { [MESSAGE_TYPE]: { schema: readByHandler(Binary) } },
        },
        response: {
          200: Type.Object({
            result: Type.String({ examples: ['complete'] }),
            version: Type.Integer({ description: 'Of the meta, after the change.' }),
            size: Type.Integer(),
            sha256: Type.String(),
          }),
          ...problems(400, 404, 412, 413, 415, 503, 507),
        },
      },
    },
    async (request, reply) => {
      refuseWhenNotReady(options)
      const { id } = request.params
      if (mediaType(request.headers['content-type']) !== MESSAGE_TYPE) {
        throw new HttpError(
          415,
          'FST_ERR_CTP_INVALID_MEDIA_TYPE',
          `send the content as ${MESSAGE_TYPE}`,
        )
      }
      const ifSha256 = parseContentConditions(request.headers)
      // Before a large body is taken in for nothing.
      await spool.meta(id)
      const body = await takeBody(request.raw, options)
      try {
        const { version, size, sha256 } = await spool.swapOutContent(id, body, { ifSha256 })
        reply.header('etag', `"${sha256}"`)
        return { result: 'complete', version, size, sha256: sha256 ?? '' }
      } catch (error) {
        if ('discard' in body) await body.discard()
        throw error
      }
    },
  )

  app.delete(
    '/messages/:id/content',
    {
      config: { scope: 'deliver', audit: () => true },
      schema: {
        operationId: 'swap_remove_content',
        summary: 'Drop the content of a message and keep its meta',
        tags: ['messages'],
        params: IdParams,
        headers: Type.Object({ 'if-match': contentMatch }),
        response: { 204: Empty, ...problems(400, 404, 412, 503, 507) },
      },
    },
    async (request, reply) => {
      const ifSha256 = parseContentMatch(request.headers['if-match'])
      await spool.swapRemoveContent(request.params.id, { ifSha256 })
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/messages/:id/copy',
    {
      config: { scope: ['inject', 'read'] },
      schema: {
        operationId: 'message_copy',
        summary: 'Copy a message under a new id',
        description:
          'Envelope, dictionaries and schedule as they are, not attempted yet, protocol internal; the reception is logged. share=true shares the content, copy on write.',
        tags: ['messages'],
        params: IdParams,
        querystring: Type.Object(
          { share: Type.Boolean({ default: false }) },
          { additionalProperties: false },
        ),
        response: { 201: Injected, ...problems(400, 404, 409, 503, 507) },
      },
    },
    async (request, reply) => {
      refuseWhenNotReady(options)
      reply.code(201)
      return spool.copy(request.params.id, request.query)
    },
  )
}

/** Its ETag is that of the content with the part's name. */
async function sendPart(
  spool: MessageStore,
  id: string,
  part: 'headers' | 'mime-structure',
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const isKnown = (sha256: string) => {
    const etag = `"${sha256}-${part}"`
    reply.header('etag', etag)
    return matches(request.headers['if-none-match'], etag)
  }
  if (part === 'mime-structure') {
    const structure = await spool.swapInStructure(id)
    if (isKnown(structure.sha256)) return reply.code(304).send(null)
    return reply.type('application/json; charset=utf-8').send(structureToJson(structure))
  }
  const headers = await spool.swapInHeaders(id)
  reply.type(HEADERS_TYPE)
  if (isKnown(headers.sha256)) {
    headers.release()
    return reply.code(304).send(null)
  }
  const stream = Readable.from(headers.stream, { objectMode: false })
  stream.once('close', () => headers.release())
  return reply.header('content-length', headers.end).send(stream)
}

function matches(header: string | undefined, etag: string): boolean {
  const tags = header?.split(',').map((tag) => tag.trim().replace(/^W\//, '')) ?? []
  return tags.includes(etag) || tags.includes('*')
}

/** RFC 9110, section 14.2: a header that is malformed, has a validator that fails, or asks for several ranges is as none. */
function rangeOf(
  header: string | undefined,
  ifRange: string | undefined,
  etag: string,
  size: number,
): { start: number; end: number } | 'unsatisfiable' | null {
  if (header === undefined || (ifRange !== undefined && ifRange !== etag)) return null
  const ranges = parseRange(size, header)
  if (ranges === -1) return 'unsatisfiable'
  if (ranges === -2 || ranges.type !== 'bytes' || ranges.length !== 1) return null
  const [{ start, end }] = ranges as unknown as [{ start: number; end: number }]
  return { start, end: end + 1 }
}

const contentMatch = Type.Optional(Type.String({ description: 'ETag of the content it must have' }))

const noContent = Type.Optional(
  Type.String({ description: '*: the message must have no content', examples: ['*'] }),
)

/** null: there must be none. Throws HttpError 400. */
function parseContentConditions(headers: {
  'if-match'?: string
  'if-none-match'?: string
}): string | null | undefined {
  const none = headers['if-none-match']
  if (none === undefined) return parseContentMatch(headers['if-match'])
  if (none.trim() === '*' && headers['if-match'] === undefined) return null
  const detail = 'headers.if-none-match: give *, and no If-Match beside it'
  throw new HttpError(400, 'INVALID_IF_NONE_MATCH', detail)
}

function parseContentMatch(header: string | undefined): string | undefined {
  if (header === undefined || header === '*') return undefined
  const match = /^"([0-9a-f]{64})"$/.exec(header)
  if (match) return match[1]
  const detail = 'headers.if-match: give the ETag of the content'
  throw new HttpError(400, 'INVALID_IF_MATCH', detail)
}
