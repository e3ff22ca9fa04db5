/** A proxy before the real service that fails as networks do, once for each fault that it is given. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { afterEach } from 'vitest'

export type Fault =
  /** Answers with this status itself, and nothing reaches the service. */
  | { status: number; headers?: Record<string, string>; body?: string }
  /** Cuts the connection before anything reaches the service. */
  | 'cut'
  /** Lets the service do it, and cuts the connection instead of answering. */
  | 'lose the answer'
  /** Never answers. */
  | 'stall'
  /** Cuts the answer after so many bytes of its body. */
  | { cutAfter: number }

export interface FaultyProxy {
  readonly url: string
  /** For the requests to come, one each, in order. */
  readonly faults: (Fault | null)[]
  readonly requests: {
    method: string
    url: string
    headers: IncomingMessage['headers']
    /** Status that was passed on, once it was. */
    status?: number
  }[]
}

const open: (() => Promise<unknown>)[] = []

export async function startProxy(target: string): Promise<FaultyProxy> {
  const faults: (Fault | null)[] = []
  const requests: FaultyProxy['requests'] = []
  const server = createServer((incoming, answer) => {
    const { method = '', url = '', headers } = incoming
    const request: FaultyProxy['requests'][number] = { method, url, headers }
    requests.push(request)
    answer.once('finish', () => {
      request.status = answer.statusCode
    })
    pass(target, incoming, answer, faults.shift() ?? null).catch(() => answer.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, faults, requests }
}

async function pass(
  target: string,
  incoming: IncomingMessage,
  answer: ServerResponse,
  fault: Fault | null,
): Promise<void> {
  if (fault === 'stall') return
  if (fault === 'cut') return void incoming.socket.destroy()
  if (typeof fault === 'object' && fault !== null && 'status' in fault) {
    const type = { 'content-type': 'application/problem+json' }
    answer.writeHead(fault.status, { ...type, ...fault.headers }).end(fault.body)
    return
  }
  const { method, url, headers } = incoming
  const forwarded = request(target + url, { ...(method ? { method } : {}), headers, agent: false })
  const answered = once(forwarded, 'response') as Promise<[IncomingMessage]>
  incoming.pipe(forwarded)
  answer.once('close', () => forwarded.destroy())
  const [response] = await answered
  if (fault === 'lose the answer') {
    await buffer(response)
    incoming.socket.destroy()
    return
  }
  answer.writeHead(response.statusCode ?? 0, response.rawHeaders)
  if (fault === null) {
    answer.flushHeaders()
    response.pipe(answer)
    return
  }
  let left = fault.cutAfter
  for await (const bytes of response as AsyncIterable<Buffer>) {
    const piece = bytes.subarray(0, left)
    await new Promise((resolve) => answer.write(piece, resolve))
    left -= piece.length
    if (left === 0) break
  }
  incoming.socket.destroy()
}

afterEach(async () => {
  for (const close of open.splice(0)) await close()
})
