/**
 * Values for fast-check from JSON schema (the part of it that the OpenAPI document uses): those that fit a schema, and those
 * that nearly do, which is where servers fall over.
 */
import fc from 'fast-check'

export interface Schema {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean | Schema
  items?: Schema
  minItems?: number
  maxItems?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  format?: string
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  default?: unknown
  examples?: unknown[]
}

/** Finds what a `$ref` names. */
export type Resolve = (ref: string) => Schema

/** More of a list than this tells nothing new. */
const MANY = 4
const LONG = 40
const DEEP = 4

export function validValue(schema: Schema, resolve: Resolve, depth = 0): fc.Arbitrary<unknown> {
  const again = (inner: Schema) => validValue(inner, resolve, depth + 1)
  if (schema.$ref !== undefined) return again(resolve(schema.$ref))
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  const choices = schema.anyOf ?? schema.oneOf
  if (choices !== undefined) return fc.oneof(...choices.map(again))
  if (schema.allOf !== undefined) {
    return fc
      .tuple(...schema.allOf.map(again))
      .map((parts) => Object.assign({}, ...(parts as object[])))
  }
  const [type] = [schema.type ?? []].flat()
  switch (type) {
    case 'null':
      return fc.constant(null)
    case 'boolean':
      return fc.boolean()
    case 'integer':
      return fc.integer({
        min: schema.minimum ?? (schema.exclusiveMinimum ?? -1e6) + 1,
        max: schema.maximum ?? 1e6,
      })
    case 'number':
      return number(schema)
    case 'string':
      return text(schema)
    case 'array':
      return fc.array(schema.items === undefined ? anything : again(schema.items), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.max(schema.minItems ?? 0, Math.min(schema.maxItems ?? MANY, MANY)),
      })
    case 'object':
      return object(schema, again, depth)
    default:
      return anything
  }
}

/** Mostly a value that fits with one thing changed, sometimes anything. */
export function wrongValue(schema: Schema, resolve: Resolve): fc.Arbitrary<unknown> {
  return fc.oneof(
    { weight: 4, arbitrary: changed(schema, resolve) },
    { weight: 1, arbitrary: anything },
  )
}

const anything: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(
    ...['', '\0', '%00', '../../etc/passwd', '\ud800', 'x'.repeat(3000), '__proto__', '💌'],
    ...[-1, 0.5, 1e308, 2 ** 53, null, [], {}, [[]], { constructor: 1 }],
  ),
)

function changed(schema: Schema, resolve: Resolve): fc.Arbitrary<unknown> {
  return fc
    .tuple(validValue(schema, resolve), fc.nat(), anything, fc.constantFrom('drop', 'set', 'add'))
    .map(([value, pick, other, how]) => {
      if (typeof value !== 'object' || value === null) return other
      const copy = structuredClone(value) as Record<string, unknown>
      const keys = Object.keys(copy)
      const key = keys[pick % Math.max(1, keys.length)]
      if (how === 'add' || key === undefined) copy[`x${pick % 7}`] = other
      else if (how === 'set') copy[key] = other
      else if (Array.isArray(copy)) copy.splice(Number(key), 1)
      else delete copy[key]
      return copy
    })
}

function number(schema: Schema): fc.Arbitrary<number> {
  const min = schema.minimum ?? schema.exclusiveMinimum ?? -1e9
  const max = schema.maximum ?? schema.exclusiveMaximum ?? 1e9
  return fc
    .double({ min, max, noNaN: true })
    .filter((value) => value !== schema.exclusiveMinimum && value !== schema.exclusiveMaximum)
    .map((value) => (Object.is(value, -0) ? 0 : value))
}

function text(schema: Schema): fc.Arbitrary<string> {
  const examples = (schema.examples ?? []).filter((example) => typeof example === 'string')
  const free = freeText(schema)
  return examples.length === 0 ? free : fc.oneof(fc.constantFrom(...examples), free)
}

function freeText(schema: Schema): fc.Arbitrary<string> {
  if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern))
  if (schema.format === 'date-time') {
    return fc
      .date({ min: new Date(0), max: new Date('9999-01-01'), noInvalidDate: true })
      .map((date) => date.toISOString())
  }
  if (schema.format === 'byte') return fc.uint8Array().map((b) => Buffer.from(b).toString('base64'))
  const size = {
    minLength: schema.minLength ?? 0,
    maxLength: Math.max(schema.minLength ?? 0, Math.min(schema.maxLength ?? LONG, LONG)),
  }
  return fc.oneof(fc.string(size), fc.string({ ...size, unit: 'grapheme' }))
}

function object(
  { properties = {}, required = [], additionalProperties }: Schema,
  again: (schema: Schema) => fc.Arbitrary<unknown>,
  depth: number,
): fc.Arbitrary<unknown> {
  const known = fc.record(
    Object.fromEntries(Object.entries(properties).map(([name, inner]) => [name, again(inner)])),
    { requiredKeys: required },
  )
  if (typeof additionalProperties !== 'object' || depth >= DEEP) return known
  const more = fc.dictionary(
    fc.string({ minLength: 1, maxLength: 20 }),
    again(additionalProperties),
    {
      maxKeys: MANY,
      noNullPrototype: true,
    },
  )
  return fc.tuple(known, more).map(([a, b]) => ({ ...b, ...a }))
}
