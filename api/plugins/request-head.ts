/**
 * What the head of a request says of its body and its address, where it would make something else of them than is stored here. A
 * body that is compressed, or one part of a larger one, would be kept as if it were the message, one without a length as if it were
 * empty, and an address that is not UTF-8 as its percent signs: each is refused before the body is read.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { mediaType } from '../negotiation.js'
import { HttpError } from '../problem.js'
import { MESSAGE_TYPE } from '../schemas.js'

const register: FastifyPluginAsync = async (app) => {
  app.addHook('onRequest', (request, reply, done) => {
    const refusal = refusalOf(request.raw)
    if (refusal?.code === 'CONTENT_ENCODING') reply.header('accept-encoding', 'identity')
    done(refusal)
  })
}

export const requestHead = fp(register, { name: 'request-head' })

function refusalOf({
  method,
  headers,
  httpVersion,
  url = '',
}: IncomingMessage): HttpError | undefined {
  const { 'content-encoding': encoding, 'transfer-encoding': transfer } = headers
  // RFC 9112, section 3.2
  if (httpVersion === '1.1' && headers.host === undefined)
    return new HttpError(400, 'HOST_MISSING', 'headers.host: missing')
  // RFC 9110, section 10.1.1
  if (headers.expect !== undefined && !/^100-continue$/i.test(headers.expect)) {
    const detail = `headers.expect: ${headers.expect}: 100-continue is all that is met`
    return new HttpError(417, 'EXPECTATION_FAILED', detail)
  }
  // RFC 9112, section 6.1: Node.js takes off the chunks, and nothing else.
  if (transfer !== undefined && transfer.toLowerCase() !== 'chunked') {
    const detail = `headers.transfer-encoding: ${transfer}: send it chunked, or with its Content-Length`
    return new HttpError(501, 'TRANSFER_ENCODING', detail)
  }
  // RFC 9110, section 15.5.16
  if (encoding !== undefined && !/^(identity)?$/i.test(encoding)) {
    const detail = `headers.content-encoding: ${encoding}: send the body as it is`
    return new HttpError(415, 'CONTENT_ENCODING', detail)
  }
  // RFC 9110, section 15.5.12
  if (
    transfer === undefined &&
    headers['content-length'] === undefined &&
    isStored(method, headers)
  ) {
    const detail =
      'headers.content-length: missing; give it, also for an empty body, or send it chunked'
    return new HttpError(411, 'LENGTH_REQUIRED', detail)
  }
  // RFC 9110, section 14.5
  if (method === 'PUT' && headers['content-range'] !== undefined) {
    const detail = 'headers.content-range: a PUT replaces all of it; send it whole'
    return new HttpError(400, 'PARTIAL_PUT', detail)
  }
  return isText(url)
    ? undefined
    : new HttpError(400, 'INVALID_QUERY', 'querystring: not UTF-8, percent-encoded')
}

const STORED_AS_IS = [MESSAGE_TYPE, 'application/octet-stream', 'text/plain']

/** To HTTP a body without a length is none, and what follows another request: it would be stored as if it were empty. */
function isStored(method: string | undefined, headers: IncomingHttpHeaders): boolean {
  const isSent = method === 'POST' || method === 'PUT'
  return isSent && STORED_AS_IS.includes(mediaType(headers['content-type']))
}

/** Of the query: the path is the router's. */
function isText(url: string): boolean {
  const query = url.indexOf('?')
  if (query === -1 || !url.includes('%', query)) return true
  try {
    decodeURIComponent(url.slice(query))
    return true
  } catch {
    return false
  }
}
