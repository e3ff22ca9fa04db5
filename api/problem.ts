/**
 * Errors as `application/problem+json` (RFC 9457): one table from the stable codes of spool and journal to HTTP statuses.
 * A member `code` is stable; `detail` says what happened and what helps; `errors` lists what is wrong in the input.
 */
import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type, { type Static } from 'typebox'
import { JlogError, type JlogErrorCode } from '../jlog/index.js'
import { SpoolError, type SpoolErrorCode } from '../spool/index.js'
import { isHeldBack } from './expect-continue.js'
import { logProblem } from './plugins/request-log.js'
import { type Reason, ReasonJson } from './readiness.js'

export const Problem = Type.Object(
  {
    type: Type.String({ description: 'Always about:blank: `code` tells problems apart.' }),
    title: Type.String(),
    status: Type.Integer(),
    code: Type.String({ description: 'Stable name of the problem.' }),
    detail: Type.String({ description: 'What happened, where, and what helps.' }),
    instance: Type.Optional(
      Type.String({ description: 'Id of the request, as in the log and in X-Request-Id.' }),
    ),
    errors: Type.Optional(
      Type.Array(Type.Object({ where: Type.String(), message: Type.String() }), {
        description: 'Each thing that is wrong in the input.',
      }),
    ),
    reasons: Type.Optional(
      Type.Array(ReasonJson, { description: 'Why nothing is taken now (NOT_READY).' }),
    ),
  },
  { $id: 'Problem', title: 'Problem', description: 'RFC 9457 problem details' },
)
export type Problem = Static<typeof Problem>

export const PROBLEM_TYPE = 'application/problem+json'

/** An error that a route itself finds. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  constructor(
    readonly statusCode: number,
    readonly code: string,
    message: string,
    readonly retryAfter?: number,
    readonly reasons?: readonly Reason[],
  ) {
    super(message)
  }
}

/** 503 with the reasons, of which there is at least one. */
export function notTaken(reasons: readonly Reason[]): HttpError {
  const details = reasons.map(({ detail }) => detail).join('; ')
  const retryAfter = Math.max(...reasons.map((reason) => reason.retryAfter))
  return new HttpError(503, 'NOT_READY', `nothing is taken now: ${details}`, retryAfter, reasons)
}

/** For routes that store: throws HttpError 503 with the reasons. */
export function refuseWhenNotReady({ notReady }: { notReady(): readonly Reason[] }): void {
  const reasons = notReady()
  if (reasons.length > 0) throw notTaken(reasons)
}

const SPOOL_STATUS: Partial<Record<SpoolErrorCode, number>> = {
  SPOOL_ERR_NOT_FOUND: 404,
  SPOOL_ERR_INVALID: 400,
  SPOOL_ERR_TOO_LARGE: 413,
  SPOOL_ERR_EXISTS: 409,
  SPOOL_ERR_CONFLICT: 409,
  SPOOL_ERR_KEY_REUSED: 409,
  SPOOL_ERR_KEYS_FULL: 503,
  SPOOL_ERR_REFUSED: 422,
  SPOOL_ERR_UNSAFE: 422,
  SPOOL_ERR_LEASE: 409,
  SPOOL_ERR_VERSION: 412,
  SPOOL_ERR_BUSY: 409,
  SPOOL_ERR_FULL: 507,
  SPOOL_ERR_READ_ONLY: 503,
  SPOOL_ERR_WRITE: 503,
  SPOOL_ERR_CLOSED: 503,
  SPOOL_ERR_ABORTED: 400,
}

const JLOG_STATUS: Partial<Record<JlogErrorCode, number>> = {
  JLOG_ERR_OPEN: 404,
  JLOG_ERR_INVALID_SUBSCRIBER: 404,
  JLOG_ERR_CREATE_EXISTS: 409,
  JLOG_ERR_SUBSCRIBER_EXISTS: 409,
  JLOG_ERR_ILLEGAL_INIT: 400,
  JLOG_ERR_ILLEGAL_LOGID: 400,
  JLOG_ERR_ILLEGAL_CHECKPOINT: 409,
  JLOG_ERR_NOT_SUPPORTED: 422,
  JLOG_ERR_LOCK: 503,
  JLOG_ERR_ILLEGAL_WRITE: 503,
  JLOG_ERR_FILE_WRITE: 503,
}

const RETRY_AFTER_SECONDS = 5

/** Fastify's error handler: answers every error, and logs those that are ours. */
export function handleError(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  const status = statusOf(error)
  const code = codeOf(error)
  logProblem(request, { status, code, detail: isOurs(error) ? error.message : undefined }, error)
  reply.send(problem(request, reply, status, code, detailOf(error, status), error))
}

export function handleNotFound(request: FastifyRequest, reply: FastifyReply): void {
  const detail = `there is no ${request.method} ${request.url.split('?')[0]}; GET /openapi.json describes what there is`
  logProblem(request, { status: 404, code: 'NOT_FOUND' })
  reply.send(problem(request, reply, 404, 'NOT_FOUND', detail))
}

