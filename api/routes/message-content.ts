/** A message's content, byte for byte. */
import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import parseRange from 'range-parser'
import Type from 'typebox'
import { HttpError } from '../problem.js'
import { IdParams, MESSAGE_TYPE, problems } from '../schemas.js'
import type { RouteOptions } from '../server.js'

/** Up to here a body is read in one piece. */
const WHOLE_BYTES = 64 * 1024

export const contentRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, { spool }) => {
  const content = {
    [MESSAGE_TYPE]: {
      schema: Type.Unsafe<Buffer | Readable>({ type: 'string', format: 'binary' }),
    },
  }
  app.get(
    '/messages/:id/content',
    {
      schema: {
        operationId: 'swap_in',
        summary: 'Read a message back',
        description:
          'Byte for byte as it came in. ETag is its SHA-256; Range takes one range of bytes.',
        tags: ['messages'],
        params: IdParams,
        headers: Type.Object({
          range: Type.Optional(Type.String({ examples: ['bytes=0-1023'] })),
          'if-none-match': Type.Optional(Type.String()),
          'if-range': Type.Optional(Type.String()),
        }),
        response: {
          200: { description: 'The content', content },
          206: { description: 'The range', content },
          304: { description: 'It is the content that If-None-Match names', type: 'null' },
          ...problems(404, 416),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      const { size, sha256 } = await spool.meta(id)
      const etag = `"${sha256}"`
      reply.header('etag', etag).header('accept-ranges', 'bytes').type(MESSAGE_TYPE)
      if (matches(request.headers['if-none-match'], etag)) return reply.code(304).send(null)

      const range = rangeOf(request.headers.range, request.headers['if-range'], etag, size)
      if (range === 'unsatisfiable') {
        reply.header('content-range', `bytes */${size}`)
        throw new HttpError(416, 'RANGE_NOT_SATISFIABLE', `the content has ${size} bytes`)
      }
      const body = await spool.swapIn(id, range ?? undefined)
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
      const stream = Readable.from(body.stream, { objectMode: false })
      stream.once('close', () => body.release())
      return reply.send(stream)
    },
  )
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
