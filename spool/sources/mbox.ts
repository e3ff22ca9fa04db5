/**
 * An mbox: messages one after the other in a file, each after a line that begins with `From ` and follows an
 * empty line. The file is read in pieces, however large it is. A message is known by where it begins and
 * what it is, so mail that is appended later is new. Messages are not taken out one by one: when all of
 * them are ours, the file is emptied under a lock, unless it has changed meanwhile.
 */
import { createHash, type Hash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { tryLock } from 'fs-native-extensions'
import { SpoolError } from '../errors.js'
import { throwIfAborted } from '../jobs.js'
import { readEnvelope } from './envelope-fields.js'
import { isMissing, openRegular, readFrom, unreadable } from './files.js'
import { requote, UNQUOTE_O, UNQUOTE_RD } from './from-quoting.js'
import { type Source, type SourceContent, SourceError, type SourceMessage } from './source.js'

const FROM = Buffer.from('From ')
/** Looked at together, when boundaries are looked for. */
const SCAN_BYTES = 1024 * 1024
/** Two line ends and all but the last byte of what follows them, at least. */
const MAX_HELD = FROM.length + 4
/** Of the line that begins a message so much is looked at. */
const MAX_FROM_LINE = 8192
const LF = 0x0a
const CR = 0x0d

/** Where a message lies, with its first line. */
interface Stretch {
  readonly start: number
  readonly end: number
  /** Of its bytes, but for line ends at its end; hexadecimal. */
  readonly digest: string
}

export class MboxSource implements Source {
  readonly format: 'mbox' | 'mboxo'
  readonly base: string
  readonly removesEach = false
  /** Bytes that have been looked at. */
  #seen = 0

  constructor(base: string, format: 'mbox' | 'mboxo') {
    this.base = base
    this.format = format
  }

  async count(signal: AbortSignal | undefined): Promise<number> {
    let count = 0
    for await (const _ of this.#stretches({ hashed: false, signal })) count++
    return count
  }

  async *messages(): AsyncGenerator<SourceMessage, void, void> {
    for await (const { start, end, digest } of this.#stretches({ hashed: true })) {
      yield {
        key: `${start} ${digest}`,
        originalId: `${start}`,
        open: () => this.#open({ start, end, digest }),
        remove: async () => false,
      }
      this.#seen = end
    }
  }

  async settle(): Promise<void> {}

  async finish(): Promise<string | null> {
    let handle: FileHandle
    try {
      handle = await open(this.base, 'r+')
    } catch (error) {
      return isMissing(error) ? null : (error as Error).message
    }
    try {
      // Who delivers locks it, too, and waits.
      if (!tryLock(handle.fd)) return 'another process has it locked'
      const { size } = await handle.stat()
      if (size !== this.#seen) return 'it changed while it was read'
      await handle.truncate(0)
      await handle.sync()
      return null
    } finally {
      await handle.close()
    }
  }

  async close(): Promise<void> {}

  async #open({ start, end, digest }: Stretch): Promise<SourceContent> {
    const handle = await openRegular(this.base)
    try {
      const { from, bodyAt } = await readFromLine(handle, start, end)
      const bodyEnd = await withoutEmptyLine(handle, bodyAt, end)
      const raw = requote(
        await unchanged(handle, { start, end, digest }, { start: bodyAt, end: bodyEnd }),
        this.format === 'mbox' ? UNQUOTE_RD : UNQUOTE_O,
      )
      const { envelope, body } = await readEnvelope(raw)
      const { mailfrom = from } = envelope
      return { meta: { ...envelope, mailfrom }, body, close: () => handle.close() }
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** The messages, in order. Throws SPOOL_ERR_OPEN. */
  async *#stretches({
    hashed,
    signal,
  }: {
    hashed: boolean
    signal?: AbortSignal | undefined
  }): AsyncGenerator<Stretch, void, void> {
    const handle = await openRegular(this.base).catch((cause: unknown) => {
      throw this.#cannotRead(cause)
    })
    try {
      yield* stretchesOf(handle, hashed, signal)
    } catch (cause) {
      throw cause instanceof SourceError ? this.#cannotRead(cause) : cause
    } finally {
      await handle.close()
    }
  }

  #cannotRead(cause: unknown): SpoolError {
    return new SpoolError('SPOOL_ERR_OPEN', 'the mbox cannot be read', { file: this.base, cause })
  }
}

/** Throws SPOOL_ERR_INVALID for a file that does not begin as an mbox does. */
async function* stretchesOf(
  handle: FileHandle,
  hashed: boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<Stretch, void, void> {
  let hash: Hash = createHash('sha256')
  let start = 0
  /** Of the file, before what is in `held`. */
  let at = 0
  /** Filled again for each piece; before it stand the bytes that a boundary may begin in. */
  const buffer = Buffer.allocUnsafeSlow(MAX_HELD + SCAN_BYTES)
  let held = 0
  const take = (bytes: Buffer) => {
    if (hashed) hash.update(bytes)
  }
  const takeLast = (bytes: Buffer) => take(bytes.subarray(0, bytes.length - lineEndsAfter(bytes)))
  for (let read = 0; ; read += SCAN_BYTES) {
    throwIfAborted(signal)
    const bytesRead = await readInto(handle, buffer.subarray(held, held + SCAN_BYTES), read)
    let window = buffer.subarray(0, held + bytesRead)
    if (read === 0 && bytesRead > 0 && window.subarray(0, FROM.length).compare(FROM) !== 0) {
      throw new SpoolError('SPOOL_ERR_INVALID', 'format: an mbox begins with "From "', {
        field: 'format',
      })
    }
    for (let next = boundaryIn(window); next >= 0; next = boundaryIn(window)) {
      takeLast(window.subarray(0, next))
      at += next
      yield { start, end: at, digest: hash.digest('hex') }
      hash = createHash('sha256')
      start = at
      window = window.subarray(next)
    }
    const isOver = bytesRead < SCAN_BYTES
    held = isOver ? 0 : Math.min(window.length, MAX_HELD)
    const rest = window.subarray(0, window.length - held)
    at += rest.length
    if (isOver) {
      takeLast(rest)
      break
    }
    take(rest)
    window.copy(buffer, 0, rest.length)
  }
  if (at > start) yield { start, end: at, digest: hash.digest('hex') }
}

/** The last message of a file may lack its empty line, which is there once another follows. */
function lineEndsAfter(bytes: Buffer): number {
  const tail = bytes.toString('latin1', Math.max(0, bytes.length - 4))
  return /(?:\r?\n){0,2}$/.exec(tail)?.[0].length ?? 0
}

/** Offset of a line that begins a message after an empty one; never 0. */
function boundaryIn(window: Buffer): number {
  for (let at = window.indexOf('\nFrom '); at >= 0; at = window.indexOf('\nFrom ', at + 1)) {
    const isEmpty = window[at - 1] === LF || (window[at - 1] === CR && window[at - 2] === LF)
    if (isEmpty) return at + 1
  }
  return -1
}

async function readFromLine(
  handle: FileHandle,
  start: number,
  end: number,
): Promise<{ from: string | undefined; bodyAt: number }> {
  const line = await readAt(handle, start, Math.min(end, start + MAX_FROM_LINE))
  if (!line.subarray(0, FROM.length).equals(FROM)) throw changed()
  const lf = line.indexOf(LF)
  if (lf < 0) throw new SourceError(2, 'the line it begins with does not end')
  return { from: senderOf(line.toString('utf8', 0, lf)), bodyAt: start + lf + 1 }
}

/** The bytes of a part, which fail at its end when the whole is not what it was when its boundaries were looked for. */
async function unchanged(
  handle: FileHandle,
  whole: Stretch,
  part: { start: number; end: number },
): Promise<AsyncIterable<Uint8Array>> {
  const { start, end, digest } = whole
  const hash = createHash('sha256')
  const hashedEnd = end - lineEndsAfter(await readAt(handle, Math.max(start, end - 4), end))
  hash.update(await readAt(handle, start, Math.min(part.start, hashedEnd)))
  return hashing()

  async function* hashing(): AsyncGenerator<Uint8Array, void, void> {
    let at = part.start
    for await (const piece of readFrom(handle, part.start, part.end)) {
      hash.update(piece.subarray(0, Math.max(0, hashedEnd - at)))
      at += piece.length
      yield piece
    }
    if (hash.digest('hex') !== digest) throw changed()
  }
}

function changed(): SourceError {
  return new SourceError(3, 'it changed while it was read')
}

/** `From address date`. What mail programs of people write there is no address. */
function senderOf(line: string): string | undefined {
  const address = line.slice(FROM.length).trimStart().split(' ', 1)[0] as string
  if (address === 'MAILER-DAEMON') return ''
  return /^[^\s<>\ufffd]+@[^\s<>\ufffd]+$/.test(address) ? address : undefined
}

/** The empty line after a message belongs to the mbox. */
async function withoutEmptyLine(handle: FileHandle, start: number, end: number): Promise<number> {
  const tail = (await readAt(handle, Math.max(start, end - 3), end)).toString('latin1')
  const isWhole = end - start < 3
  if (tail.endsWith('\n\n') || (isWhole && tail === '\n')) return end - 1
  return tail === '\n\r\n' || (isWhole && tail === '\r\n') ? end - 2 : end
}

/** Fills the buffer as far as the file goes. */
async function readInto(handle: FileHandle, buffer: Buffer, at: number): Promise<number> {
  let filled = 0
  try {
    while (filled < buffer.length) {
      const { bytesRead } = await handle.read(buffer, filled, buffer.length - filled, at + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
  } catch (cause) {
    throw unreadable(cause)
  }
  return filled
}

async function readAt(handle: FileHandle, start: number, end: number): Promise<Buffer> {
  const bytes = Buffer.alloc(end - start)
  try {
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
    return bytes.subarray(0, bytesRead)
  } catch (cause) {
    throw unreadable(cause)
  }
}
