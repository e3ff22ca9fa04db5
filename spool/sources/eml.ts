/**
 * A folder of `.eml` files, with the folders in it, or one such file. A message is known by where its file is
 * below the folder, its size and when it was changed: another message under the same name is new.
 */
import type { Stats } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { throwIfAborted } from '../jobs.js'
import { readEnvelope } from './envelope-fields.js'
import { entriesOf, FileRemover, isGarbled, isMissing, openRegular, readFrom } from './files.js'
import type { Source, SourceContent, SourceMessage } from './source.js'

export class EmlSource implements Source {
  readonly format = 'eml'
  readonly base: string
  readonly removesEach = true
  readonly #isFile: boolean
  readonly #remover = new FileRemover()

  constructor(base: string, isFile: boolean) {
    this.base = base
    this.#isFile = isFile
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
      let stats: Stats | undefined
      try {
        stats = await lstat(path)
      } catch (error) {
        if (!isMissing(error)) throw error
        if (!isGarbled(path)) continue
      }
      yield {
        key: `${name}\n${stats?.size} ${stats?.mtimeMs}`,
        originalId: name,
        open: () => open(path),
        remove: () => this.#remover.remove(path, stats),
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

  async *#files(): AsyncGenerator<{ path: string; name: string }, void, void> {
    if (this.#isFile) {
      yield { path: this.base, name: basename(this.base) }
      return
    }
    yield* emlFiles(this.base)
  }
}

/** With their names below the folder. */
export async function* emlFiles(
  base: string,
): AsyncGenerator<{ path: string; name: string }, void, void> {
  const folders = ['']
  for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
    for await (const entry of entriesOf(join(base, folder))) {
      const name = join(folder, entry.name)
      if (entry.isDirectory()) folders.push(name)
      else if (isEml(entry.name)) yield { path: join(base, name), name }
    }
  }
}

export function isEml(name: string): boolean {
  return name.toLowerCase().endsWith('.eml')
}

async function open(path: string): Promise<SourceContent> {
  const handle = await openRegular(path)
  try {
    const { envelope, body } = await readEnvelope(readFrom(handle, 0))
    return { meta: envelope, body, close: () => handle.close() }
  } catch (error) {
    await handle.close()
    throw error
  }
}
