/**
 * Validation of requests, and what answers are written by. Text that stands for a number or a list is taken as one in a
 * query or a header, where there is nothing but text; a JSON body says what it means, and a null in it is not a zero.
 * A schema is compiled when it is first needed: all of them would be a third of a start.
 */
import serializers from '@fastify/fast-json-stringify-compiler'
import { Ajv, type Options, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import type { FastifySchemaCompiler, FastifyServerOptions } from 'fastify'
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

type FastifyValidator = ReturnType<FastifySchemaCompiler<object>>

export const compileValidator: FastifySchemaCompiler<object> = ({ schema, httpPart }) => {
  if (READ_BY_HANDLER in schema) return () => true
  const ajv = httpPart === 'body' ? exact : textual
  let compiled: ValidateFunction | undefined
  const validate: FastifyValidator = (data) => {
    compiled ??= ajv.compile(schema)
    const fits = compiled(data)
    validate.errors = (compiled.errors as typeof validate.errors) ?? null
    return fits
  }
  return validate
}

const serializerOf = serializers()

/** For Fastify's option `schemaController`. */
export const schemaController: NonNullable<FastifyServerOptions['schemaController']> = {
  compilersFactory: {
    buildSerializer: (schemas, options) => {
      const compile = serializerOf(schemas, options)
      return (route) => {
        let serialize: ReturnType<typeof compile> | undefined
        return (data) => {
          serialize ??= compile(route)
          return serialize(data)
        }
      }
    },
  },
}
