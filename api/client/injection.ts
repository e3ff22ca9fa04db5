/** An injection as it is sent: the message as it is with its envelope in the query, as a form, or as JSON. */
import { type Body, bytesOf, isReplayable } from './body.js'
import type { Call, Query } from './transport.js'
import type { ContextJson, InjectionFields } from './types.js'

export const MESSAGE_TYPE = 'message/rfc822'
/** A longer envelope does not go into the URL, which proxies bound. */
const MAX_QUERY_LENGTH = 4096

interface Envelope extends InjectionFields {
  /** Envelope sender; empty for the null sender. */
  readonly mailfrom: string
  /** Envelope recipients; each gets a message and an id of its own. */
  readonly rcptto: readonly string[]
  readonly context?: Partial<ContextJson> | undefined
}

/** A message and its envelope. `refs`, in place of a body: id of a message whose content it shares. */
export type Injection = Envelope & ({ readonly body: Body } | { readonly refs: string })

/** One of several that are stored together; held in memory. */
export type BatchInjection = Envelope & ({ readonly body: Uint8Array } | { readonly refs: string })

/** An item of a batch, as JSON. */
export function injectionItem(injection: BatchInjection): object {
  if ('refs' in injection) return injection
  const { body, ...envelope } = injection
  return { ...envelope, content_base64: Buffer.from(body).toString('base64') }
}

export function injectionCall(
  injection: Injection,
): Pick<Call, 'query' | 'json' | 'body' | 'type'> {
  if ('refs' in injection) return { json: injection }
  const { body, ...envelope } = injection
  const { mailfrom, rcptto, context, ...fields } = envelope
  const length = rcptto.reduce((sum, to) => sum + to.length, 0)
  if (context === undefined && length <= MAX_QUERY_LENGTH) {
    const query: Query = { from: mailfrom, to: rcptto, ...fields }
    return { query, body, type: MESSAGE_TYPE }
  }
  return form(envelope, body)
}

/** `multipart/form-data` (RFC 7578), the content streamed. */
function form(envelope: object, content: Body): { type: string; body: Body } {
  const boundary = `bobbin-${crypto.randomUUID()}`
  const type = `multipart/form-data; boundary=${boundary}`
  const part = (name: string, partType: string) =>
    `--${boundary}\r\ncontent-disposition: form-data; name="${name}"\r\ncontent-type: ${partType}\r\n\r\n`
  const head = Buffer.from(
    `${part('meta', 'application/json')}${JSON.stringify(envelope)}\r\n${part('message', MESSAGE_TYPE)}`,
  )
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`)
  if (content instanceof Uint8Array) return { type, body: Buffer.concat([head, content, tail]) }
  async function* parts(): AsyncGenerator<Uint8Array> {
    yield head
    yield* bytesOf(content)
    yield tail
  }
  return { type, body: isReplayable(content) ? parts : parts() }
}
