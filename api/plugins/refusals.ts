/**
 * Refused callers in the log, bounded: whoever tries tokens in a flood must not fill the disk with the record of it. In each
 * window the first refusal of a caller is recorded at once, for so many callers; what else there was is counted, and recorded at the
 * end of the window as counts. So no refusal goes without a trace, and a window has at most `2 × MAX_CALLERS + 1` records.
 */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify'
import type { HttpError } from '../problem.js'
import type { MessageStore } from '../stores.js'
import { cut, peerOf } from './peer.js'

export interface Refusal {
  /** The token's name; `anonymous` when there is none that is known. */
  readonly user: string
  readonly peer: string
  readonly connectionId: string
  /** What was asked for, and what was answered. */
  readonly note: string
}

export const MAX_CALLERS = 16
const WINDOW_MS = 60_000

interface Counted {
  readonly first: Refusal
  more: number
}

export class RefusalLog {
  readonly #spool: Pick<MessageStore, 'log'>
  readonly #log: FastifyBaseLogger
  readonly #window: number
  readonly #callers = new Map<string, Counted>()
  #others = 0
  #timer: NodeJS.Timeout | undefined
  #pending = new Set<Promise<void>>()

  /** @param window milliseconds */
  constructor(spool: Pick<MessageStore, 'log'>, log: FastifyBaseLogger, window = WINDOW_MS) {
    this.#spool = spool
    this.#log = log
    this.#window = window
  }

  add(refusal: Refusal): void {
    this.#timer ??= setTimeout(() => this.#endWindow(), this.#window).unref()
    const caller = `${refusal.user} ${refusal.peer}`
    const counted = this.#callers.get(caller)
    if (counted !== undefined) counted.more++
    else if (this.#callers.size >= MAX_CALLERS) this.#others++
    else {
      this.#callers.set(caller, { first: refusal, more: 0 })
      this.#record(refusal)
    }
  }

  /** Records what has been counted so far; resolves when it is durable. */
  async close(): Promise<void> {
    this.#endWindow()
    await Promise.all(this.#pending)
  }

  #endWindow(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const { first, more } of this.#callers.values()) {
      const { user, peer } = first
      if (more > 0)
        this.#record({ user, peer, connectionId: '', note: `refused ${more} times more` })
    }
    if (this.#others > 0) {
      const note = `refused ${this.#others} times more, from others`
      this.#record({ user: 'anonymous', peer: 'unknown', connectionId: '', note })
    }
    this.#callers.clear()
    this.#others = 0
  }

  #record(refusal: Refusal): void {
    const recording = this.#spool
      .log({ type: 'authentication', ...refusal })
      .catch((err: unknown) =>
        this.#log.error({ err, ...refusal }, 'not in the log of authentication'),
      )
      .finally(() => this.#pending.delete(recording))
    this.#pending.add(recording)
  }
}

const MAX_URL = 200

export function refusalOf(request: FastifyRequest, { statusCode, code }: HttpError): Refusal {
  const { caller, id, method, url } = request
  return {
    user: caller.name,
    peer: peerOf(request),
    connectionId: cut(id, 64),
    note: `${method} ${cut(url, MAX_URL)}: ${statusCode} ${code}`,
  }
}

/** Who shakes hands without a certificate that the authority has signed. */
export function recordRefusedCertificates({ server }: FastifyInstance, refusals: RefusalLog): void {
  // Of a connection that has been closed there is no address to be had any more.
  const peers = new WeakMap<object, string>()
  server.on('connection', (socket: Socket) => peers.set(socket, socket.remoteAddress ?? 'unix'))
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
    const reason = certificateProblem(error, socket)
    if (reason === null) return
    // Node.js's own name of the connection below; where it has another, the address is not known.
    const below = (socket as { _parent?: Socket })._parent
    const peer = socket.remoteAddress ?? (below && peers.get(below)) ?? 'unknown'
    refusals.add({ user: 'anonymous', peer, connectionId: '', note: `TLS: ${reason}` })
  })
}

const NO_CERTIFICATE = 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE'

/** Null: the handshake failed for something else. */
function certificateProblem(
  { code }: NodeJS.ErrnoException,
  { authorizationError }: TLSSocket,
): string | null {
  if (code === NO_CERTIFICATE) return 'no client certificate'
  return authorizationError ? `client certificate refused: ${String(authorizationError)}` : null
}
