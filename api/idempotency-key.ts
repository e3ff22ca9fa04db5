/** The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): what makes a request that is repeated happen once. */
import type { FastifyReply } from 'fastify'
import Type, { type TSchema } from 'typebox'
import { HttpError } from './problem.js'

const MAX_KEY = 255

export const idempotencyKey = Type.Optional(
  Type.String({
    description:
      'Up to 255 visible characters, in quotes (RFC 9651, section 3.3.3) or as they are; a UUID, say. The same key with the same content stores nothing and gets the first answer again, also after a restart; with another content it is refused (409). Kept for a day, as spool.idempotency_seconds says.',
    examples: ['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
  }),
)

/** An answer that may be given again, for the document. */
export function replayed<T extends TSchema>(answer: T): T {
  const headers = {
    'Idempotency-Replayed': {
      description: 'true when an earlier request with this key stored it and got this answer.',
      schema: { type: 'string' },
    },
  }
  return { ...answer, headers } as T
}

const QUOTED = /^"((?:[ !#-[\]-~]|\\["\\])*)"$/
/** No quotes, and no comma, which would be two headers. */
const BARE = /^[!#-+\--~]+$/

/** Throws HttpError 400. */
export function parseIdempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined
  const text = String(header).trim()
  const key = QUOTED.exec(text)?.[1]?.replaceAll(/\\(.)/g, '$1') ?? BARE.exec(text)?.[0] ?? ''
  if (key !== '' && key.length <= MAX_KEY) return key
  throw new HttpError(
    400,
    'INVALID_IDEMPOTENCY_KEY',
    `headers.idempotency-key: give one key of 1 to ${MAX_KEY} visible characters, in quotes`,
  )
}

/** Says so in the answer when it was given before. */
export function noteReplay(
  reply: FastifyReply,
  { replayed }: { replayed?: true | undefined },
): void {
  if (replayed) reply.header('idempotency-replayed', 'true')
}
