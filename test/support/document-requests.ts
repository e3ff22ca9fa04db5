/** Requests made from the OpenAPI document: the one that it shows, and generated ones, good and bad. */
import fc from 'fast-check'
import { pack } from 'msgpackr'
import { type Schema, validValue, wrongValue } from './from-schema.js'
import { type Document, type Operation, type Parameter, resolver } from './openapi.js'

const BOUNDARY = 'generated'

/** What a path may name: something that is there, by number, or what nobody has. */
export type Named = number | string

// Not the dots: clients take them out of the path before they send it.
const hostile = fc.constantFrom(
  ...['x', '0', '%', '%00', '../../etc/passwd', 'é💌', 'a'.repeat(300), ' ', 'null', '~', '*'],
  '019a0000-0000-7000-8000-000000000000',
)
const named: fc.Arbitrary<Named> = fc.oneof(
  { weight: 6, arbitrary: fc.nat(20) },
  { weight: 2, arbitrary: hostile },
)

function texts(value: unknown): string | string[] {
  if (Array.isArray(value)) return value.map((item) => String(texts(item)))
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}

function bytesOf(type: string, value: unknown): Buffer {
  const json = (item: unknown) => Buffer.from(JSON.stringify(item) ?? '')
  const asBytes = (item: unknown) =>
    Buffer.from(typeof item === 'string' ? item : (JSON.stringify(item) ?? ''), 'utf8')
  switch (type) {
    case 'application/json':
      return json(value)
    case 'application/x-ndjson':
      return Buffer.concat([value].flat().flatMap((item) => [json(item), Buffer.from('\n')]))
    case 'application/msgpack':
      return Buffer.from(pack(Array.isArray(value) ? value.map(asBytes) : value))
    case 'multipart/form-data': {
      const parts = Object.entries((value ?? {}) as object).flatMap(([name, part]) => [
        `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name.replaceAll(/["\r\n]/g, '')}"\r\n\r\n`,
        asBytes(part),
        '\r\n',
      ])
      return Buffer.concat([...parts, `--${BOUNDARY}--\r\n`].map((part) => Buffer.from(part)))
    }
    default:
      return asBytes(value)
  }
}

export function requestsFor(operation: Operation, document: Document): fc.Arbitrary<Request> {
  const resolve = resolver(document)
  const value = (schema: Schema) =>
    fc.oneof(
      { weight: 5, arbitrary: validValue(schema, resolve) },
      { weight: 2, arbitrary: wrongValue(schema, resolve) },
    )
  const given = (where: Parameter['in']) =>
    fc.record(
      Object.fromEntries(
        operation.parameters
          .filter((one) => one.in === where)
          .map(({ name, schema }) => [name, value(schema)]),
      ),
      { requiredKeys: [] },
    )
  const types = Object.entries(operation.content)
  const body = fc.oneof(
    ...types.flatMap(([type, { schema = {}, example }]) => {
      const one =
        type === 'application/x-ndjson' ? fc.array(value(schema), { maxLength: 4 }) : value(schema)
      const sent = (content: unknown) => ({ type, bytes: bytesOf(type, content) })
      return [
        { weight: 4, arbitrary: one.map(sent) },
        { weight: 3, arbitrary: fc.constant(sent(example)) },
      ]
    }),
    // Bytes that are nothing, under a type that is right, wrong, or none at all.
    {
      weight: 1,
      arbitrary: fc.record({
        type: fc.constantFrom(...types.map(([type]) => type), 'application/json', 'text/html', 'x'),
        bytes: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      }),
    },
    { weight: types.length === 0 ? 6 : 1, arbitrary: fc.constant(null) },
  )
  const names = operation.parameters.filter((one) => one.in === 'path').map(({ name }) => name)
  return fc.record({
    names: fc.record(Object.fromEntries(names.map((name) => [name, named]))),
    query: fc.oneof(fc.constant({}), given('query')),
    extra: fc.oneof({ weight: 9, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: hostile }),
    headers: fc.oneof(fc.constant({}), given('header')),
    body,
  })
}

export interface Request {
  readonly names: Record<string, Named>
  readonly query: Record<string, unknown>
  readonly extra: string | null
  readonly headers: Record<string, unknown>
  readonly body: { readonly type: string; readonly bytes: Buffer } | null
}

/** What the examples alone do not say. */
const PLAIN: Record<string, Partial<Pick<Request, 'query' | 'body'>>> = {
  context_set: { query: { replace: true } },
  context_set_all: { query: { replace: true } },
  dispose: { body: { type: 'application/json', bytes: Buffer.from('{"type":"delivery"}') } },
  read_checkpoint: { query: { rewind: true } },
  quarantine_release: { query: { force: true } },
}

/** A request that is as the document shows it, of things that are there: it has to succeed. */
export function plainRequest({ operationId, parameters, content }: Operation): Request {
  const names = parameters.filter((one) => one.in === 'path').map(({ name }) => [name, 0 as Named])
  const json = content['application/json']
  const [type, media] =
    json === undefined ? (Object.entries(content)[0] ?? []) : ['application/json', json]
  const example =
    type === undefined
      ? null
      : { type, bytes: bytesOf(type, type.endsWith('ndjson') ? [media?.example] : media?.example) }
  const { query = {}, body = example } = PLAIN[operationId] ?? {}
  return { names: Object.fromEntries(names), query, extra: null, headers: {}, body }
}

export function queryOf(query: Record<string, unknown>, extra: string | null): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    // Who waits is for another test.
    const text = name === 'wait' && Number(value) > 0 ? '0.01' : texts(value)
    for (const item of [text].flat()) search.append(name, item)
  }
  if (extra !== null) search.append(extra, 'x')
  return search.size === 0 ? '' : `?${search}`
}

/** With what a header can hold. */
export function headersOf({ headers, body }: Request): Record<string, string> {
  const entries = Object.entries(headers).map(([name, value]) => {
    const text = String(texts(value)).replaceAll(/[^\x20-\x7e]/g, '?')
    return [name, name === 'range' ? `bytes=${text}` : text] as const
  })
  if (body === null) return Object.fromEntries(entries)
  const isForm = body.type === 'multipart/form-data'
  const type = isForm ? `${body.type}; boundary=${BOUNDARY}` : body.type
  return { ...Object.fromEntries(entries), 'content-type': type }
}
