/**
 * A Maildir: a file a message, in `new` and `cur`; what is in `tmp` is being delivered and left alone. A
 * message is known by the unique part of its file's name, so one that a reader moves from `new` to `cur`
 * meanwhile is met once. Its flags are kept in the dictionary `mess` as `maildir_flags`.
 */
import { join } from 'node:path'
import { throwIfAborted } from '../jobs.js'
import { readEnvelope } from './envelope-fields.js'
import { entriesOf, FileRemover, openRegular, readFrom } from './files.js'
import type { Source, SourceContent, SourceMessage } from './source.js'

export const FLAGS_KEY = 'maildir_flags'

export class MaildirSource implements Source {
  readonly format = 'maildir'
  readonly base: string
  readonly removesEach = true
  readonly #remover = new FileRemover()

  constructor(base: string) {
    this.base = base
  }

  async count(signal: AbortSignal | undefined): Promise<number> {
    let count = 0
    for await (const _ of this.#files()) {
      throwIfAborted(signal)
      count++
    }
    return count
  }

  async *messages(): AsyncGenerator<SourceMessage, void, void> {
    for await (const { path, name } of this.#files()) {
      const [unique = name, info = ''] = name.split(':', 2)
      yield {
        key: unique,
        originalId: unique,
        open: () => open(path, /^2,([A-Za-z]*)$/.exec(info)?.[1] ?? ''),
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

  /** `new` first: what is moved meanwhile is moved to `cur`. */
  async *#files(): AsyncGenerator<{ path: string; name: string }, void, void> {
    for (const folder of ['new', 'cur']) {
      const directory = join(this.base, folder)
      for await (const entry of entriesOf(directory)) {
        // Names that begin with a dot are no messages there.
        if (entry.name.startsWith('.') || entry.isDirectory()) continue
        yield { path: join(directory, entry.name), name: entry.name }
      }
    }
  }
}

async function open(path: string, flags: string): Promise<SourceContent> {
  const handle = await openRegular(path)
  try {
    const { envelope, body } = await readEnvelope(readFrom(handle, 0))
    const context = flags === '' ? undefined : { mess: { [FLAGS_KEY]: flags } }
    return { meta: { ...envelope, context }, body, close: () => handle.close() }
  } catch (error) {
    await handle.close()
    throw error
  }
}
