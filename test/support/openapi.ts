/** The OpenAPI document of a running service, as tests read it. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import type { TestApi } from './api.js'
import type { Schema } from './from-schema.js'

export interface Media {
  schema?: Schema
  example?: unknown
}

export interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  required?: boolean
  schema: Schema
}

export interface Operation {
  method: string
  path: string
  operationId: string
  summary?: string
  parameters: Parameter[]
  content: Record<string, Media>
  responses: Record<
    string,
    { description: string; headers?: Record<string, object>; content?: Record<string, Media> }
  >
}

export interface Document {
  openapi: string
  paths: Record<string, Record<string, object>>
  components: { schemas: Record<string, Schema> }
}

export async function documentOf(api: TestApi): Promise<Document> {
  return (await api.app.inject({ url: '/openapi.json' })).json()
}

export function operationsOf({ paths }: Document): Operation[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const { requestBody, ...rest } = operation as Operation & {
        requestBody?: { content: Operation['content'] }
      }
      const parameters = rest.parameters ?? []
      return { ...rest, method, path, parameters, content: requestBody?.content ?? {} }
    }),
  )
}

export const resolver = (document: Document) => (ref: string) => {
  const name = ref.replace('#/components/schemas/', '')
  const schema = document.components.schemas[name]
  if (schema === undefined) throw new Error(`${ref} leads nowhere`)
  return schema
}

/** What does not fit; null when all of it does. */
export type Check = (schema: Schema, value: unknown) => string | null

/** With `isText`, text that stands for a number, a boolean or a list is one, as in a query. */
export function checkerOf({ components }: Document, isText = false): Check {
  const ajv = new Ajv2020({
    ...{ strict: false, allErrors: true },
    coerceTypes: isText ? 'array' : false,
  })
  formats.default(ajv)
  ajv.addSchema({ $id: 'document', components })
  const text = (schema: Schema) => JSON.stringify(schema).replaceAll('"#/', '"document#/')
  const known = new Map<string, ReturnType<typeof ajv.compile>>()
  return (schema, value) => {
    const key = text(schema)
    const check = known.get(key) ?? ajv.compile(JSON.parse(key))
    known.set(key, check)
    return check(value) ? null : ajv.errorsText(check.errors)
  }
}
