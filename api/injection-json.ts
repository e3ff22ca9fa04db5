/** What is injected, between JSON or a query (snake case) and the spool. */
import type { Static } from 'typebox'
import { DURABILITIES, type Durability, type NewMessage } from '../spool/index.js'
import { HttpError } from './problem.js'
import type { InjectionJson, InjectionMeta, injectionQuery } from './schemas.js'
import { parseTime } from './time.js'

type InjectionQuery = Static<ReturnType<typeof injectionQuery>>
type Body = NewMessage['body']

/** Throws HttpError 400, 422. */
export function messageFromJson(json: InjectionJson): NewMessage {
  return {
    ...envelopeOf(json),
    ...addressesOf(json.mailfrom, json.rcptto),
    body: bodyOf(json),
  }
}

/** Throws HttpError 400, 422. */
export function messageFromMeta(meta: InjectionMeta): (body: Body) => NewMessage {
  const envelope = { ...envelopeOf(meta), ...addressesOf(meta.mailfrom, meta.rcptto) }
  return (body) => ({ ...envelope, body })
}

/**
 * @param written the query as it was sent
 * Throws HttpError 400, 422.
 */
export function messageFromQuery(
  query: InjectionQuery,
  written: string,
): (body: Body) => NewMessage {
  const { from, to } = query
  if (from === undefined || to === undefined) {
    throw new HttpError(
      400,
      'INVALID_ENVELOPE',
      'querystring: from (may be empty) and at least one to are needed',
    )
  }
  if (written.includes('+')) for (const address of [from, ...to]) refusePlus(address)
  const envelope = { ...envelopeOf(query), ...addressesOf(from, to) }
  return (body) => ({ ...envelope, body })
}

/** Who gives all of it in the body must not be left to think that what is in the query counts. */
export function refuseQuery(query: object): void {
  const [name] = Object.keys(query)
  if (name === undefined) return
  throw new HttpError(
    400,
    'INVALID_ENVELOPE',
    `querystring.${name}: the envelope is in the body, and in one place only`,
  )
}

/** The null sender may be written as SMTP writes it. */
function addressesOf(mailfrom: string, rcptto: string[]): { mailfrom: string; rcptto: string[] } {
  if (mailfrom === '<>') return addressesOf('', rcptto)
  if (mailfrom !== '') checkAddress('mailfrom', mailfrom)
  rcptto.forEach((address, index) => {
    checkAddress(`rcptto[${index}]`, address)
  })
  return { mailfrom, rcptto }
}

/** One that nobody could deliver to is refused: it would be stored, and its sender told that all is well. Throws HttpError 400. */
function checkAddress(field: string, address: string): void {
  const wrong = wrongWith(address)
  if (wrong !== null) throw new HttpError(400, 'INVALID_ENVELOPE', `${field}: ${wrong}`)
}

function wrongWith(address: string): string | null {
  // The angle brackets of a path are no part of an address: with them its domain would be another.
  if (address.startsWith('<') && address.endsWith('>'))
    return `give the address without its angle brackets: ${address.slice(1, -1)}`
  if (address.startsWith('@') || address.endsWith('@'))
    return `no whole address: ${JSON.stringify(address)}`
  return null
}

/** What stands between quotes in a local part may hold anything (RFC 5321, section 4.1.2). */
const QUOTED = /"(?:[^"\\]|\\.)*"/g

/** Where a + was sent and a space came of it, mostly the + was meant: the mail would go to nobody. Throws HttpError 400. */
function refusePlus(address: string): void {
  if (!address.includes(' ') || !address.replace(QUOTED, '').includes(' ')) return
  const detail = `a + in a query is a space, in ${JSON.stringify(address)}: write a + as %2B, a space as %20`
  throw new HttpError(400, 'INVALID_ENVELOPE', detail)
}

function bodyOf({ content, content_base64: base64, refs }: InjectionJson): Body {
  const given = +(content !== undefined) + +(base64 !== undefined) + +(refs !== undefined)
  if (given !== 1) {
    throw new HttpError(
      400,
      'INVALID_CONTENT',
      'body: give the message as content, as content_base64 or as refs, one of them',
    )
  }
  if (refs !== undefined) return { refs }
  if (base64 !== undefined) return decodeBase64(base64)
  if (!isWellFormed(content as string)) {
    const detail = 'body.content: half of a surrogate pair, which has no UTF-8'
    throw new HttpError(400, 'INVALID_CONTENT', detail)
  }
  return Buffer.from(content as string, 'utf8')
}

/** ES2024; Node.js has it since version 20. */
function isWellFormed(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed()
}

/** By hand, because a pattern that says as much takes a stack as deep as the text is long. */
function decodeBase64(text: string): Buffer {
  const end = text.length - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0)
  const bad = text.search(/[^A-Za-z0-9+/]/)
  if (text.length % 4 !== 0 || (bad !== -1 && bad < end)) {
    const where = bad !== -1 && bad < end ? `at character ${bad}` : 'by its length'
    throw new HttpError(400, 'INVALID_CONTENT', `body.content_base64: not base64, ${where}`)
  }
  return Buffer.from(text, 'base64')
}

function envelopeOf(
  fields: Omit<InjectionQuery, 'from' | 'to'> & Pick<InjectionMeta, 'context'>,
): Omit<NewMessage, 'mailfrom' | 'rcptto' | 'body'> {
  const { next_attempt: nextAttempt, protocol = 'rest', binding, retention, context } = fields
  const durability = durabilityOf(fields.durability)
  return {
    ...(durability === undefined ? {} : { durability }),
    protocol,
    batchId: fields.batch_id,
    connectionId: fields.connection_id,
    bindingGroup: fields.binding_group,
    binding,
    retention,
    context,
    nextAttempt: nextAttempt === undefined ? undefined : parseTime(nextAttempt),
  }
}

function durabilityOf(given: string | undefined): Durability | undefined {
  const known = DURABILITIES.find((name) => name === given)
  if (known !== undefined || given === undefined) return known
  throw new HttpError(
    422,
    'DURABILITY_NOT_POSSIBLE',
    `durability: ${JSON.stringify(given)} is not possible here; durable is`,
  )
}
