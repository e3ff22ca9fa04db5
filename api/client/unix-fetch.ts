/** fetch over a Unix socket, as far as the client needs it: Node's own cannot. */
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const NO_BODY = [204, 205, 304]

export function unixFetch(socketPath: string): typeof globalThis.fetch {
  const agent = new Agent({ keepAlive: true })
  return async (input, { method, headers, body, signal } = {}) => {
    const { pathname, search } = new URL(String(input))
    const call = request({
      socketPath,
      agent,
      path: pathname + search,
      ...(method ? { method } : {}),
      headers: Object.fromEntries(new Headers(headers)),
      ...(signal ? { signal } : {}),
    })
    const answered = once(call, 'response') as Promise<[IncomingMessage]>
    if (body instanceof ReadableStream) {
      // Its failure is the request's, unless the answer came before the end of the body.
      pipeline(Readable.fromWeb(body as Parameters<typeof Readable.fromWeb>[0]), call).catch(
        (error: Error) => call.destroy(error),
      )
    } else call.end(body)
    const [answer] = await answered
    const status = answer.statusCode ?? 0
    const pairs = Array.from(
      { length: answer.rawHeaders.length / 2 },
      (_, i) => answer.rawHeaders.slice(2 * i, 2 * i + 2) as [string, string],
    )
    if (NO_BODY.includes(status)) answer.resume()
    return new Response(
      NO_BODY.includes(status) ? null : (Readable.toWeb(answer) as unknown as ReadableStream),
      { status, statusText: answer.statusMessage ?? '', headers: pairs },
    )
  }
}
