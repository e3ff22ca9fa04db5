/**
 * Takes no more than can be stored. While there is a reason, whatever makes the spool or a journal larger is refused with 503
 * and `Retry-After`, before its body is read; reads are served, and so is what makes room or keeps mail moving: claims,
 * dispositions, removals, checkpoints. Beside that, the bytes of all request bodies that are held at once are
 * bounded, whatever they are for: one more is refused until others have been answered.
 */
import { Transform } from 'node:stream'
import type { FastifyPluginAsync, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { Counter, Gauge, type Registry } from 'prom-client'
import { FORM_TYPE } from '../multipart.js'
import { mediaType } from '../negotiation.js'
import { HttpError, notTaken } from '../problem.js'
import { REASON_CODES, type Reason, type ReasonCode } from '../readiness.js'
import { MESSAGE_TYPE } from '../schemas.js'

export interface LoadSheddingOptions {
  /** Why no messages are taken now; empty when they are. Called with each request that stores: no I/O. */
  readonly notReady: () => readonly Reason[]
  /** Bytes of request bodies held at once; 256 MiB when left out. */
  readonly maxInFlight?: number | undefined
  readonly registry: Registry
}

const MESSAGES: readonly ReasonCode[] = [
  'stopping',
  'spool_read_only',
  'low_space',
  'log_backlog',
  'commits_late',
  'memory_high',
  'event_loop_late',
]
/** A journal of somebody else's records is not the spool. */
const RECORDS: readonly ReasonCode[] = ['stopping', 'low_space', 'memory_high', 'event_loop_late']

/** Operations that make spool or journals larger, and what they are refused for. */
export const SHED: Readonly<Record<string, readonly ReasonCode[]>> = {
  swap_out: MESSAGES,
  swap_out_multi: MESSAGES,
  swap_out_content: MESSAGES,
  message_copy: MESSAGES,
  quarantine_release: MESSAGES,
  spool_import: MESSAGES,
  journal_append: RECORDS,
}

const DEFAULT_IN_FLIGHT = 256 * 1024 * 1024
/** What is streamed holds about so much of a body at once, whatever its size. */
const STREAMED_BYTES = 256 * 1024
/** Bytes, text and what is made of it. */
const PARSED_FACTOR = 3
const BUSY_RETRY_AFTER = 2
const IN_FLIGHT = 'in_flight'

declare module 'fastify' {
  interface FastifyRequest {
    /** Bytes that the request counts for. */
    inFlight: number
  }
}

const register: FastifyPluginAsync<LoadSheddingOptions> = async (app, options) => {
  const { notReady, maxInFlight = DEFAULT_IN_FLIGHT, registry } = options
  const registers = [registry]
  let inFlight = 0
  const sheds = new Counter({
    name: 'bobbin_sheds_total',
    help: 'Requests refused because of load, by the first reason.',
    labelNames: ['reason'],
    registers,
  })
  // From 0 on, so that a rate sees the first one, too.
  for (const reason of [...REASON_CODES, IN_FLIGHT]) sheds.inc({ reason }, 0)
  new Gauge({
    name: 'bobbin_http_in_flight_bytes',
    help: 'Bytes that request bodies being taken in count for; bounded by shed.in_flight.',
    registers,
    collect() {
      this.set(inFlight)
    },
  })
  app.decorateRequest('inFlight', 0)

  const shed = (codes: readonly ReasonCode[]) => {
    const all = notReady()
    if (all.length === 0) return
    const reasons = all.filter(({ code }) => codes.includes(code))
    const [first] = reasons
    if (first === undefined) return
    sheds.inc({ reason: first.code })
    throw notTaken(reasons)
  }

  const hold = (request: FastifyRequest, bytes: number) => {
    // One alone is always taken: how large it may be is bounded elsewhere.
    if (inFlight > request.inFlight && inFlight + bytes > maxInFlight) {
      sheds.inc({ reason: IN_FLIGHT })
      throw new HttpError(
        503,
        'TOO_MUCH_IN_FLIGHT',
        `${inFlight} bytes of requests are being taken in, of ${maxInFlight} (shed.in_flight)`,
        BUSY_RETRY_AFTER,
      )
    }
    inFlight += bytes
    request.inFlight += bytes
  }

  app.addHook('onRoute', (route) => {
    if (!takesBody(route)) return
    const codes = SHED[String((route.schema as { operationId?: string } | undefined)?.operationId)]
    route.onRequest = [
      ...[route.onRequest ?? []].flat(),
      (request, reply, done) => {
        try {
          if (codes !== undefined) shed(codes)
          const bytes = weightOf(request)
          if (bytes > 0) hold(request, bytes)
        } catch (error) {
          return done(error as Error)
        }
        // Also when the client goes away before there is an answer.
        reply.raw.once('close', () => {
          inFlight -= request.inFlight
        })
        done()
      },
    ]
    route.preParsing = [
      ...[route.preParsing ?? []].flat(),
      (request, _reply, payload, done) => {
        if (request.headers['transfer-encoding'] === undefined || isStreamed(request)) {
          return done(null, payload)
        }
        // How large it is shows as it comes.
        const counting = new Transform({
          transform(chunk: Buffer, _encoding, next) {
            try {
              hold(request, chunk.length * PARSED_FACTOR)
              next(null, chunk)
            } catch (error) {
              next(error as Error)
            }
          },
        })
        payload.once('error', (error) => counting.destroy(error))
        done(null, payload.pipe(counting))
      },
    ]
  })
}

export const loadShedding = fp(register, { name: 'load-shedding' })

function takesBody({ method }: RouteOptions): boolean {
  return [method].flat().some((name) => name === 'POST' || name === 'PUT' || name === 'PATCH')
}

function isStreamed({ headers }: FastifyRequest): boolean {
  const type = mediaType(headers['content-type'])
  return type === MESSAGE_TYPE || type === FORM_TYPE
}

/** What the request will hold in memory, about, as far as its head says. */
function weightOf(request: FastifyRequest): number {
  const { 'content-length': length, 'transfer-encoding': encoding } = request.headers
  if (length === undefined && encoding === undefined) return 0
  if (!isStreamed(request)) return Number(length ?? 0) * PARSED_FACTOR
  return Math.min(Number(length ?? STREAMED_BYTES), STREAMED_BYTES)
}
