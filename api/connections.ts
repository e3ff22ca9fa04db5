/**
 * What a connection may cost: how many there are at once, how long a request may take to arrive, how large its head may be.
 * Who is too slow is answered 408 and cut off, whether it is the head or the body that does not come.
 */
import type { ServerOptions } from 'node:http'
import type { FastifyInstance } from 'fastify'

export interface ConnectionLimits {
  /** Connections at once; those beyond are closed unanswered. */
  readonly maxConnections?: number
  /** Bytes of the request line with the headers. */
  readonly maxHeaderBytes?: number
  /** Milliseconds in which they must have arrived. */
  readonly headersTimeout?: number
  /** Milliseconds that a connection on which nothing moves is kept; left out or 0: for ever. */
  readonly idleTimeout?: number
  /** Milliseconds in which a request must have arrived whole; 0 waits for ever. */
  readonly requestTimeout: number
}

export const DEFAULT_CONNECTIONS = 4096
/** Many recipients in a query string make a long request line. */
export const DEFAULT_HEADER_BYTES = 256 * 1024
export const DEFAULT_HEADERS_TIMEOUT = 20_000

const MAX_CHECKING_MS = 5000
const TELL_MS = 10_000

/** For `http.createServer`, or that of https. */
export function serverOptions({
  maxHeaderBytes = DEFAULT_HEADER_BYTES,
  headersTimeout = DEFAULT_HEADERS_TIMEOUT,
  requestTimeout,
}: ConnectionLimits): ServerOptions {
  const headers = requestTimeout > 0 ? Math.min(headersTimeout, requestTimeout) : headersTimeout
  return {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headers,
    requestTimeout,
    // Its answer would be no problem document. plugins/request-head.ts has one.
    requireHostHeader: false,
    // Node.js looks every 30 seconds by default: late by that much.
    connectionsCheckingInterval: Math.min(MAX_CHECKING_MS, Math.ceil(headers / 4)),
  }
}

/** Connections beyond the limit are refused, and the log says how many. */
export function limitConnections(
  { server, log }: FastifyInstance,
  { maxConnections = DEFAULT_CONNECTIONS }: ConnectionLimits,
): void {
  server.maxConnections = maxConnections
  let dropped = 0
  let told: NodeJS.Timeout | undefined
  const tell = () => {
    told = undefined
    if (dropped === 0) return
    log.warn(
      { dropped, maxConnections },
      'connections refused: there are as many as limits.connections allows',
    )
    dropped = 0
    told = setTimeout(tell, TELL_MS).unref()
  }
  server.on('drop', () => {
    dropped++
    if (told === undefined) tell()
  })
}
