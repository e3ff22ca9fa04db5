/**
 * A form (multipart/form-data, RFC 7578) as it comes: one part after the other, none of them held whole. The parser is
 * that of @fastify/multipart, without the plugin, whose hooks every request would pay for. A form that is cut off, or
 * does not end, ends in an error: what was read of it before is then worth nothing.
 */
import type { IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import type { Readable } from 'node:stream'
import type { BusboyConstructor, BusboyInstance } from '@fastify/busboy'
import { HttpError } from './problem.js'

// Through the plugin, which is ours, to what it depends on.
const require = createRequire(createRequire(import.meta.url).resolve('@fastify/multipart'))
const Busboy = require('@fastify/busboy') as BusboyConstructor

export const FORM_TYPE = 'multipart/form-data'

/** Of a part: a handful of short ones are usual. */
const MAX_HEADER_BYTES = 8 * 1024
const MAX_HEADERS = 20

export interface FormPart {
  readonly name: string
  /** Content type in lower case, without parameters; text/plain when it has none. */
  readonly type: string
  readonly body: AsyncIterable<Buffer>
}

/** Each part has to be read before the next is asked for. Throws HttpError 400. */
export async function* formParts(
  request: IncomingMessage,
  maxParts: number,
): AsyncGenerator<FormPart, void, void> {
  const form = open(request, maxParts)
  const parts: FormPart[] = []
  const bodies: Readable[] = []
  let isOver = false
  let failure: Error | undefined
  let wake: () => void = () => undefined
  const fail = (error: Error) => {
    failure ??= error
    // Whoever reads one is told, too.
    for (const body of bodies) body.destroy(failure)
    wake()
  }
  const onClose = () => {
    if (!request.complete) fail(malformed('cut off'))
  }
  form.on('file', (name, body, _filename, encoding, type) => {
    // The parser tells its own error, and may tell it to a part that nobody reads yet.
    body.on('error', () => undefined)
    bodies.push(body)
    if (!['7bit', '8bit', 'binary'].includes(encoding)) {
      fail(malformed(`part ${name}: Content-Transfer-Encoding ${encoding} is not for forms`))
    }
    parts.push({ name: String(name), type, body })
    wake()
  })
  form.on('partsLimit', () => fail(malformed(`more than ${maxParts} parts`)))
  form.on('error', (error) => fail(malformed((error as Error).message)))
  form.on('finish', () => {
    isOver = true
    wake()
  })
  request.on('close', onClose)
  request.on('error', onClose)
  request.pipe(form)
  try {
    for (;;) {
      if (failure !== undefined) throw failure
      const part = parts.shift()
      if (part !== undefined) yield part
      else if (isOver) return
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  } finally {
    request.unpipe(form)
    request.off('close', onClose)
    for (const body of bodies) body.destroy()
  }
}

function open(request: IncomingMessage, maxParts: number): BusboyInstance {
  try {
    return new Busboy({
      headers: request.headers as { 'content-type': string },
      limits: { parts: maxParts, headerPairs: MAX_HEADERS, headerSize: MAX_HEADER_BYTES },
      // As bytes, all of them: a field would be decoded as text, whatever it is.
      isPartAFile: () => true,
    })
  } catch (cause) {
    throw malformed((cause as Error).message)
  }
}

export function malformed(what: string): HttpError {
  return new HttpError(400, 'INVALID_FORM', `body: the form: ${what}`)
}
