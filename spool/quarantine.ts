/**
 * What cannot be read, kept as files in the directory `quarantine` of the spool, whole, until somebody
 * decides: for each entry a note (`NAME.json`: where it came from and why), and beside it the bytes of the
 * row (`NAME.row`) and of the body (`NAME.body`), as far as there are any. An entry is there once its note
 * is, and its note is written last; only then is anything taken out of the spool. The same row makes the
 * same name, so a repair that was killed and begins again makes no second entry.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import {
  copyFile,
  type FileHandle,
  link,
  open,
  readdir,
  readFile,
  rename,
  stat,
  unlink,
} from 'node:fs/promises'
import { join } from 'node:path'
import { directoryMode, makeDirectories, syncPath } from './durable.js'
import { invalid, SpoolError } from './errors.js'
import type { MessageMeta } from './message.js'

/** A message, a body without message, or a row of the store. */
export const QUARANTINE_KINDS = ['message', 'body', 'row'] as const
export type QuarantineKind = (typeof QUARANTINE_KINDS)[number]

export interface QuarantineEntry {
  readonly name: string
  readonly kind: QuarantineKind
  /** Why it is here. */
  readonly reason: string
  /** When it came here, milliseconds since the epoch. */
  readonly time: number
  /** The row: its database, and its key in hex. */
  readonly db: string
  readonly key: string
  /** What could be read of a message's meta; null when it could not. */
  readonly meta: MessageMeta | null
  /** Bytes of the row's value; null when there is none here. */
  readonly rowBytes: number | null
  /** Bytes of the body that were there; null when there is none here. */
  readonly bodyBytes: number | null
  /** Stretches of the body that were there, when not all of it was. */
  readonly bodyParts: readonly BodyPart[] | null
}

export interface BodyPart {
  /** Offset in the body, and in the file. */
  readonly at: number
  readonly fileAt: number
  readonly length: number
}

/** What is to be kept. */
export interface Kept {
  readonly kind: QuarantineKind
  readonly reason: string
  readonly db: string
  readonly key: Buffer
  readonly meta?: MessageMeta | undefined
  readonly row?: Buffer | undefined
  readonly body?: AsyncIterable<{ at: number; bytes: Uint8Array }> | undefined
  /** Instead of `body`: an entry that has the same. Not copied, but linked. */
  readonly bodyOf?: string | undefined
}

export interface QuarantinePage {
  readonly entries: QuarantineEntry[]
  readonly cursor: string | null
}

const NAME = /^(message|body|row)-[0-9a-z-]{1,180}$/
const NOTE = '.json'
const PARTS = ['.row', '.body'] as const
/** Stretches that a note lists. */
const MAX_PARTS = 10_000

export class Quarantine {
  readonly directory: string
  readonly #mode: number
  #keeping: Promise<void> = Promise.resolve()

  constructor(spool: string, mode: number) {
    this.directory = join(spool, 'quarantine')
    this.#mode = mode
  }

