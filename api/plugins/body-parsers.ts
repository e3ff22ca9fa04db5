/** Content types beside JSON: mail as a stream, records as bytes. */
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
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
  app.addContentTypeParser(
    'application/merge-patch+json',
    { parseAs: 'string', bodyLimit: maxBufferedBody },
    app.getDefaultJsonParser('error', 'error'),
  )
}

export const bodyParsers = fp(register, { name: 'body-parsers' })
