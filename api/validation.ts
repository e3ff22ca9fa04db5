/**
 * Validation of requests: text that stands for a number or a list is taken as one in a query or a header, where there is
 * nothing but text; a JSON body says what it means, and a null in it is not a zero.
 */
import { Ajv, type Options } from 'ajv'
import formats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'

const common: Options = { useDefaults: true, strict: false }
const textual = new Ajv({ ...common, coerceTypes: 'array' })
const exact = new Ajv(common)
for (const ajv of [textual, exact]) formats.default(ajv)

export const compileValidator: FastifySchemaCompiler<object> = ({ schema, httpPart }) =>
  (httpPart === 'body' ? exact : textual).compile(schema)
