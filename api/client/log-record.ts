/** Log records as they come: as NDJSON, and as Server-Sent Events (WHATWG HTML, section 9.2) as far as this service sends them. */
import { ClientError } from './errors.js'
import type { RecordJson } from './types.js'

/** A record of a journal. */
export interface LogRecord {
  /** Segment and marker in hex, as in `00000000:00000001`. */
  readonly id: string
  /** When it was written: Unix seconds, and microseconds. */
  readonly sec: number
  readonly usec: number
  readonly data: Buffer
  /** The data as text. */
  text(): string
  /** The data as the JSON that it is. Throws SyntaxError. */
  json<T = unknown>(): T
}

/** Lines as they come, without their ends; what stands after the last end is none. */
export async function* linesOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  // A long line comes in many pieces; joined once, at its end.
  let pieces: string[] = []
  for await (const chunk of bytes) {
    const [first = '', ...others] = decoder.decode(chunk, { stream: true }).split('\n')
    pieces.push(first)
    for (const piece of others) {
      const line = pieces.join('')
      yield line.endsWith('\r') ? line.slice(0, -1) : line
      pieces = [piece]
    }
  }
}

/** The records of an NDJSON answer. */
export function recordsOfLines(text: string): LogRecord[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(parseRecord)
}

/** The records in a stream of events. */
export async function* recordsOfEvents(
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<LogRecord> {
  let data = ''
  for await (const line of linesOf(bytes)) {
    if (line.startsWith('data:')) data += line.slice('data:'.length)
    if (line !== '' || data === '') continue
    yield parseRecord(data)
    data = ''
  }
}

function parseRecord(line: string): LogRecord {
  let record: RecordJson
  try {
    record = JSON.parse(line) as RecordJson
  } catch (cause) {
    throw new ClientError(0, 'BAD_ANSWER', 'what came is not a record in JSON', { cause })
  }
  const { id, sec, usec, data } = record
  const bytes = Buffer.from(data, 'base64')
  return {
    id,
    sec,
    usec,
    data: bytes,
    text: () => bytes.toString('utf8'),
    json: <T>() => JSON.parse(bytes.toString('utf8')) as T,
  }
}
