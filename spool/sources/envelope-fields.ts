/**
 * The envelope of a message as its header tells it: in the block that an export of ours put before it, which
 * is taken off again, or in the fields that mail systems write on delivery, which stay. Recipients are
 * looked for in `X-Envelope-To`, `Envelope-To`, `X-Original-To` and the topmost `Delivered-To`, in this
 * order; the sender in `Return-Path`, `X-Envelope-From` and `Envelope-From`. `To:` says nothing of it.
 */
import type { SourceMeta } from './source.js'

/** Of a header so much is looked at. */
const MAX_HEAD_BYTES = 256 * 1024
const MAX_RECIPIENTS = 10_000

export const EXPORT_FIELD = 'X-Bobbin-Export'
const EXPORT_LINE = new RegExp(
  `^${EXPORT_FIELD}: ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\\r?\\n$`,
)

const SENDER_FIELDS = ['return-path', 'x-envelope-from', 'envelope-from']
const RECIPIENT_FIELDS = ['x-envelope-to', 'envelope-to', 'x-original-to', 'delivered-to']
const WANTED = new Set([...SENDER_FIELDS, ...RECIPIENT_FIELDS])

export interface EnvelopeFields extends Pick<SourceMeta, 'id' | 'mailfrom' | 'rcptto'> {}

/** Reads the envelope from the head of a body, and gives the body back without our own block. */
export async function readEnvelope(
  source: AsyncIterable<Uint8Array>,
): Promise<{ envelope: EnvelopeFields; body: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]()
  const pieces: Uint8Array[] = []
  let size = 0
  let head = Buffer.alloc(0)
  let isOver = false
  while (size < MAX_HEAD_BYTES && headerEnd(head) < 0) {
    const next = await iterator.next()
    if (next.done === true) {
      isOver = true
      break
    }
    pieces.push(next.value)
    size += next.value.length
    head = Buffer.concat(pieces, size)
  }
  const { envelope, bodyAt } = parseHead(head)
  return { envelope, body: rest() }

  async function* rest(): AsyncGenerator<Uint8Array, void, void> {
    try {
      if (bodyAt < head.length) yield head.subarray(bodyAt)
      while (!isOver) {
        const next = await iterator.next()
        if (next.done === true) isOver = true
        else yield next.value
      }
    } finally {
      if (!isOver) await iterator.return?.()
    }
  }
}

/** The fields that `parseHead` reads back: before a message that is exported with its envelope. */
export function exportBlock(
  { id, mailfrom, rcptto }: { id: string; mailfrom: string; rcptto: string },
  { from, to }: { from: string; to: string },
  lineEnd: '\n' | '\r\n',
): Buffer {
  const lines = [`${EXPORT_FIELD}: ${id}`, `${from}: <${mailfrom}>`, `${to}: <${rcptto}>`]
  return Buffer.from(lines.map((line) => line + lineEnd).join(''))
}

/** The line end that a message begins with. */
export function lineEndOf(head: Uint8Array): '\n' | '\r\n' {
  const lf = head.indexOf(0x0a)
  return lf > 0 && head[lf - 1] !== 0x0d ? '\n' : '\r\n'
}

/** What the head of a message says, and where the message itself begins. */
export function parseHead(head: Buffer): { envelope: EnvelopeFields; bodyAt: number } {
  return parseExport(head) ?? { envelope: parseFields(head), bodyAt: 0 }
}

function parseExport(head: Buffer): { envelope: EnvelopeFields; bodyAt: number } | undefined {
  const [first, sender, recipient] = [...linesOf(head, 3)]
  if (first === undefined || sender === undefined || recipient === undefined) return undefined
  const id = EXPORT_LINE.exec(first.text)?.[1]
  const mailfrom = /^[!-9;-~]+: <([^\r\n]*)>\r?\n$/.exec(sender.text)?.[1]
  const rcptto = /^[!-9;-~]+: <([^\r\n]+)>\r?\n$/.exec(recipient.text)?.[1]
  if (id === undefined || mailfrom === undefined || rcptto === undefined) return undefined
  return { envelope: { id, mailfrom, rcptto: [rcptto] }, bodyAt: recipient.end }
}

function parseFields(head: Buffer): EnvelopeFields {
  const fields = new Map<string, string[]>()
  let current: string[] | undefined
  for (const { text } of linesOf(head, Number.POSITIVE_INFINITY)) {
    const line = text.replace(/\r?\n$/, '')
    if (line === '') break
    if (/^[ \t]/.test(line)) {
      if (current !== undefined) current.push(`${current.pop()}${line}`)
      continue
    }
    current = undefined
    const colon = line.indexOf(':')
    const name = line.slice(0, Math.max(colon, 0)).trimEnd().toLowerCase()
    if (!WANTED.has(name)) continue
    current = fields.get(name) ?? []
    current.push(line.slice(colon + 1))
    fields.set(name, current)
  }
  return { mailfrom: senderIn(fields), rcptto: recipientsIn(fields) }
}

function senderIn(fields: ReadonlyMap<string, readonly string[]>): string | undefined {
  for (const name of SENDER_FIELDS) {
    const value = fields.get(name)?.[0]
    const address = value === undefined ? undefined : addressIn(value)
    if (address !== undefined) return address
  }
  return undefined
}

function recipientsIn(fields: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  for (const name of RECIPIENT_FIELDS) {
    const values = fields.get(name) ?? []
    // Each forwarding adds a Delivered-To on top: only the first is where it is now.
    const wanted = name === 'delivered-to' ? values.slice(0, 1) : values
    const addresses = wanted
      .flatMap((value) => value.split(','))
      .map(addressIn)
      .filter((address) => address !== undefined && address !== '')
    if (addresses.length > 0) {
      return [...new Set(addresses as string[])].slice(0, MAX_RECIPIENTS)
    }
  }
  return undefined
}

/** `<a@b>` or `a@b`; '' for `<>`; undefined for what is neither. */
function addressIn(value: string): string | undefined {
  const bracketed = /<([^<>]*)>/.exec(value)
  // Bytes that are no UTF-8 would make another address of it.
  if (value.includes('\ufffd')) return undefined
  if (bracketed !== null) return (bracketed[1] as string).trim()
  const bare = value.replace(/\([^()]*\)/g, '').trim()
  return /^[^\s<>]+@[^\s<>]+$/.test(bare) ? bare : undefined
}

/** Offset after the empty line that ends a header; -1 while it has not come. */
function headerEnd(head: Buffer): number {
  if (head[0] === 0x0a) return 1
  if (head[0] === 0x0d && head[1] === 0x0a) return 2
  const lf = head.indexOf('\n\n')
  const crlf = head.indexOf('\n\r\n')
  if (lf < 0) return crlf < 0 ? -1 : crlf + 3
  return crlf < 0 || lf < crlf ? lf + 2 : crlf + 3
}

/** Lines with their ends; the last may have none. */
function* linesOf(
  head: Buffer,
  count: number,
): Generator<{ text: string; end: number }, void, void> {
  for (let at = 0, n = 0; at < head.length && n < count; n++) {
    const lf = head.indexOf(0x0a, at)
    const end = lf < 0 ? head.length : lf + 1
    yield { text: head.toString('utf8', at, end), end }
    at = end
  }
}
