/** NDJSON bodies: an object a line, each checked; an error names its line, counted from 1. */
import { isUtf8 } from 'node:buffer'
import type { FastifyRequest } from 'fastify'
import { HttpError } from './problem.js'
import { NDJSON_TYPE } from './schemas.js'

export interface Line<T> {
  /** Counted from 1, empty lines counted, too. */
  readonly line: number
  readonly value: T
}

/** Throws HttpError 400 naming the line; 413 for more than `max` of them, 415 for what is not NDJSON. */
export function readNdjson<T>(
  request: FastifyRequest,
  schema: object,
  what: string,
  max = Number.POSITIVE_INFINITY,
): Line<T>[] {
  const { body } = request
  if (!Buffer.isBuffer(body)) {
    const detail = `send the ${what} as ${NDJSON_TYPE}, an object a line`
    throw new HttpError(415, 'FST_ERR_CTP_INVALID_MEDIA_TYPE', detail)
  }
  if (!isUtf8(body)) throw new HttpError(400, 'INVALID_UTF8', 'body: not UTF-8')
  const validate = request.compileValidationSchema(schema, 'body')
  const lines: Line<T>[] = []
  let n = 0
  for (let start = 0, end = 0; start < body.length; start = end + 1) {
    end = body.indexOf(0x0a, start)
    if (end === -1) end = body.length
    n++
    const text = body.toString('utf8', start, end)
    if (text.trim() === '') continue
    if (lines.length === max) {
      throw new HttpError(413, 'TOO_MANY_LINES', `body: more than ${max} ${what}`)
    }
    const refuse = (why: string) => new HttpError(400, 'INVALID_LINE', `line ${n}: ${why}`)
    let value: T
    try {
      value = JSON.parse(text) as T
    } catch {
      throw refuse('not JSON')
    }
    if (!validate(value as object)) throw refuse(describe(validate.errors?.[0]))
    lines.push({ line: n, value })
  }
  return lines
}

function describe(
  error: { instancePath?: string; message?: string; params?: Record<string, unknown> } = {},
): string {
  const { instancePath = '', message = 'is not valid', params = {} } = error
  const named = params.additionalProperty ?? params.missingProperty
  const where = [instancePath.slice(1).replaceAll('/', '.'), named].filter(Boolean).join('.')
  return `${where} ${message}`.trim()
}
