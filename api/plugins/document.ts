/**
 * The OpenAPI document, made from the routes. What holds for all of them is said here, once: the errors that any request may meet,
 * whatever its route says itself. Examples come from a table of their own (examples.ts).
 */
import swagger from '@fastify/swagger'
import type { FastifyPluginAsync, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { ANSWER_HEADERS, type Headers } from '../answer-headers.js'
import { EXAMPLES, problemExample } from '../examples.js'
import { problems } from '../schemas.js'
import { READ_BY_HANDLER } from '../validation.js'
import { SECURITY_SCHEMES } from './auth.js'

export interface DocumentOptions {
  readonly version: string
}

interface Schema {
  readonly [READ_BY_HANDLER]?: true
  readonly default?: unknown
  required?: string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
}

interface Media {
  schema?: Schema
  example?: unknown
}

interface Operation {
  operationId: string
  parameters?: { required?: boolean; schema?: Schema }[]
  requestBody?: { required?: boolean; content?: Record<string, Media> }
  responses: Record<
    string,
    { description: string; headers?: Headers; content?: Record<string, Media> }
  >
}

const TAGS = {
  messages: 'Injection, and what is in the spool.',
  context: 'The two dictionaries of a message.',
  claims: 'Due messages, leased to front ends.',
  events: 'What became of messages.',
  spool: 'The spool as a whole.',
  quarantine: 'What could not be read, kept.',
  journals: 'Append-only logs in the jlog format.',
  subscribers: 'Readers of a journal, each with its checkpoint.',
  jobs: 'Long operations, polled.',
  operations: 'For those who run it.',
}

/** What the plugin says where nobody has said anything. */
const UNDESCRIBED = 'Default Response'
const DESCRIPTIONS: Readonly<Record<string, string>> = {
  200: 'Done, and durable if it changed anything.',
  201: 'Made, and durable.',
  202: 'Accepted: under way, or visible and not durable yet.',
  204: 'Done; there is nothing to say.',
}

const OTHER_PROBLEMS =
  'Any other problem: 408 for a request that comes too slowly, 431 for too large a head, 411 for a body without a length, 417 for an Expect other than 100-continue, 501 for a transfer coding other than chunked, 500 for an internal error or for damage, of which the log has the details under the id of the request.'

/** The plugin takes every body for one that must be sent. */
const BODY_OPTIONAL: ReadonlySet<string> = new Set(['journal_create'])

const register: FastifyPluginAsync<DocumentOptions> = async (app, { version }) => {
  app.addHook('onRoute', (route) => {
    const { schema, method } = route
    if (schema === undefined || schema.hide === true || method === 'HEAD') return
    const given = schema.response as Record<string, unknown> | undefined
    // A path or a query can be wrong anywhere; who sends a body may send too much of it, or what is none; what writes may find
    // no room.
    const general = method === 'GET' ? problems(400, 503) : problems(400, 413, 415, 503, 507)
    schema.response = { ...(isAlwaysAnswered(route) ? {} : general), ...given }
  })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Bobbin',
        version,
        description:
          'A durable, journaled spool and log store for mail servers. Operation ids carry the names of the spool. Errors are application/problem+json (RFC 9457), each with a stable code. Every answer has X-Request-Id, by which the log knows it.',
      },
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: { securitySchemes: SECURITY_SCHEMES },
    },
    refResolver: {
      buildLocalReference: (json, _base, _fragment, i) => String(json.$id ?? `Schema${i}`),
    },
    transformObject: (document) => {
      if (!('openapiObject' in document)) return document.swaggerObject
      const { openapiObject } = document
      for (const methods of Object.values(openapiObject.paths ?? {})) {
        for (const operation of Object.values(methods as Record<string, Operation>)) {
          takeDefaults(operation)
          addAnswers(operation)
          addExamples(operation)
        }
      }
      return openapiObject
    },
  })
}

/** The probes read nothing of their requests. */
function isAlwaysAnswered({ config }: RouteOptions): boolean {
  return config?.scope === 'open'
}

/** What has a default need not be sent, though it is always there for the handler. */
function takeDefaults({ operationId, parameters = [], requestBody }: Operation): void {
  for (const parameter of parameters) {
    if (parameter.schema?.default !== undefined) parameter.required = false
  }
  for (const { schema } of Object.values(requestBody?.content ?? {})) {
    if (schema !== undefined) relax(schema)
  }
  if (requestBody !== undefined && BODY_OPTIONAL.has(operationId)) requestBody.required = false
}

function relax(schema: Schema): void {
  const { properties = {}, items, required } = schema
  if (required !== undefined) {
    const needed = required.filter((name) => properties[name]?.default === undefined)
    if (needed.length > 0) schema.required = needed
    else delete schema.required
  }
  for (const inner of Object.values(properties)) relax(inner)
  if (items !== undefined) relax(items)
}

function addAnswers({ operationId, responses }: Operation): void {
  for (const [status, response] of Object.entries(responses)) {
    const headers = ANSWER_HEADERS[operationId]?.[Number(status)]
    if (headers !== undefined) response.headers = { ...response.headers, ...headers }
    if (response.description === UNDESCRIBED) response.description = DESCRIPTIONS[status] ?? 'Done.'
  }
  responses.default = {
    description: OTHER_PROBLEMS,
    content: {
      'application/problem+json': {
        schema: { $ref: '#/components/schemas/Problem' } as Schema,
        example: problemExample(500),
      },
    },
  }
}

function addExamples({ operationId, requestBody, responses }: Operation): void {
  const { request = {}, answers = {} } = EXAMPLES[operationId] ?? {}
  for (const [type, media] of Object.entries(requestBody?.content ?? {})) {
    if (type in request) media.example = request[type]
    if (media.schema !== undefined) {
      const { [READ_BY_HANDLER]: _, ...schema } = media.schema
      media.schema = schema
    }
  }
  for (const [status, { content = {} }] of Object.entries(responses)) {
    const examples = answers[Number(status)] ?? {}
    for (const [type, media] of Object.entries(content)) {
      if (type in examples) media.example = examples[type]
      else if (Number(status) >= 400) media.example = problemExample(Number(status))
    }
  }
}

export const document = fp(register, { name: 'document' })
