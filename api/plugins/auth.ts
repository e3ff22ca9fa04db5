/**
 * Who may call what. Every route names in its `config` the scopes that it takes, or that it is open; one that says nothing
 * is refused when the server is built. With an authenticator each request to a route that is not open carries a token
 * (`Authorization: Bearer`, RFC 6750) that has them: without a valid one 401, without the scopes 403. Without an
 * authenticator everybody may do everything, but no other site's page may, in a browser on this machine.
 */
import type {
  FastifyInstance,
  FastifyPluginAsync,
  FastifyReply,
  FastifyRequest,
  onRequestAsyncHookHandler,
} from 'fastify'
import fp from 'fastify-plugin'
import {
  ANONYMOUS,
  type Authenticator,
  type Caller,
  type RouteScope,
  SCOPES,
  type Scope,
  STRANGER,
  scopesOf,
} from '../caller.js'
import { HttpError } from '../problem.js'
import { problems } from '../schemas.js'
import { type CountRequest, type Rate, requestCounter } from './rate.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Every route must say. */
    scope?: RouteScope
    /** Answered however many requests its caller makes. */
    uncounted?: boolean
    /** The answer may take for ever: it is cut off when its caller's token is revoked. */
    endless?: boolean
  }
  interface FastifyInstance {
    /** Told of everybody who is refused. */
    recordRefusal: NonNullable<AuthOptions['onRefused']>
  }
}

export interface AuthOptions {
  /** Left out: everybody may do everything. */
  readonly authenticator?: Authenticator | undefined
  /** How many requests a caller may make; null or left out: any number. */
  readonly rate?: Rate | null | undefined
  /** Told of everybody who is refused. */
  readonly onRefused?: ((request: FastifyRequest, error: HttpError) => void) | undefined
}

const SCHEME = 'bearer'
const CHALLENGE = 'Bearer realm="bobbin"'
/** The user interface of the document is another's plugin, whose routes have no config of ours. */
const OPEN_PREFIX = '/docs'
const MAX_TOKEN_LENGTH = 512
const AUTHORIZATION = /^bearer +([A-Za-z0-9._~+/-]+=*) *$/i

const caller = Symbol('caller')
type Decorated = FastifyRequest & { [caller]: Caller | null }

const register: FastifyPluginAsync<AuthOptions> = async (
  app,
  { authenticator, rate, onRefused = () => undefined },
) => {
  app.decorate('recordRefusal', onRefused)
  app.decorate('asksForTokens', authenticator !== undefined)
  app.decorateRequest(caller, null)
  const unknown = authenticator === undefined ? ANONYMOUS : STRANGER
  app.decorateRequest('caller', {
    getter() {
      return (this as Decorated)[caller] ?? unknown
    },
  })
  describeScopes(app, authenticator !== undefined)
  const admit = authenticator === undefined ? admitOwnOrigin : admitHolder(authenticator)
  if (rate) {
    app.addHook('onRequest', counting(await requestCounter(app, rate), admit, onRefused))
    return
  }
  app.addHook('onRequest', (request, reply, done) => {
    const refusal = admit(request, reply)?.()
    if (refusal !== undefined) onRefused(request, refusal)
    done(refusal)
  })
}

/** Finds out who it is. Returns what to do about it, if anything is: undefined when that lets the request in. */
type Admit = (
  request: FastifyRequest,
  reply: FastifyReply,
) => (() => HttpError | undefined) | undefined

const admitOwnOrigin: Admit = (request) => {
  if (request.headers.origin === undefined || !isForeign(request)) return undefined
  return crossOrigin
}

function admitHolder(authenticator: Authenticator): Admit {
  return (request, reply) => {
    const { scope, endless } = request.routeOptions.config
    // No route: there is nothing to protect in a 404.
    if (scope === undefined || scope === 'open') return undefined
    const holder = identify(authenticator, request)
    if (holder === undefined) return () => unknownCaller(request, reply)
    ;(request as Decorated)[caller] = holder
    return () => {
      const missing = missingScopes(request, reply, scopesOf(scope))
      if (missing === undefined && endless) endWithToken(holder, reply)
      return missing
    }
  }
}