  /** Durable when it resolves. Returns the entry's name; keeps the entry that is there already. */
  keep(kept: Kept): Promise<string> {
    // One at a time: two readers may have met the same row.
    const keeping = this.#keeping.then(() => this.#keep(kept))
    this.#keeping = keeping.then(
      () => undefined,
      () => undefined,
    )
    return keeping
  }

  async #keep({ kind, reason, db, key, meta, row, body, bodyOf }: Kept): Promise<string> {
    const name = nameOf(kind, db, key, row)
    if (await exists(join(this.directory, name + NOTE))) return name
    await makeDirectories(this.directory, directoryMode(this.#mode))
    if (row !== undefined) await this.#write(`${name}.row`, (file) => file.writeFile(row))
    let { bodyBytes = null, bodyParts = null } = {} as Partial<QuarantineEntry>
    if (bodyOf !== undefined) {
      ;({ bodyBytes, bodyParts } = await this.show(bodyOf))
      const from = join(this.directory, `${bodyOf}.body`)
      const to = join(this.directory, `${name}.body`)
      await unlinkIfThere(to)
      await link(from, to).catch(() => copyFile(from, to))
    } else if (body !== undefined) {
      const kept = await this.#write(`${name}.body`, (file) => writeParts(file, body))
      bodyBytes = kept.bytes
      bodyParts = kept.isWhole ? null : kept.parts
    }
    const entry: QuarantineEntry = {
      name,
      kind,
      reason,
      time: Date.now(),
      db,
      key: key.toString('hex'),
      meta: meta ?? null,
      rowBytes: row?.length ?? null,
      bodyBytes,
      bodyParts,
    }
    const note = `${JSON.stringify(entry, null, 2)}\n`
    await this.#write(name + NOTE, (file) => file.writeFile(note))
    await this.#sync()
    return name
  }

  /** In order of name. Throws SPOOL_ERR_INVALID for a limit out of range. */
  async list({
    cursor,
    limit = 100,
  }: {
    cursor?: string
    limit?: number
  } = {}): Promise<QuarantinePage> {
    if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
      throw invalid('limit', 'not a number from 1 to 1000')
    }
    const names = (await this.#names()).filter((name) => cursor === undefined || name > cursor)
    const page = names.slice(0, limit)
    const entries: QuarantineEntry[] = []
    for (const name of page) {
      const entry = await this.#read(name)
      if (entry !== undefined) entries.push(entry)
    }
    return { entries, cursor: names.length > limit ? (page.at(-1) as string) : null }
  }

  async count(): Promise<number> {
    return (await this.#names()).length
  }

  /** Throws SPOOL_ERR_NOT_FOUND. */
  async show(name: string): Promise<QuarantineEntry> {
    const entry = await this.#read(name)
    if (entry === undefined) throw notFound(name)
    return entry
  }

  /** The body as far as it was there; or the row, when there is no body. Throws SPOOL_ERR_NOT_FOUND. */
  async content(name: string): Promise<AsyncIterable<Uint8Array>> {
    const { bodyBytes, rowBytes } = await this.show(name)
    const part = bodyBytes !== null ? '.body' : rowBytes !== null ? '.row' : undefined
    return part === undefined ? empty() : createReadStream(join(this.directory, name + part))
  }

  /** Deletes an entry for good. Throws SPOOL_ERR_NOT_FOUND. */
  async purge(name: string): Promise<void> {
    await this.show(name)
    // The note last: as long as it is there, the entry can be seen and purged again.
    for (const part of PARTS) await unlinkIfThere(join(this.directory, name + part))
    await unlinkIfThere(join(this.directory, name + NOTE))
    await this.#sync()
  }

  async #names(): Promise<string[]> {
    let files: string[]
    try {
      files = await readdir(this.directory)
    } catch (error) {
      if (isMissing(error)) return []
      throw error
    }
    return files
      .filter((file) => file.endsWith(NOTE))
      .map((file) => file.slice(0, -NOTE.length))
      .filter((name) => NAME.test(name))
      .sort()
  }

  async #read(name: string): Promise<QuarantineEntry | undefined> {
    if (!NAME.test(name)) return undefined
    const file = join(this.directory, name + NOTE)
    try {
      return JSON.parse(await readFile(file, 'utf8')) as QuarantineEntry
    } catch (cause) {
      if (isMissing(cause)) return undefined
      throw new SpoolError('SPOOL_ERR_CORRUPT', 'the note of a quarantined entry cannot be read', {
        file,
        cause,
        advice: 'mend it by hand; the bytes lie beside it',
      })
    }
  }

  /** Whole and synced under its name, or not there. */
  async #write<T>(name: string, fill: (file: FileHandle) => Promise<T>): Promise<T> {
    const path = join(this.directory, name)
    const temporary = `${path}.tmp`
    const file = await open(temporary, 'w', this.#mode)
    let filled: T
    try {
      filled = await fill(file)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
    return filled
  }

  async #sync(): Promise<void> {
    await syncPath(this.directory)
    await syncPath(join(this.directory, '..'))
  }
}

async function writeParts(
  file: FileHandle,
  body: AsyncIterable<{ at: number; bytes: Uint8Array }>,
): Promise<{ bytes: number; isWhole: boolean; parts: BodyPart[] }> {
  const parts: BodyPart[] = []
  let fileAt = 0
  let end = 0
  for await (const { at, bytes } of body) {
    const last = parts.at(-1)
    if (last !== undefined && at === end) {
      parts[parts.length - 1] = { ...last, length: last.length + bytes.length }
    } else if (parts.length < MAX_PARTS) parts.push({ at, fileAt, length: bytes.length })
    await file.write(bytes)
    fileAt += bytes.length
    end = at + bytes.length
  }
  const isWhole = parts.length === 0 || (parts.length === 1 && parts[0]?.at === 0)
  return { bytes: fileAt, isWhole, parts }
}

/** Two rows of the same key, at different times, are two entries when they differ. */
function nameOf(kind: QuarantineKind, db: string, key: Buffer, row: Buffer | undefined): string {
  const digest = createHash('sha256')
    .update(key)
    .update(row ?? '')
    .digest('hex')
    .slice(0, 12)
  const shown = key.toString('hex').slice(0, 64)
  return `${kind}-${kind === 'row' ? `${db}-` : ''}${shown}-${digest}`
}

function notFound(name: string): SpoolError {
  return new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no quarantined entry ${name}`)
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

async function* empty(): AsyncGenerator<Uint8Array, void, void> {}
