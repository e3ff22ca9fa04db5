/**
 * Validation of requests: text that stands for a number or a list is taken as one in a query or a header, where there is
 * nothing but text; a JSON body says what it means, and a null in it is not a zero.
 */
import { Ajv, type Options } from 'ajv'
import formats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'
import Type, { type TUnsafe } from 'typebox'

const common: Options = { useDefaults: true, strict: false }
const textual = new Ajv({ ...common, coerceTypes: 'array' })
const exact = new Ajv(common)
for (const ajv of [textual, exact]) formats.default(ajv)

export const READ_BY_HANDLER = 'x-read-by-handler'

/** A schema for the document alone: of a body that is a stream, or that the handler checks piece by piece. */
export function readByHandler<T>(schema: object): TUnsafe<T> {
  return Type.Unsafe<T>({ ...schema, [READ_BY_HANDLER]: true })
}

export const compileValidator: FastifySchemaCompiler<object> = ({ schema, httpPart }) =>
  READ_BY_HANDLER in schema ? () => true : (httpPart === 'body' ? exact : textual).compile(schema)
