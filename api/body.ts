/** Request bodies that the handlers read themselves. */
import type { IncomingMessage } from 'node:http'
import type { StagedBody } from '../spool/index.js'
import { passing } from '../spool/index.js'
import { HttpError } from './problem.js'
import type { MessageStore } from './stores.js'

/** Up to here, gathering the body is cheaper than streaming it, and 64 connections of it are still little memory. */
const SMALL_BODY_BYTES = 64 * 1024

/**
 * A message's content: a small one gathered, a large one streamed into the spool.
 * Throws HttpError 413, before anything is read, for one that says itself that it is too large, and what `stageBody` does.
 */
export async function takeBody(
  request: IncomingMessage,
  { spool, limits }: { spool: MessageStore; limits: { maxMessageSize: number } },
): Promise<Buffer | StagedBody> {
  const { maxMessageSize: maxBytes } = limits
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) {
    const detail = `the body is over the limit of ${maxBytes} bytes`
    throw new HttpError(413, 'SPOOL_ERR_TOO_LARGE', detail)
  }
  const small = readSmallBody(request)
  if (small !== null) return small
  return spool.stageBody(passing(request.iterator({ destroyOnReturn: false })), { maxBytes })
}

/**
 * The whole body, when the request says that it is small.
 * @returns null when it is large, or does not say: then nothing has been read
 */
function readSmallBody(request: IncomingMessage): Promise<Buffer> | null {
  const header = request.headers['content-length']
  const length = header === undefined ? Number.NaN : Number(header)
  if (!(length <= SMALL_BODY_BYTES)) return null
  return new Promise((resolve, reject) => {
    const body = Buffer.allocUnsafe(length)
    let filled = 0
    request.on('data', (chunk: Buffer) => {
      filled += chunk.copy(body, filled)
    })
    // A connection cut in the middle ends in 'error', never in 'end'.
    request.on('end', () => resolve(body.subarray(0, filled)))
    request.on('error', reject)
  })
}
