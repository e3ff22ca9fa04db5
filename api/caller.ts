/** Who calls, and what for: the words that plugins and routes have for it in common. plugins/auth.ts finds out who it is. */
import { setMaxListeners } from 'node:events'
import type { FastifyRequest } from 'fastify'

declare module 'fastify' {
  interface FastifyInstance {
    /** Whether callers must have tokens. */
    asksForTokens: boolean
  }
  interface FastifyRequest {
    readonly caller: Caller
  }
}

/** What a token may be good for. None includes another. */
export const SCOPES = ['inject', 'read', 'deliver', 'log', 'admin', 'metrics'] as const
export type Scope = (typeof SCOPES)[number]

/** Who calls: the holder of a token. */
export interface Caller {
  /** The token's name, as it is logged. */
  readonly name: string
  readonly scopes: ReadonlySet<Scope>
  /** Fires when the token is taken away, or its scopes change. */
  readonly revoked: AbortSignal
}

/** Knows the tokens. */
export interface Authenticator {
  /** Who holds this token; undefined: nobody. How long it takes says nothing of how near a guess is. */
  authenticate(token: string): Caller | undefined
}

/** What a route takes: all of these scopes, or `open`: no token at all. */
export type RouteScope = Scope | readonly Scope[] | 'open'

const never = new AbortController().signal
/** Who calls where no tokens are asked for. */
export const ANONYMOUS: Caller = { name: 'anonymous', scopes: new Set(SCOPES), revoked: never }

/** Who has to have a token, and has none. */
export const STRANGER: Caller = { name: 'anonymous', scopes: new Set(), revoked: never }

/** For each token one signal, for as many who wait as there may be. */
export function revocation(): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}

export function scopesOf(scope: RouteScope): readonly Scope[] {
  return scope === 'open' ? [] : typeof scope === 'string' ? [scope] : scope
}

export function isStranger({ caller }: FastifyRequest): boolean {
  return caller === STRANGER
}