const CLIENT_ERRORS: Record<string, { status: number; detail: string }> = {
  HPE_HEADER_OVERFLOW: { status: 431, detail: 'the request line and headers are too large' },
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, detail: 'the request did not arrive in time' },
}

const LINGER_MS = 1000

/** What is not even a request: there is no route and no reply yet, only a socket. */
export function handleClientError(
  this: FastifyInstance,
  error: NodeJS.ErrnoException,
  socket: Socket,
): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const known = CLIENT_ERRORS[error.code ?? '']
  const status = known?.status ?? 400
  const problem: Problem = {
    type: 'about:blank',
    title: STATUS_CODES[status] ?? 'Error',
    status,
    code: error.code ?? 'BAD_REQUEST',
    detail: known?.detail ?? `not an HTTP request: ${error.message}`,
  }
  const body = JSON.stringify(problem)
  const line = { status, code: problem.code, peer: socket.remoteAddress }
  // Anybody can send this; where callers have to be known, it must not fill a disk.
  this.log[this.asksForTokens ? 'debug' : 'info'](line, 'request refused')
  // Who does not close its side either is not waited for.
  const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref()
  socket.once('close', () => clearTimeout(timer))
  socket.end(
    `HTTP/1.1 ${status} ${problem.title}\r\ncontent-type: ${PROBLEM_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}

function problem(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
  code: string,
  detail: string,
  error?: Partial<FastifyError> & { retryAfter?: number; reasons?: readonly Reason[] },
): Problem {
  request.server.countProblem?.(code)
  if (isHeldBack(request.raw)) reply.header('connection', 'close')
  else if (!request.raw.complete) discardRest(request.raw)
  if (status === 503 || status === 429)
    reply.header('retry-after', error?.retryAfter ?? RETRY_AFTER_SECONDS)
  reply.code(status).type(PROBLEM_TYPE)
  const body: Problem = {
    type: 'about:blank',
    title: STATUS_CODES[status] ?? 'Error',
    status,
    code,
    detail,
    instance: request.id,
  }
  if (error?.reasons) body.reasons = error.reasons.map(({ code, detail }) => ({ code, detail }))
  if (error?.validation) {
    body.errors = error.validation.map(({ instancePath, message, params }) => {
      const named = params.additionalProperty ?? params.missingProperty
      const where = `${error.validationContext ?? 'body'}${instancePath.replaceAll('/', '.')}`
      return {
        where: named === undefined ? where : `${where}.${named}`,
        message: message ?? 'is not valid',
      }
    })
  }
  return body
}

const DISCARD_MS = 10_000

/**
 * The answer comes before the body has: its rest is read and dropped for a while, for a socket that is closed with
 * unread bytes is reset, and the client would never see the answer.
 */
function discardRest(request: IncomingMessage): void {
  request.resume()
  const timer = setTimeout(() => request.destroy(), DISCARD_MS).unref()
  request.once('close', () => clearTimeout(timer))
}

/** What `handleError` would answer, for one of several results. */
export function problemOf(error: Error): { status: number; code: string; detail: string } {
  const status = statusOf(error as FastifyError)
  return {
    status,
    code: codeOf(error as FastifyError),
    detail: detailOf(error as FastifyError, status),
  }
}

function statusOf(error: FastifyError): number {
  // What is not even an id names no message.
  if (error instanceof SpoolError && error.field === 'id') return 404
  if (error instanceof SpoolError) return SPOOL_STATUS[error.code] ?? 500
  if (error instanceof JlogError) return isDiskFull(error) ? 507 : (JLOG_STATUS[error.code] ?? 500)
  // The client went away; nobody will read the answer.
  if (error.code === 'ECONNRESET') return 400
  const status = error.statusCode ?? 500
  return status >= 400 && status < 600 ? status : 500
}

function codeOf(error: FastifyError): string {
  if (typeof error.code === 'string' && error.code !== '') return error.code
  return (STATUS_CODES[statusOf(error)] ?? 'ERROR').toUpperCase().replaceAll(/[^A-Z]+/g, '_')
}

/** What is not ours to explain stays in the log: an internal message may hold a path or a payload. */
function detailOf(error: FastifyError, status: number): string {
  if (status >= 500 && !isOurs(error))
    return 'an internal error; the log has the details under the id of this request'
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return `${error.message}; GET /openapi.json says which content types this call takes`
  }
  return error.message
}

/** Whether its message says what we mean it to. */
function isOurs(error: Error): boolean {
  return error instanceof SpoolError || error instanceof JlogError || error instanceof HttpError
}

function isDiskFull(error: JlogError): boolean {
  const code = (error.cause as NodeJS.ErrnoException | undefined)?.code
  return code === 'ENOSPC' || code === 'EDQUOT'
}
