/**
 * Export to an mbox, `messages.mbox` in the directory, quoted as mboxrd. It grows under another name; now and
 * then it is synced, and how far it is noted beside it. An export that was killed is cut back to there
 * and goes on with the next message, if it is for the same messages. It gets its name when it is whole.
 */
import { type FileHandle, open, readFile, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { syncPath } from './durable.js'
import { SpoolError } from './errors.js'
import { type ExportedMessage, type ExportTarget, exists, publish } from './export-target.js'
import { QUOTE, requote } from './sources/from-quoting.js'

const NAME = 'messages.mbox'
const BUFFER_BYTES = 256 * 1024
const LF = 0x0a

interface Note {
  /** What the export is of, in one string. */
  readonly what: string
  /** The last message that is in it. */
  readonly after: string
  /** Bytes up to its end. */
  readonly bytes: number
}

export class MboxTarget implements ExportTarget {
  readonly #directory: string
  readonly #what: string
  readonly #file: FileHandle
  #after: string
  /** Of the file and what is buffered. */
  #bytes: number
  #buffered: Uint8Array[] = []
  #bufferedBytes = 0

  /** `what`: which messages, and how. Throws SPOOL_ERR_EXISTS when there is an mbox. */
  static async open(directory: string, what: string): Promise<MboxTarget> {
    const finished = join(directory, NAME)
    if (await exists(finished)) {
      throw new SpoolError('SPOOL_ERR_EXISTS', 'there is an mbox already', {
        file: finished,
        advice: 'name another directory, or move it away',
      })
    }
    const file = await open(partialOf(directory), 'a+')
    try {
      const note = await readNote(directory)
      const { size } = await file.stat()
      const goesOn = note !== undefined && note.what === what && note.bytes <= size
      await file.truncate(goesOn ? note.bytes : 0)
      return new MboxTarget(directory, what, file, goesOn ? note : { what, after: '', bytes: 0 })
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(directory: string, what: string, file: FileHandle, note: Note) {
    this.#directory = directory
    this.#what = what
    this.#file = file
    this.#after = note.after
    this.#bytes = note.bytes
  }

  /** Messages come in the order of their ids. */
  async has({ id }: ExportedMessage): Promise<boolean> {
    return id <= this.#after
  }

  async write(message: ExportedMessage, content: AsyncIterable<Uint8Array>): Promise<void> {
    await this.#flush()
    const start = this.#bytes
    try {
      await this.#put(Buffer.from(fromLine(message)))
      let last = LF
      for await (const piece of requote(content, QUOTE)) {
        await this.#put(piece)
        last = piece.at(-1) ?? last
      }
      // The line of a message that does not end is ended, and an empty line follows each.
      await this.#put(Buffer.from(last === LF ? '\n' : '\n\n'))
    } catch (error) {
      this.#buffered = []
      this.#bufferedBytes = 0
      this.#bytes = start
      await this.#file.truncate(start)
      throw error
    }
    this.#after = message.id
  }

  async settle(): Promise<void> {
    await this.#flush()
    await this.#file.datasync()
    const note: Note = { what: this.#what, after: this.#after, bytes: this.#bytes }
    const name = noteOf(this.#directory)
    const handle = await open(`${name}.tmp`, 'w')
    try {
      await handle.writeFile(JSON.stringify(note))
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(`${name}.tmp`, name)
    await syncPath(this.#directory)
  }

  async finish(): Promise<void> {
    await this.#flush()
    await this.#file.sync()
    await publish(partialOf(this.#directory), join(this.#directory, NAME))
    await syncPath(this.#directory)
    await unlink(noteOf(this.#directory)).catch(() => undefined)
  }

  close(): Promise<void> {
    return this.#file.close()
  }

  async #put(piece: Uint8Array): Promise<void> {
    // Pieces may be cut from a buffer that is filled again.
    this.#buffered.push(Buffer.from(piece))
    this.#bufferedBytes += piece.length
    this.#bytes += piece.length
    if (this.#bufferedBytes >= BUFFER_BYTES) await this.#flush()
  }

  async #flush(): Promise<void> {
    if (this.#bufferedBytes === 0) return
    const bytes = Buffer.concat(this.#buffered, this.#bufferedBytes)
    this.#buffered = []
    this.#bufferedBytes = 0
    await this.#file.appendFile(bytes)
  }
}

function partialOf(directory: string): string {
  return join(directory, `.${NAME}.partial`)
}

function noteOf(directory: string): string {
  return join(directory, `.${NAME}.json`)
}

/** undefined when there is none that can be read. */
async function readNote(directory: string): Promise<Note | undefined> {
  try {
    const note = JSON.parse(await readFile(noteOf(directory), 'utf8')) as Partial<Note>
    const { what, after, bytes } = note
    if (typeof what !== 'string' || typeof after !== 'string') return undefined
    return Number.isSafeInteger(bytes) ? { what, after, bytes: bytes as number } : undefined
  } catch {
    return undefined
  }
}

/** `From sender date`, as in C's asctime, in UTC. */
function fromLine({ mailfrom, created }: ExportedMessage): string {
  const [week, day, month, year, time] = new Date(created).toUTCString().split(/,? /)
  const sender =
    mailfrom === '' ? 'MAILER-DAEMON' : /^[^\s<>]+@[^\s<>]+$/.test(mailfrom) ? mailfrom : '-'
  return `From ${sender} ${week} ${month} ${String(day).replace(/^0/, ' ')} ${time} ${year}\n`
}
