/**
 * How many requests a caller may make in a while, by its token, or by its address when it has none. Counts are kept in
 * memory for so many callers; one more, and the one that has been quiet for longest is forgotten.
 */
import { normalizeIP, fastifyRateLimit as rateLimit } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { HttpError } from '../problem.js'

export interface Rate {
  /** Requests in a window. */
  readonly max: number
  /** Milliseconds. */
  readonly window: number
}

const MAX_CALLERS = 10_000

/** Throws HttpError 429. */
export type CountRequest = (request: FastifyRequest, token: string | undefined) => Promise<void>

const tokenOf = Symbol('token')
type Counted = FastifyRequest & { [tokenOf]?: string | undefined }

export async function requestCounter(
  app: FastifyInstance,
  { max, window }: Rate,
): Promise<CountRequest> {
  await app.register(rateLimit, { global: false, cache: MAX_CALLERS })
  const count = app.createRateLimit({
    max,
    timeWindow: window,
    keyGenerator: (request) => {
      const token = (request as Counted)[tokenOf]
      return token === undefined ? addressOf(request) : `token ${token}`
    },
  })
  return async (request, token) => {
    ;(request as Counted)[tokenOf] = token
    const counted = await count(request)
    if (counted.isAllowed || !counted.isExceeded) return
    const seconds = Math.max(1, counted.ttlInSeconds)
    throw new HttpError(
      429,
      'RATE_LIMITED',
      `over ${max} requests in ${window / 1000} s; try again in ${seconds} s`,
      seconds,
    )
  }
}

/** An IPv6 host has a whole network of addresses: it counts as one. */
function addressOf({ ip }: FastifyRequest): string {
  // A Unix socket's peer has none.
  return (ip as string | undefined) === undefined ? 'local' : normalizeIP(ip)
}
