/** Injection: a message, in any of the forms that front ends send it, or several in one transaction. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import type { NewMessage, SwapOutOptions } from '../../spool/index.js'
import { passing, SpoolError, validateMessage } from '../../spool/index.js'
import { takeBody } from '../body.js'
import { isHeldBack } from '../expect-continue.js'
import { idempotencyKey, noteReplay, parseIdempotencyKey, replayed } from '../idempotency-key.js'
import {
  messageFromJson,
  messageFromMeta,
  messageFromQuery,
  refuseQuery,
} from '../injection-json.js'
import { FORM_TYPE, type FormPart, formParts, malformed } from '../multipart.js'
import { readNdjson } from '../ndjson.js'
import { mediaType } from '../negotiation.js'
import { requireScopes } from '../plugins/auth.js'
import { HttpError, problemOf, refuseWhenNotReady } from '../problem.js'
import {
  Binary,
  Injected,
  InjectedBatch,
  type InjectionJson,
  type InjectionMeta,
  injectionForm,
  injectionJson,
  injectionMeta,
  injectionQuery,
  MESSAGE_TYPE,
  NDJSON_TYPE,
  problems,
} from '../schemas.js'
import type { RouteOptions } from '../server.js'
import { readByHandler } from '../validation.js'

const JSON_TYPE = 'application/json'
const NOTHING = new Uint8Array()
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export const injectionRoutes: FastifyPluginAsyncTypebox<RouteOptions> = async (app, options) => {
  const { spool, limits } = options
  const Json = injectionJson(limits.maxRecipients)
  const Meta = injectionMeta(limits.maxRecipients)
  // Here only: elsewhere a form is no content type that is taken.
  app.addContentTypeParser(FORM_TYPE, (_request, payload, done) => done(null, payload))

  app.post(
    '/messages',
    {
      config: { scope: 'inject' },
      schema: {
        operationId: 'swap_out',
        summary: 'Inject a message',
        description:
          'Stores the message for each recipient, with the log record of its reception, and answers once all of it is durable. A form has two parts, in this order: meta, the envelope as JSON, and message, the message as it is, which is streamed.',
        tags: ['messages'],
        querystring: injectionQuery(limits.maxRecipients),
        headers: Type.Object({ 'idempotency-key': idempotencyKey }),
        body: {
          description:
            'The message as it is, streamed, with from and to in the query; or JSON; or a form.',
          content: {
            [MESSAGE_TYPE]: { schema: readByHandler(Binary) },
            [JSON_TYPE]: { schema: Json },
            [FORM_TYPE]: { schema: readByHandler(injectionForm(limits.maxRecipients)) },
          },
        },
        response: {
          201: replayed(Injected),
          ...problems(400, 404, 409, 413, 415, 422, 503, 507),
        },
      },
    },
    async (request, reply) => {
      refuseWhenNotReady(options)
      const key = parseIdempotencyKey(request.headers['idempotency-key'])
      const message = await messageOf(request)
      // Sharing what another message has passes it on, and so reads it.
      if (isShared(message)) requireScopes(request, reply, 'read')
      const result = await storeOrDiscard(message, { idempotencyKey: key })
      noteReplay(reply, result)
      reply.code(201)
      return result
    },
  )

  app.post(
    '/messages/batch',
    {
      config: { scope: 'inject' },
      schema: {
        operationId: 'swap_out_multi',
        summary: 'Inject several messages',
        description: `All of them in one transaction, or none: NDJSON, an injection a line, or a JSON array of them. The answer has a result for each, in order; an error names the line, or the item, counted from 1. Up to ${limits.maxBatch} messages, with ${limits.maxRecipients} recipients together.`,
        tags: ['messages'],
        headers: Type.Object({ 'idempotency-key': idempotencyKey }),
        body: {
          content: {
            [NDJSON_TYPE]: { schema: readByHandler(Json) },
            [JSON_TYPE]: { schema: Type.Array(Json, { minItems: 1, maxItems: limits.maxBatch }) },
          },
        },
        response: {
          201: replayed(InjectedBatch),
          ...problems(400, 404, 409, 413, 415, 422, 503, 507),
        },
      },
    },
    async (request, reply) => {
      refuseWhenNotReady(options)
      const idempotencyKey = parseIdempotencyKey(request.headers['idempotency-key'])
      const { messages, where } = readBatch(request)
      if (messages.some(isShared)) requireScopes(request, reply, 'read')
      try {
        const results = await spool.swapOutMulti(messages, { idempotencyKey })
        noteReplay(reply, results[0] ?? {})
        reply.code(201)
        return { results }
      } catch (error) {
        throw named(error, where)
      }
    },
  )

  function messageOf(request: FastifyRequest): NewMessage | Promise<NewMessage> {
    const type = mediaType(request.headers['content-type'])
    const query = request.query as Parameters<typeof messageFromQuery>[0]
    if (type === MESSAGE_TYPE) {
      const complete = messageFromQuery(query, request.raw.url ?? '')
      // Else the spool does, when the body is there.
      if (isHeldBack(request.raw)) validateMessage(complete(NOTHING))
      return takeBody(request.raw, options).then(complete)
    }
    if (type === JSON_TYPE) {
      refuseQuery(query)
      return messageFromJson(request.body as InjectionJson)
    }
    if (type === FORM_TYPE) {
      refuseQuery(query)
      return messageFromForm(request)
    }
    const detail = `send the message as ${MESSAGE_TYPE}, ${JSON_TYPE} or ${FORM_TYPE}`
    throw new HttpError(415, 'FST_ERR_CTP_INVALID_MEDIA_TYPE', detail)
  }

  async function messageFromForm(request: FastifyRequest): Promise<NewMessage> {
    const parts = formParts(request.raw, 2)
    let message: NewMessage | undefined
    try {
      const meta = await next(parts, 'meta')
      const json = await readJson(meta, limits.maxBufferedBody)
      const validate = request.compileValidationSchema(Meta, 'body')
      if (!validate(json as object)) {
        throw Object.assign(malformed('part meta is not valid'), {
          validation: validate.errors ?? [],
          validationContext: 'body.meta',
        })
      }
      const complete = messageFromMeta(json as InjectionMeta)
      const { body } = await next(parts, 'message')
      message = complete(await spool.stageBody(passing(body), { maxBytes: limits.maxMessageSize }))
      // Only what ends as a form does is a message.
      if (!(await parts.next()).done) throw malformed('more than meta and message')
      return message
    } catch (error) {
      if (message !== undefined) await discard(message)
      throw error
    } finally {
      await parts.return()
    }
  }

  function readBatch(request: FastifyRequest): {
    messages: NewMessage[]
    where: (i: number) => string
  } {
    const items = Array.isArray(request.body) ? (request.body as InjectionJson[]) : undefined
    const lines = items
      ? undefined
      : readNdjson<InjectionJson>(request, Json, 'messages', limits.maxBatch)
    const where = (i: number) => (lines ? `line ${lines[i]?.line}` : `item ${i + 1}`)
    const injections = items ?? lines?.map(({ value }) => value) ?? []
    if (injections.length === 0) {
      throw new HttpError(400, 'NO_MESSAGES', 'body: there is no message in it')
    }
    let recipients = 0
    const messages = injections.map((json, i) => {
      recipients += json.rcptto.length
      if (recipients > limits.maxRecipients) {
        const detail = `${where(i)}: more than ${limits.maxRecipients} recipients together`
        throw new HttpError(413, 'TOO_MANY_RECIPIENTS', detail)
      }
      try {
        return messageFromJson(json)
      } catch (error) {
        if (!(error instanceof HttpError)) throw error
        throw new HttpError(error.statusCode, error.code, `${where(i)}: ${error.message}`)
      }
    })
    return { messages, where }
  }

  async function storeOrDiscard(message: NewMessage, swapOut: SwapOutOptions) {
    try {
      return await spool.swapOut(message, swapOut)
    } catch (error) {
      await discard(message)
      throw error
    }
  }
}

function isShared({ body }: NewMessage): boolean {
  return 'refs' in body
}

async function discard({ body }: NewMessage): Promise<void> {
  if ('discard' in body) await body.discard()
}

/** The next part, which has to have this name. Throws HttpError 400. */
async function next(parts: AsyncGenerator<FormPart, void, void>, name: string): Promise<FormPart> {
  const { value: part } = await parts.next()
  if (part === undefined) throw malformed(`no part ${name}`)
  if (part.name === name) return part
  throw malformed(`part ${part.name} where ${name} must be; meta comes first, then message`)
}

/** Throws HttpError 400, 413, 415. */
async function readJson({ name, type, body }: FormPart, maxBytes: number): Promise<unknown> {
  if (type !== JSON_TYPE && type !== 'text/plain') {
    throw new HttpError(415, 'FST_ERR_CTP_INVALID_MEDIA_TYPE', `part ${name}: not ${JSON_TYPE}`)
  }
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of body) {
    bytes += piece.length
    if (bytes > maxBytes) {
      const detail = `part ${name} is over the limit of ${maxBytes} bytes`
      throw new HttpError(413, 'FST_ERR_CTP_BODY_TOO_LARGE', detail)
    }
    pieces.push(piece)
  }
  try {
    return JSON.parse(utf8.decode(Buffer.concat(pieces)))
  } catch {
    throw malformed(`part ${name} is not JSON in UTF-8`)
  }
}

/** The error, with the place of the message it is about. */
function named(error: unknown, where: (i: number) => string): unknown {
  if (!(error instanceof SpoolError) || error.index === undefined) return error
  const { status, code, detail } = problemOf(error)
  return new HttpError(status, code, `${where(error.index)}: ${detail}`)
}
