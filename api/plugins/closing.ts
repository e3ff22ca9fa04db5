/**
 * The end of the service: what it has begun it finishes, and what comes after that on a connection that is still open is refused
 * as any other (503, `stopping`), but for liveness and readiness. A connection is closed once its last answer is out, and one
 * on which nothing has been said at once: a client that keeps it for later is not waited for.
 */
import { Socket } from 'node:net'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { notTaken } from '../problem.js'

const RETRY_AFTER = 5
const LOOK_MS = 200

/** Requests of a connection that are not answered yet: there are several when they are pipelined. */
const begun = Symbol('begun')
type Counted = Socket & { [begun]?: number }

/** To be registered before what may refuse a request. */
const register: FastifyPluginAsync = async (app) => {
  let isClosing = false
  let looking: NodeJS.Timeout | undefined
  const connections = new Set<Socket>()
  app.server.on(
    'setSecureContext' in app.server ? 'secureConnection' : 'connection',
    (socket: Socket) => {
      connections.add(socket)
      socket.once('close', () => connections.delete(socket))
    },
  )
  // To Node.js they are not idle: it waits for their first request.
  const closeSilent = () => {
    for (const socket of connections) if (socket.bytesRead === 0) socket.destroy()
  }
  app.addHook('preClose', async () => {
    isClosing = true
    closeSilent()
    looking = setInterval(closeSilent, LOOK_MS).unref()
  })
  app.addHook('onClose', async () => clearInterval(looking))
  app.addHook('onRequest', (request, _reply, done) => {
    const socket: Counted = request.raw.socket
    socket[begun] = (socket[begun] ?? 0) + 1
    if (!isClosing || request.routeOptions.config.scope === 'open') return done()
    const detail = 'the service is stopping'
    done(notTaken([{ code: 'stopping', detail, retryAfter: RETRY_AFTER }]))
  })
  app.addHook('onResponse', (request, _reply, done) => {
    const socket: Counted = request.raw.socket
    socket[begun] = (socket[begun] ?? 1) - 1
    // Those that were idle when it began have been closed by Fastify.
    if (isClosing && socket[begun] === 0 && socket instanceof Socket) socket.destroySoon()
    done()
  })
}

export const closing = fp(register, { name: 'closing' })
