/**
 * The gate of the service: where it listens, with which certificate, and who has a token. Opened before anything else is, so that a
 * service that is set up in an unsafe way does not start; read again on demand, each part as a whole or not at all.
 */
import type { ServerOptions, Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Config } from './config.js'
import { checkExposure, type Endpoint, resolveEndpoint, UnixSocket } from './listen.js'
import { checkSuccessor, loadTls } from './tls.js'
import { TokenSet } from './tokens.js'

/** Seconds that a client may take for the TLS handshake. */
const HANDSHAKE_SECONDS = 20

export interface Reloaded {
  readonly what: 'tokens' | 'certificate'
  readonly error: Error | null
  /** What is there now, in words; or what stayed. */
  readonly note: string
}

export class Gate {
  /** Null: no tokens are asked for. */
  readonly tokens: TokenSet | null
  /** Of an HTTPS server; null: there is no TLS. */
  readonly tls: ServerOptions | null
  readonly #config: Config
  readonly #log: FastifyBaseLogger
  readonly #endpoint: Endpoint
  readonly #connections = new Set<Socket>()
  #server: FastifyInstance | undefined
  #socket: UnixSocket | undefined
  #reloading: Promise<unknown> = Promise.resolve()

  private constructor(
    config: Config,
    log: FastifyBaseLogger,
    parts: { tokens: TokenSet | null; tls: ServerOptions | null; endpoint: Endpoint },
  ) {
    this.#config = config
    this.#log = log
    this.tokens = parts.tokens
    this.tls = parts.tls
    this.#endpoint = parts.endpoint
  }

  /** @throws ConfigError for settings that are wrong, or that let in anybody from outside */
  static async open(config: Config, log: FastifyBaseLogger): Promise<Gate> {
    const { security } = config
    const endpoint = await resolveEndpoint(config.listen)
    const tokens = await TokenSet.open({ file: security.token_file, lines: security.tokens })
    const identity = await loadTls(security.tls)
    const givenUp = checkExposure(endpoint, {
      tokens: tokens !== null,
      tls: identity !== null,
      insecure: security.insecure_listen,
    })
    if (givenUp !== null) log.warn(`open to other machines: ${givenUp}`)
    if (tokens?.size === 0) log.warn('there is no token: every call is refused')
    for (const warning of identity?.warnings ?? []) log.warn(`TLS: ${warning}`)
    const tls =
      identity === null ? null : { ...identity.options, handshakeTimeout: HANDSHAKE_SECONDS * 1000 }
    return new Gate(config, log, { tokens, tls, endpoint })
  }

  /** Takes requests from now on. Returns the address. */
  async listen(server: FastifyInstance): Promise<string> {
    this.#server = server
    // A connection that is still shaking hands is none that the HTTP server knows of.
    if (this.tls !== null)
      server.server.on('connection', (socket: Socket) => {
        this.#connections.add(socket)
        socket.once('close', () => this.#connections.delete(socket))
      })
    const endpoint = this.#endpoint
    if (endpoint.kind === 'tcp') {
      const { host, port } = endpoint
      const listenTextResolver = (at: string) => `listening at ${at}`
      return server.listen({ host, port, listenTextResolver })
    }
    const address = `unix:${endpoint.path}`
    this.#socket = await UnixSocket.prepare(endpoint.path)
    await server.listen({
      path: this.#socket.bindPath,
      listenTextResolver: () => `listening at ${address}`,
    })
    await this.#socket.publish(Number.parseInt(this.#config.security.socket_mode, 8))
    return address
  }

  /** Reads tokens and certificate again; what is wrong stays as it was. One after the other, however often it is called. */
  reload(): Promise<Reloaded[]> {
    const reloading = this.#reloading.then(async () => {
      const done = [await this.#reloadTokens(), await this.#reloadCertificate()]
      return done.filter((reloaded) => reloaded !== null)
    })
    this.#reloading = reloading.catch(() => undefined)
    return reloading
  }

  /** Cuts every connection. */
  hurry(): void {
    this.#server?.server.closeAllConnections()
    for (const socket of this.#connections) socket.destroy()
  }

  /** When no requests are taken any more. */
  async close(): Promise<void> {
    await this.#socket?.remove()
  }

  #reloadTokens(): Promise<Reloaded | null> {
    const { tokens } = this
    if (tokens === null) return Promise.resolve(null)
    return this.#attempt('tokens', async () => {
      const { total, added, removed, changed } = await tokens.reload()
      const names = (what: string, list: readonly string[]) =>
        list.length === 0 ? '' : `, ${what} ${list.slice(0, 20).join(' ')}`
      return `${total} tokens${names('added', added)}${names('removed', removed)}${names('changed', changed)}`
    })
  }

  #reloadCertificate(): Promise<Reloaded | null> {
    const server = this.#server?.server as TlsServer | undefined
    if (this.tls === null || server === undefined) return Promise.resolve(null)
    return this.#attempt('certificate', async () => {
      const identity = (await loadTls(this.#config.security.tls))!
      checkSuccessor(identity)
      // For those who connect from now on; the others go on as they are.
      server.setSecureContext(identity.options)
      for (const warning of identity.warnings) this.#log.warn(`TLS: ${warning}`)
      return `${identity.subject}, valid to ${identity.validTo.toISOString()}`
    })
  }

  async #attempt(what: Reloaded['what'], reload: () => Promise<string>): Promise<Reloaded> {
    try {
      const note = await reload()
      this.#log.info({ what }, `read again: ${note}`)
      return { what, error: null, note }
    } catch (error) {
      const { message } = error as Error
      this.#log.error({ what, err: error }, `not read again, the old ones stay: ${message}`)
      return { what, error: error as Error, note: message }
    }
  }
}
