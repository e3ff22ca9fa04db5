/**
 * The queue folder of Haraka at rest. A file's name says when the message came, when it is due and how often it
 * was tried: `arrival_due_attempts_pid_unique_counter_host`, or `due_attempts_pid_unique.host` in old
 * ones. In it are the length of a JSON object in four bytes, the object with the envelope, and the
 * message as it goes over SMTP, its leading dots doubled. A retry renames the file, so a message is known
 * by its arrival, the unique part and the host. Files that are being written are left alone.
 */
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { throwIfAborted } from '../jobs.js'
import { entriesOf, FileRemover, openRegular, readFrom } from './files.js'
import {
  type Source,
  type SourceContent,
  SourceError,
  type SourceMessage,
  type SourceMeta,
} from './source.js'

const NAME = /^(\d+)_(\d+)_(\d+)_(\d+)_([A-Za-z0-9]+)_(\d+)_([^_]*)$/
const OLD_NAME = /^(\d+)_(\d+)_(\d+)_(\d+)\.([^_]*)$/
const BEING_WRITTEN = '__tmp__.'
const MAX_TODO_BYTES = 16 * 1024 * 1024
/** Notes of plugins are kept up to so many bytes. */
const MAX_NOTES_BYTES = 16 * 1024

interface QueueName {
  readonly key: string
  readonly arrival: number | undefined
  readonly due: number
  readonly attempts: number
}

export class HarakaSource implements Source {
  readonly format = 'haraka'
  readonly base: string
  readonly removesEach = true
  readonly #remover = new FileRemover()

  constructor(base: string) {
    this.base = base
  }

  async count(signal: AbortSignal | undefined): Promise<number> {
    let count = 0
    for await (const _ of this.#names()) {
      throwIfAborted(signal)
      count++
    }
    return count
  }

  async *messages(): AsyncGenerator<SourceMessage, void, void> {
    for await (const name of this.#names()) {
      const path = join(this.base, name)
      const parsed = parseQueueName(name)
      yield {
        key: parsed?.key ?? name,
        originalId: name,
        open: () => open(path, parsed),
        remove: () => this.#remover.remove(path),
      }
    }
  }

  settle(): Promise<void> {
    return this.#remover.settle()
  }

  async finish(): Promise<string | null> {
    return null
  }

  async close(): Promise<void> {}

  async *#names(): AsyncGenerator<string, void, void> {
    for await (const entry of entriesOf(this.base)) {
      const { name } = entry
      if (entry.isDirectory() || name.startsWith('.') || name.startsWith(BEING_WRITTEN)) continue
      yield name
    }
  }
}

/** undefined for what is no queue file. */
export function parseQueueName(name: string): QueueName | undefined {
  const now = NAME.exec(name)
  if (now !== null) {
    const [, arrival, due, attempts, , unique, , host] = now as unknown as string[]
    return {
      key: `${arrival}_${unique}_${host}`,
      arrival: Number(arrival),
      due: Number(due),
      attempts: Number(attempts),
    }
  }
  const old = OLD_NAME.exec(name)
  if (old === null) return undefined
  const [, due, attempts, pid, unique] = old as unknown as string[]
  return {
    key: `${pid}_${unique}.${old[5]}`,
    arrival: undefined,
    due: Number(due),
    attempts: Number(attempts),
  }
}

