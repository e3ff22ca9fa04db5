/**
 * Where the service takes requests: an address, or a Unix socket. Promises that nobody outside this machine reaches a service that
 * is not set up for it, and that a socket appears under its name with its mode, never over somebody who still answers there.
 */
import { lookup } from 'node:dns/promises'
import { chmod, link, lstat, mkdtemp, rm, unlink } from 'node:fs/promises'
import { BlockList, connect, isIP, isIPv6 } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { parseListen } from './config.js'
import { ConfigError } from './config-error.js'

export type Endpoint =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

const UNIX = 'unix:'
/** `sun_path` has 108 bytes, with the zero at its end. */
const MAX_SOCKET_PATH = 107

/** @throws ConfigError; a name is the first of its addresses */
export async function resolveEndpoint(listen: string): Promise<Endpoint> {
  if (listen.startsWith(UNIX)) return unixEndpoint(resolve(listen.slice(UNIX.length)))
  const { host, port } = parseListen(listen)
  if (isIP(host) !== 0) return { kind: 'tcp', host, port }
  const { address } = await lookup(host).catch((cause: Error) => {
    throw new ConfigError(`listen: cannot find the address of ${host}: ${cause.message}`, { cause })
  })
  return { kind: 'tcp', host: address, port }
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether only this machine reaches it. */
export function isLocal(endpoint: Endpoint): boolean {
  if (endpoint.kind === 'unix') return true
  // Covers ::ffff:127.0.0.1, too.
  return loopback.check(endpoint.host, isIPv6(endpoint.host) ? 'ipv6' : 'ipv4')
}

/**
 * @returns what is given up; null: nothing
 * @throws ConfigError for an address that others reach, without tokens or without TLS, unless that is asked for
 */
export function checkExposure(
  endpoint: Endpoint,
  { tokens, tls, insecure }: { tokens: boolean; tls: boolean; insecure: boolean },
): string | null {
  if (isLocal(endpoint) || endpoint.kind === 'unix' || (tokens && tls)) return null
  const lacking = [
    ...(tokens ? [] : ['without tokens whoever reaches it can read, send and remove mail']),
    ...(tls ? [] : ['without TLS whoever is on the way can read mail and tokens']),
  ].join('; ')
  if (insecure) return lacking
  throw new ConfigError(
    `listen: ${endpoint.host} can be reached from other machines, and ${lacking}. Set security.token_file and security.tls (docs/security.md), listen on 127.0.0.1 or a Unix socket, or give that up with --insecure-listen`,
  )
}

function unixEndpoint(path: string): Endpoint {
  // The socket is bound under this name first, and gets the other when its mode is right.
  const longest = Math.max(Buffer.byteLength(path), Buffer.byteLength(bindPath(dirname(path))))
  if (longest > MAX_SOCKET_PATH) {
    throw new ConfigError(
      `listen: the path of the socket is too long by ${longest - MAX_SOCKET_PATH} bytes`,
    )
  }
  return { kind: 'unix', path }
}

const BIND_PREFIX = '.b'

function bindPath(directory: string): string {
  return join(directory, `${BIND_PREFIX}XXXXXX`, 's')
}

/** A Unix socket that is being listened on, or about to be. */
export class UnixSocket {
  readonly #path: string
  readonly #making: string
  #published: { ino: number; dev: number } | null = null

  private constructor(path: string, making: string) {
    this.#path = path
    this.#making = making
  }

  /** @throws Error when something else is there, or somebody answers */
  static async prepare(path: string): Promise<UnixSocket> {
    await removeStale(path)
    // Nobody else can reach what is in it until the mode is right.
    return new UnixSocket(path, await mkdtemp(join(dirname(path), BIND_PREFIX)))
  }

  /** To listen on. */
  get bindPath(): string {
    return join(this.#making, 's')
  }

  /** To be called when it is listened on: from now on it is there under its name. */
  async publish(mode: number): Promise<void> {
    await chmod(this.bindPath, mode)
    const { ino, dev } = await lstat(this.bindPath)
    // Fails when somebody was faster, as a rename would not.
    await link(this.bindPath, this.#path)
    this.#published = { ino, dev }
    await rm(this.#making, { recursive: true })
  }

  /** Removes it, unless another has taken its place. */
  async remove(): Promise<void> {
    await rm(this.#making, { recursive: true, force: true })
    const found = await lstat(this.#path).catch(() => null)
    const ours = this.#published
    if (found !== null && found.ino === ours?.ino && found.dev === ours.dev)
      await unlink(this.#path)
  }
}

/** A socket that nobody listens on any more is removed. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (found === null) return
  if (!found.isSocket()) throw new Error(`cannot listen on ${path}: it is there and no socket`)
  const answer = await knock(path)
  if (answer === 'ECONNREFUSED') await unlink(path)
  else if (answer !== 'ENOENT')
    throw new Error(`cannot listen on ${path}: ${answer ?? 'another process answers there'}`)
}

/** Null: somebody answers; else the code of the error. */
function knock(path: string): Promise<string | null> {
  return new Promise((done) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      done(null)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
  })
}