/** Those who are refused count, too: by their address, when it is not known who they are. */
function counting(
  count: CountRequest,
  admit: Admit,
  onRefused: NonNullable<AuthOptions['onRefused']>,
): onRequestAsyncHookHandler {
  return async (request, reply) => {
    const verdict = admit(request, reply)
    if (!request.routeOptions.config.uncounted)
      await count(request, (request as Decorated)[caller]?.name)
    const refusal = verdict?.()
    if (refusal === undefined) return
    onRefused(request, refusal)
    throw refusal
  }
}

export const auth = fp(register, { name: 'auth' })

/** For a route that needs more of some callers than its config says. Throws HttpError 403. */
export function requireScopes(
  request: FastifyRequest,
  reply: FastifyReply,
  ...scopes: Scope[]
): void {
  const refusal = missingScopes(request, reply, scopes)
  if (refusal === undefined) return
  request.server.recordRefusal(request, refusal)
  throw refusal
}

function missingScopes(
  request: FastifyRequest,
  reply: FastifyReply,
  scopes: readonly Scope[],
): HttpError | undefined {
  const { name, scopes: held } = request.caller
  const missing = scopes.filter((scope) => !held.has(scope))
  if (missing.length === 0) return undefined
  const list = missing.join(' ')
  reply.header('www-authenticate', `${CHALLENGE}, error="insufficient_scope", scope="${list}"`)
  return new HttpError(403, 'MISSING_SCOPE', `the token ${name} has not the scope ${list}`)
}

function identify(authenticator: Authenticator, request: FastifyRequest): Caller | undefined {
  const { authorization } = request.headers
  if (authorization === undefined) return undefined
  const token = AUTHORIZATION.exec(authorization)?.[1]
  return token === undefined || token.length > MAX_TOKEN_LENGTH
    ? undefined
    : authenticator.authenticate(token)
}

function unknownCaller({ headers }: FastifyRequest, reply: FastifyReply): HttpError {
  if (headers.authorization === undefined) {
    reply.header('www-authenticate', CHALLENGE)
    return new HttpError(401, 'TOKEN_MISSING', 'send a token: Authorization: Bearer …')
  }
  reply.header('www-authenticate', `${CHALLENGE}, error="invalid_token"`)
  return new HttpError(401, 'TOKEN_INVALID', 'there is no such token')
}

/** The next request of that client is answered 401; a request that is soon over may go on. */
function endWithToken({ revoked }: Caller, { raw }: FastifyReply): void {
  const cut = () => raw.destroy()
  revoked.addEventListener('abort', cut, { once: true })
  raw.once('close', () => revoked.removeEventListener('abort', cut))
}

/** Whether a browser sends this for a page that came from somewhere else. */
function isForeign({ headers }: FastifyRequest): boolean {
  const { origin, host } = headers
  return origin === 'null' || !URL.canParse(origin!) || new URL(origin!).host !== host
}

function crossOrigin(): HttpError {
  return new HttpError(
    403,
    'CROSS_ORIGIN',
    'a page of another origin may not call a service that asks for no tokens',
  )
}

/** Into the document; and refuses a route that does not say what it takes. */
function describeScopes(app: FastifyInstance, isTokenNeeded: boolean): void {
  app.addHook('onRoute', (route) => {
    if (route.url.startsWith(OPEN_PREFIX)) return
    const scope = route.config?.scope
    if (scope === undefined) {
      throw new Error(
        `${route.method} ${route.url} names no scope: give it config: { scope: … }, one of open, ${SCOPES.join(', ')}`,
      )
    }
    const { schema } = route
    if (schema === undefined || schema.hide === true) return
    const scopes = scopesOf(scope)
    if (scopes.length === 0) {
      schema.security = []
      return
    }
    // Nothing, beside the token, says that a token is not needed.
    schema.security = [{ [SCHEME]: [...scopes] }, ...(isTokenNeeded ? [] : [{}])]
    schema.response = { ...problems(401, 403, 429), ...(schema.response as object | undefined) }
  })
}

/** For the document. */
export const SECURITY_SCHEMES = {
  [SCHEME]: {
    type: 'http' as const,
    scheme: 'bearer',
    description:
      'A token, where the service is set up with tokens. The scopes that an operation takes are listed with it.',
  },
}
