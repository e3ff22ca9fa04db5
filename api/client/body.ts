/** Bodies of requests: bytes, or a stream; once, or as often as it takes. */

/**
 * Bytes, a stream of them, or a function that opens such a stream anew each time. A stream given as it is can be sent once:
 * a call with one is not retried.
 */
export type Body =
  | Uint8Array
  | AsyncIterable<Uint8Array>
  | (() => AsyncIterable<Uint8Array> | Promise<AsyncIterable<Uint8Array>>)

export function isReplayable(body: Body): boolean {
  return body instanceof Uint8Array || typeof body === 'function'
}

/** Its bytes; opened only when the first is asked for, so that what is never sent is never opened. */
export async function* bytesOf(body: Body): AsyncGenerator<Uint8Array> {
  if (body instanceof Uint8Array) yield body
  else yield* typeof body === 'function' ? await body() : body
}