async function open(path: string, name: QueueName | undefined): Promise<SourceContent> {
  if (name === undefined) throw new SourceError(2, 'not named as a queue file')
  const handle = await openRegular(path)
  try {
    const { meta, bodyAt } = await readTodo(handle, name)
    const body = withoutStuffing(readFrom(handle, bodyAt))
    return { meta, body, close: () => handle.close() }
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function readTodo(
  handle: FileHandle,
  name: QueueName,
): Promise<{ meta: SourceMeta; bodyAt: number }> {
  const { size } = await handle.stat()
  if (size < 4) throw new SourceError(2, `of ${size} bytes, too short for a queue file`)
  const length = (await take(handle, 0, 4)).readUInt32BE()
  const bodyAt = 4 + length
  if (length > MAX_TODO_BYTES || bodyAt > size) {
    throw new SourceError(2, `its envelope of ${length} bytes does not fit its ${size} bytes`)
  }
  let todo: unknown
  try {
    const utf8 = new TextDecoder('utf-8', { fatal: true })
    todo = JSON.parse(utf8.decode(await take(handle, 4, bodyAt)))
  } catch (cause) {
    if (cause instanceof SourceError) throw cause
    throw new SourceError(2, `its envelope is no JSON: ${(cause as Error).message}`, { cause })
  }
  return { meta: metaOf(todo, name), bodyAt }
}

function metaOf(todo: unknown, { arrival, due, attempts }: QueueName): SourceMeta {
  const { mail_from, rcpt_to, queue_time, uuid, notes } = (todo ?? {}) as Record<string, unknown>
  const mailfrom = addressOf(mail_from)
  if (mailfrom === undefined) throw new SourceError(2, 'its envelope has no sender')
  if (!Array.isArray(rcpt_to)) throw new SourceError(2, 'its envelope has no recipients')
  const rcptto = rcpt_to.map(addressOf)
  if (rcptto.length === 0 || !rcptto.every((address) => address !== undefined && address !== '')) {
    throw new SourceError(2, 'a recipient in its envelope cannot be read')
  }
  const id = typeof uuid === 'string' ? uuid : ''
  const text = notes === undefined ? '' : JSON.stringify(notes)
  const isSmall = text !== '' && text !== '{}' && Buffer.byteLength(text) <= MAX_NOTES_BYTES
  return {
    mailfrom,
    rcptto: rcptto as string[],
    created: arrival ?? (typeof queue_time === 'number' ? queue_time : undefined),
    nextAttempt: due,
    retries: attempts,
    // The uuid of the connection, with the number of the transaction after it, and of the file.
    connectionId: id.split('.', 1)[0],
    batchId: id.split('.', 2).join('.'),
    context: {
      mess: {
        ...(id === '' ? {} : { haraka_uuid: id }),
        ...(isSmall ? { haraka_notes: text } : {}),
      },
    },
  }
}

/** From `<a@b>`, or an object that has it as `original`; undefined when there is none. */
function addressOf(value: unknown): string | undefined {
  if (typeof value === 'string') return /^<(.*)>$/s.exec(value.trim())?.[1] ?? value.trim()
  if (typeof value !== 'object' || value === null) return undefined
  const { original, user, host } = value as Record<string, unknown>
  if (typeof original === 'string') return addressOf(original)
  if (typeof user !== 'string') return user === null ? '' : undefined
  return typeof host === 'string' && host !== '' ? `${user}@${host}` : user
}

async function take(handle: FileHandle, start: number, end: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of readFrom(handle, start, end)) pieces.push(piece)
  return Buffer.concat(pieces)
}

const LF = 0x0a
const CR = 0x0d
const DOT = 0x2e

/** As the other side of an SMTP session would: a dot that a line begins with goes, unless it is all of it. */
export async function* withoutStuffing(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  let isAtStart = true
  let hasDot = false
  for await (const piece of source) {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    let from = 0
    let at = 0
    while (at < bytes.length) {
      if (hasDot) {
        hasDot = false
        if (bytes[at] === LF || bytes[at] === CR) yield Buffer.of(DOT)
      } else if (isAtStart && bytes[at] === DOT) {
        if (at > from) yield bytes.subarray(from, at)
        isAtStart = false
        hasDot = true
        from = ++at
        continue
      }
      const next = bytes.indexOf(LF, at)
      isAtStart = next >= 0
      at = next < 0 ? bytes.length : next + 1
    }
    if (from < bytes.length) yield bytes.subarray(from)
  }
  if (hasDot) yield Buffer.of(DOT)
}
