/**
 * Each request has an id: the caller's `X-Request-Id` when it is one, else one made here; it stands in the answer, in problem
 * documents and in the log. A request that is refused or fails is one line. What a line holds comes from here:
 * never a body, a header or a query, so neither mail nor tokens.
 */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import {
  type FastifyError,
  type FastifyPluginAsync,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController,
} from 'fastify'
import fp from 'fastify-plugin'
import { isStranger } from '../caller.js'

export const REQUEST_ID_HEADER = 'x-request-id'

/** What may stand in a log, a header and a URL as it is. */
const SANE = /^[A-Za-z0-9._~:+/=@-]{1,128}$/
const MAX_TEXT = 300

/** Of this process, so that ids of two do not meet in one log. */
const prefix = randomBytes(5).toString('hex')
let made = 0

export interface RequestLogOptions {
  /** A line for each request at level info; else at debug. */
  readonly everyRequest?: boolean | undefined
}

/** For the making of the server. */
export function requestLogging(
  options: RequestLogOptions,
): Pick<FastifyServerOptions, 'genReqId' | 'logController' | 'childLoggerFactory'> {
  return {
    genReqId: requestId,
    logController: new RequestLog(options.everyRequest ?? false),
    // Lines carry the id themselves: a logger of its own for each request costs more than all of them.
    childLoggerFactory: (logger) => logger,
  }
}

function requestId({ headers }: { headers: IncomingMessage['headers'] }): string {
  const given = headers[REQUEST_ID_HEADER]
  if (typeof given === 'string' && SANE.test(given)) return given
  made++
  return `${prefix}-${made.toString(36)}`
}

class RequestLog extends LogController {
  readonly #level: 'info' | 'debug'

  constructor(everyRequest: boolean) {
    super({ disableRequestLogging: true })
    this.#level = everyRequest ? 'info' : 'debug'
  }

  override requestCompleted(
    error: Error | null | undefined,
    request: FastifyRequest,
    reply: FastifyReply,
  ): void {
    const { log } = reply
    if (this.#level === 'debug' && log.level !== 'debug' && log.level !== 'trace') return
    log[this.#level](
      {
        ...lineOf(request),
        status: reply.statusCode,
        milliseconds: Math.round(reply.elapsedTime * 10) / 10,
        peer: request.ip,
        ...(error ? { err: error } : {}),
      },
      'request',
    )
  }

  override streamError(error: Error & { code?: string }, request: FastifyRequest): void {
    const line = { ...lineOf(request), code: error.code }
    if (error.code === 'ERR_STREAM_PREMATURE_CLOSE') request.log.debug(line, 'the caller went away')
    else request.log.warn({ ...line, err: error }, 'the answer broke off')
  }
}

const register: FastifyPluginAsync = async (app) => {
  app.addHook('onRequest', (request, reply, done) => {
    reply.header(REQUEST_ID_HEADER, request.id)
    done()
  })
}

export const requestIds = fp(register, { name: 'request-ids' })

/**
 * The line of a request that is answered with an error. One that is shed, or over its rate, is a line at level debug
 * only: why, and that, is said elsewhere, once. So is what strangers are refused: they must not fill a disk with lines.
 * @param detail what the caller is told, if it is ours
 */
export function logProblem(
  request: FastifyRequest,
  { status, code, detail }: { status: number; code: string; detail?: string | undefined },
  error?: FastifyError,
): void {
  const line = { ...lineOf(request), status, code }
  const isShed = code === 'NOT_READY' || code === 'TOO_MUCH_IN_FLIGHT' || status === 429
  if (isShed || (status < 500 && isStranger(request))) {
    request.log.debug(line, 'request refused')
  } else if (status >= 500) request.log.error({ ...line, err: error }, 'request failed')
  else {
    const told = detail === undefined ? {} : { detail: detail.slice(0, MAX_TEXT) }
    request.log.info({ ...line, ...told }, 'request refused')
  }
}

function lineOf(request: FastifyRequest) {
  const { url } = request.routeOptions
  const path = request.url.split('?', 1)[0]!.slice(0, MAX_TEXT)
  return {
    reqId: request.id,
    method: request.method,
    ...(url === undefined ? {} : { route: url }),
    path,
  }
}
