/**
 * Tokens: who may call the service, and what for. A token is 256 random bits; what is kept of it is a line
 *
 *     NAME:SCOPE+SCOPE:sha256:HEX
 *
 * in a file or in the settings, so whoever reads the line cannot call. A plain SHA-256 is enough for that: it takes no
 * dictionary to try 2^256 values, so a slow hash would only make each request slow. Comparing looks at every
 * token, whole, whichever it is that fits.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { open } from 'node:fs/promises'
import { type Authenticator, type Caller, revocation, SCOPES, type Scope } from '../api/caller.js'
import { ConfigError } from './config-error.js'

/** So that a token that has strayed into a log or a repository is known for one. */
const PREFIX = 'bobbin_'
const TOKEN_BYTES = 32
/** Each request is compared with every token. */
const MAX_TOKENS = 1000
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const HASH = /^sha256:([0-9a-fA-F]{64})$/
/** Names that the log has for those without a token. */
const RESERVED = new Set(['anonymous', 'service'])

/** What is kept of a token. */
export interface StoredToken {
  readonly name: string
  readonly scopes: readonly Scope[]
  /** SHA-256 of the token. */
  readonly hash: Buffer
}

/** @throws ConfigError for a name or scopes that are none */
export function createToken(
  name: string,
  scopes: readonly string[],
): { token: string; line: string } {
  const token = PREFIX + randomBytes(TOKEN_BYTES).toString('base64url')
  const line = `${name}:${[...new Set(scopes)].join('+')}:sha256:${hashOf(token).toString('hex')}`
  parseToken(line, 'the token')
  return { token, line }
}

/**
 * @param where what to call the line in an error; the line itself is not shown: it may hold a secret by mistake
 * @throws ConfigError
 */
export function parseToken(line: string, where: string): StoredToken {
  const [name = '', scopes = '', ...rest] = line.trim().split(':')
  const [, hex] = HASH.exec(rest.join(':')) ?? []
  if (hex === undefined) {
    throw new ConfigError(
      `${where}: not NAME:SCOPE+SCOPE:sha256:HEX; \`bobbin token create\` prints such a line`,
    )
  }
  if (!NAME.test(name) || RESERVED.has(name)) {
    throw new ConfigError(
      `${where}: a name is up to 64 letters, digits, dots, underscores and hyphens, and none of ${[...RESERVED].join(', ')}`,
    )
  }
  const list = scopes.split('+')
  const unknown = list.find((scope) => !isScope(scope))
  if (unknown !== undefined) {
    throw new ConfigError(
      `${where}: ${JSON.stringify(unknown)} is no scope; there are ${SCOPES.join(', ')}`,
    )
  }
  return { name, scopes: list as Scope[], hash: Buffer.from(hex, 'hex') }
}

/**
 * The tokens of a file: one a line; empty lines and those that begin with # are not looked at.
 * @throws ConfigError, also when others than the owner may write to the file
 */
export async function readTokenFile(path: string): Promise<StoredToken[]> {
  let text: string
  try {
    const file = await open(path, 'r')
    try {
      const { mode } = await file.stat()
      if ((mode & 0o022) !== 0) {
        throw new ConfigError(
          `${path}: others may write to it, and so give themselves any token; chmod go-w it`,
        )
      }
      text = await file.readFile('utf8')
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause
    throw new ConfigError(`cannot read the token file: ${(cause as Error).message}`, { cause })
  }
  return text.split('\n').flatMap((line, i) => {
    const isToken = line.trim() !== '' && !line.trimStart().startsWith('#')
    return isToken ? [parseToken(line, `${path}:${i + 1}`)] : []
  })
}

/** Adds a line to a token file, which is made for its owner alone where it is not there; durable when it resolves. */
export async function appendToTokenFile(path: string, line: string): Promise<void> {
  const file = await open(path, 'a+', 0o600)
  try {
    const before = await file.readFile('utf8')
    await file.appendFile(`${before === '' || before.endsWith('\n') ? '' : '\n'}${line}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
}

export interface TokenSources {
  /** Path of a token file; empty: none. */
  readonly file: string
  /** Lines. */
  readonly lines: readonly string[]
}

/** What a reload has changed, as names of tokens. */
export interface TokenChanges {
  readonly total: number
  readonly added: readonly string[]
  readonly removed: readonly string[]
  readonly changed: readonly string[]
}

interface Held {
  readonly stored: StoredToken
  readonly caller: Caller
  readonly revocation: AbortController
}

export class TokenSet implements Authenticator {
  readonly #sources: TokenSources
  #held: readonly Held[] = []

  private constructor(sources: TokenSources) {
    this.#sources = sources
  }

  /**
   * @returns null when no source is configured: then no tokens are asked for
   * @throws ConfigError
   */
  static async open(sources: TokenSources): Promise<TokenSet | null> {
    if (sources.file === '' && sources.lines.length === 0) return null
    const tokens = new TokenSet(sources)
    await tokens.reload()
    return tokens
  }

  get size(): number {
    return this.#held.length
  }

  /**
   * Reads the file anew. Callers whose token is gone, or has other scopes, are revoked.
   * @throws ConfigError, and everything stays as it was
   */
  async reload(): Promise<TokenChanges> {
    const { file, lines } = this.#sources
    const stored = lines.map((line, i) => parseToken(line, `security.tokens[${i}]`))
    if (file !== '') stored.push(...(await readTokenFile(file)))
    checkTogether(stored)
    const before = new Map(this.#held.map((held) => [held.stored.name, held]))
    const added: string[] = []
    const changed: string[] = []
    this.#held = stored.map((token) => {
      const old = before.get(token.name)
      before.delete(token.name)
      if (old !== undefined && isSame(old.stored, token)) return old
      if (old === undefined) added.push(token.name)
      else {
        changed.push(token.name)
        old.revocation.abort()
      }
      return hold(token)
    })
    for (const { revocation } of before.values()) revocation.abort()
    return { total: stored.length, added, removed: [...before.keys()], changed }
  }

  authenticate(token: string): Caller | undefined {
    const hash = hashOf(token)
    let found: Caller | undefined
    for (const { stored, caller } of this.#held)
      if (timingSafeEqual(stored.hash, hash)) found = caller
    return found
  }
}

function hold(stored: StoredToken): Held {
  const controller = revocation()
  const { name, scopes } = stored
  const caller = { name, scopes: new Set(scopes), revoked: controller.signal }
  return { stored, caller, revocation: controller }
}

function isSame(a: StoredToken, b: StoredToken): boolean {
  const scopes = new Set(a.scopes)
  return (
    a.hash.equals(b.hash) &&
    scopes.size === new Set(b.scopes).size &&
    b.scopes.every((scope) => scopes.has(scope))
  )
}

/** A name stands for one token in the log, and a token for one name. */
function checkTogether(tokens: readonly StoredToken[]): void {
  if (tokens.length > MAX_TOKENS) throw new ConfigError(`over ${MAX_TOKENS} tokens`)
  const names = new Set<string>()
  const hashes = new Map<string, string>()
  for (const { name, hash } of tokens) {
    if (names.has(name)) throw new ConfigError(`two tokens are named ${name}`)
    names.add(name)
    const hex = hash.toString('hex')
    const other = hashes.get(hex)
    if (other !== undefined) throw new ConfigError(`${other} and ${name} are the same token`)
    hashes.set(hex, name)
  }
}

function isScope(text: string): text is Scope {
  return (SCOPES as readonly string[]).includes(text)
}

function hashOf(token: string): Buffer {
  return hash('sha256', token, 'buffer')
}
