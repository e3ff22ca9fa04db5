/** Exports of a file a message: a Maildir, or a folder of `.eml` files. Run again, they take what is not there yet. */
import { open, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { makeDirectories, syncPath } from './durable.js'
import { type ExportedMessage, type ExportTarget, exists, publish } from './export-target.js'
import { midToSpoolName } from './names.js'

/** Writes a file whole and synced under another name, then gives it its own. */
async function writeFile(
  temporary: string,
  file: string,
  content: AsyncIterable<Uint8Array>,
): Promise<void> {
  const handle = await open(temporary, 'w')
  try {
    for await (const piece of content) await handle.writeFile(piece)
    await handle.sync()
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw error
  } finally {
    await handle.close()
  }
  await publish(temporary, file)
}

export class EmlTarget implements ExportTarget {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  has({ id }: ExportedMessage): Promise<boolean> {
    return exists(this.#fileOf(id))
  }

  write({ id }: ExportedMessage, content: AsyncIterable<Uint8Array>): Promise<void> {
    return writeFile(join(this.#directory, `.${id}.tmp`), this.#fileOf(id), content)
  }

  async settle(): Promise<void> {
    await syncPath(this.#directory)
  }

  finish(): Promise<void> {
    return this.settle()
  }

  async close(): Promise<void> {}

  #fileOf(id: string): string {
    return join(this.#directory, `${id}.eml`)
  }
}

export class MaildirTarget implements ExportTarget {
  readonly #directory: string
  /** Names without flags of what readers have moved, or given flags. */
  readonly #seen: ReadonlySet<string>

  static async open(directory: string): Promise<MaildirTarget> {
    for (const folder of ['tmp', 'new', 'cur']) await makeDirectories(join(directory, folder))
    const seen = await readdir(join(directory, 'cur'))
    return new MaildirTarget(
      directory,
      new Set(seen.map((name) => name.split(':', 1)[0] as string)),
    )
  }

  private constructor(directory: string, seen: ReadonlySet<string>) {
    this.#directory = directory
    this.#seen = seen
  }

  async has(message: ExportedMessage): Promise<boolean> {
    return this.#seen.has(nameOf(message)) || exists(this.#fileOf(message))
  }

  write(message: ExportedMessage, content: AsyncIterable<Uint8Array>): Promise<void> {
    return writeFile(join(this.#directory, 'tmp', nameOf(message)), this.#fileOf(message), content)
  }

  async settle(): Promise<void> {
    await syncPath(join(this.#directory, 'new'))
    await syncPath(join(this.#directory, 'cur'))
  }

  finish(): Promise<void> {
    return this.settle()
  }

  async close(): Promise<void> {}

  #fileOf(message: ExportedMessage): string {
    const { flags } = message
    const place = flags === '' ? ['new', nameOf(message)] : ['cur', `${nameOf(message)}:2,${flags}`]
    return join(this.#directory, ...place)
  }
}

/** The same each time, and of no other message anywhere. */
function nameOf({ id, created }: ExportedMessage): string {
  return `${Math.floor(created / 1000)}.${midToSpoolName(id)}.bobbin`
}
