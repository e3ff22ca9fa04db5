/** Content types beside JSON: mail as a stream, records as bytes. */
import { isUtf8 } from 'node:buffer'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { HttpError } from '../problem.js'
import { MESSAGE_TYPE, MSGPACK_TYPE, NDJSON_TYPE } from '../schemas.js'

export interface BodyParserOptions {
  /** Bytes of the largest body that is read whole into memory: JSON and records. */
  readonly maxBufferedBody: number
}

const register: FastifyPluginAsync<BodyParserOptions> = async (app, { maxBufferedBody }) => {
  // The handler reads it, so that a large message is never whole in memory.
  app.addContentTypeParser(MESSAGE_TYPE, (_request, payload, done) => done(null, payload))
  app.addContentTypeParser(
    ['application/octet-stream', NDJSON_TYPE, MSGPACK_TYPE, 'application/x-msgpack'],
    { parseAs: 'buffer', bodyLimit: maxBufferedBody },
    (_request, body, done) => done(null, body),
  )
  // Fastify's own would put replacement characters for what is not UTF-8, and so store what nobody sent.
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser<Buffer>(
    ['application/json', 'application/merge-patch+json'],
    { parseAs: 'buffer', bodyLimit: maxBufferedBody },
    (request, body, done) => {
      if (isUtf8(body)) parseJson(request, body.toString('utf8'), done)
      else done(new HttpError(400, 'INVALID_UTF8', 'body: not UTF-8'))
    },
  )
}

export const bodyParsers = fp(register, { name: 'body-parsers' })
