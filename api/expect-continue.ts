/**
 * `Expect: 100-continue` (RFC 9110, section 10.1.1): who sends it waits to be told to go on. That is when somebody reads
 * the body, so who is refused for what stands before it, or because no messages are taken now, has not sent it for nothing.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'

/** Requests whose body was not asked for. */
const waiting = new WeakSet<IncomingMessage>()

export function holdBack(app: FastifyInstance): void {
  app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    const read = request._read
    waiting.add(request)
    request._read = (size) => {
      request._read = read
      waiting.delete(request)
      if (!response.headersSent) response.writeContinue()
      read.call(request, size)
    }
    app.routing(request, response)
  })
  // Anything else that is expected: Node.js's own answer is no problem document. plugins/request-head.ts has one.
  app.server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    waiting.add(request)
    app.routing(request, response)
  })
}

/** Whether the client waits, and will not send the body of a request that is answered now. */
export function isHeldBack(request: IncomingMessage): boolean {
  return waiting.has(request)
}
