/**
 * The journals of one directory, each a jlog directory of its own, by name. Promises one shared writer a journal,
 * so that everybody's appends in this process share writes and syncs; names that cannot leave the directory; and
 * a writer that failed for want of room is opened anew when it is next asked for, while one whose sync failed
 * stays refused until restart (the kernel has dropped the pages: nothing may be acknowledged on a retry).
 */
import { readdir, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type AlterOptions, alterJournal } from './alter.js'
import { type CreateOptions, createJournal, makeDirectories } from './create.js'
import { JlogError } from './errors.js'
import { syncDirectory } from './file.js'
import type { LogId } from './log-id.js'
import { type AppendRecord, type JournalWriter, openWriter, type WriterObserver } from './writer.js'

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/
const DELETED_PREFIX = '.deleted-'

export interface JournalSetOptions {
  /** Mode of the files of journals made here; 0o640 by default. */
  readonly fileMode?: number
  /** Writers held open at once; the longest unused is closed for a new one. */
  readonly maxOpenWriters?: number
  /** Asked when a writer is opened: who is told of what it does. */
  readonly observe?: (journal: string) => WriterObserver
}

export interface Appended {
  readonly first: LogId
  readonly last: LogId
  readonly count: number
}

interface OpenWriter {
  readonly writer: Promise<JournalWriter>
  users: number
}

export class JournalSet {
  readonly root: string
  readonly #fileMode: number
  readonly #maxOpenWriters: number
  readonly #observe: JournalSetOptions['observe']
  /** In order of last use. */
  readonly #writers = new Map<string, OpenWriter>()
  /** Names of those being taken away: nobody may open one meanwhile. */
  readonly #deleting = new Set<string>()
  #closed = false

  private constructor(root: string, options: JournalSetOptions) {
    this.root = root
    this.#fileMode = options.fileMode ?? 0o640
    this.#maxOpenWriters = options.maxOpenWriters ?? 64
    this.#observe = options.observe
  }

  /** Opens the directory, making it where it is not there. */
  static async open(root: string, options: JournalSetOptions = {}): Promise<JournalSet> {
    const path = resolve(root)
    await makeDirectories(path, 0o750)
    for (const name of await readdir(path)) {
      if (name.startsWith(DELETED_PREFIX)) await rm(join(path, name), { recursive: true })
    }
    return new JournalSet(path, options)
  }

  /** Names of the journals there are, sorted. */
  async names(): Promise<string[]> {
    const names: string[] = []
    for (const entry of await readdir(this.root, { withFileTypes: true })) {
      if (entry.isDirectory() && NAME.test(entry.name)) names.push(entry.name)
    }
    return names.sort()
  }

  async has(name: string): Promise<boolean> {
    if (!NAME.test(name)) return false
    return stat(join(this.root, name)).then(
      (found) => found.isDirectory(),
      () => false,
    )
  }

  /**
   * The journal's directory.
   * @throws JlogError JLOG_ERR_OPEN when there is none of that name
   */
  async path(name: string): Promise<string> {
    if (!(await this.has(name))) throw missing(name)
    return join(this.root, name)
  }

  /**
   * @throws JlogError JLOG_ERR_CREATE_EXISTS; JLOG_ERR_ILLEGAL_INIT for a name that is not letters, digits, `.`, `_`, `-`
   */
  async create(name: string, options: CreateOptions = {}): Promise<void> {
    if (!NAME.test(name)) {
      throw new JlogError(
        'JLOG_ERR_ILLEGAL_INIT',
        `not a journal's name: ${JSON.stringify(name)}`,
        {
          advice:
            'use up to 128 letters, digits, dots, underscores and hyphens, beginning with a letter or digit',
        },
      )
    }
    await createJournal(join(this.root, name), { fileMode: this.#fileMode, ...options })
  }

  /** Takes the journal away, with all its records. */
  async delete(name: string): Promise<void> {
    const path = await this.path(name)
    if (this.#deleting.has(name)) throw missing(name)
    // Renamed first: a crash in the middle must not leave half a journal under its name.
    const doomed = join(this.root, `${DELETED_PREFIX}${name}-${process.pid}-${Date.now()}`)
    this.#deleting.add(name)
    try {
      await this.#forget(name)
      await rename(path, doomed)
    } finally {
      this.#deleting.delete(name)
    }
    await syncDirectory(this.root)
    await rm(doomed, { recursive: true })
  }

  /**
   * Changes the settings of a journal; the pre-commit buffer by way of the writer that has it open, so that it goes on with the new one.
   * @throws JlogError as `alterJournal`; JLOG_ERR_OPEN when there is none of that name
   */
  async alter(name: string, { preCommit, ...settings }: AlterOptions): Promise<void> {
    await alterJournal(await this.path(name), settings)
    if (preCommit !== undefined)
      await this.withWriter(name, (writer) => writer.resizePreCommit(preCommit))
  }

  /**
   * Appends whole and in order; resolves as the journal's safety says.
   * @throws JlogError JLOG_ERR_OPEN (no such journal), JLOG_ERR_FILE_WRITE (nothing of it was acknowledged)
   */
  async append(name: string, records: readonly AppendRecord[]): Promise<Appended> {
    return this.withWriter(name, (writer) => writer.appendBatch(records))
  }

  /** Lends the journal's writer for as long as `use` runs. */
  async withWriter<T>(name: string, use: (writer: JournalWriter) => Promise<T>): Promise<T> {
    const open = await this.#borrow(name)
    try {
      return await use(await open.writer)
    } finally {
      open.users--
    }
  }

  /** Why a journal takes no records now, for each that does not. */
  async failures(): Promise<{ name: string; error: JlogError }[]> {
    const failures: { name: string; error: JlogError }[] = []
    for (const [name, open] of this.#writers) {
      const failure = await open.writer.then(
        (writer) => writer.failure,
        () => null,
      )
      if (failure !== null) failures.push({ name, error: failure })
    }
    return failures
  }

  /** Flushes and closes every writer. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#writers.keys()].map((name) => this.#forget(name)))
  }

  /** Counted as a user before anything else can run, so that nobody closes it in between. */
  async #borrow(name: string): Promise<OpenWriter> {
    this.#throwIfClosed()
    const held = this.#writers.get(name)
    if (held !== undefined) {
      const failure = (await held.writer).failure
      if (this.#writers.get(name) !== held) return this.#borrow(name)
      if (failure === null || !isWantOfRoom(failure)) return this.#touch(name, held)
      await this.#forget(name)
      return this.#borrow(name)
    }
    const path = await this.path(name)
    this.#throwIfClosed()
    if (this.#deleting.has(name)) throw missing(name)
    const raced = this.#writers.get(name)
    if (raced !== undefined) return this.#touch(name, raced)
    const observer = this.#observe?.(name)
    const options = { direct: false, ...(observer && { observer }) }
    const opening: OpenWriter = { writer: openWriter(path, options), users: 1 }
    this.#writers.set(name, opening)
    opening.writer.catch(() => {
      if (this.#writers.get(name) === opening) this.#writers.delete(name)
    })
    await this.#closeIdle()
    return opening
  }

  #throwIfClosed(): void {
    if (this.#closed) throw new JlogError('JLOG_ERR_ILLEGAL_WRITE', 'the journals are closed')
  }

  #touch(name: string, open: OpenWriter): OpenWriter {
    this.#writers.delete(name)
    this.#writers.set(name, open)
    open.users++
    return open
  }

  async #closeIdle(): Promise<void> {
    for (const [name, open] of this.#writers) {
      if (this.#writers.size <= this.#maxOpenWriters) return
      if (open.users === 0) await this.#forget(name)
    }
  }

  async #forget(name: string): Promise<void> {
    const open = this.#writers.get(name)
    if (open === undefined) return
    this.#writers.delete(name)
    await open.writer.then(
      (writer) => writer.close(),
      () => undefined,
    )
  }
}

function missing(name: string): JlogError {
  return new JlogError('JLOG_ERR_OPEN', `there is no journal ${JSON.stringify(name)}`, {
    advice: 'make it first, or look at the list of journals',
  })
}

/** A write that found no room: nothing of it was acknowledged, and there may be room later. A sync is never tried again. */
function isWantOfRoom(error: JlogError): boolean {
  const { code, syscall } = (error.cause ?? {}) as NodeJS.ErrnoException
  const room = code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG'
  return room && syscall !== 'fdatasync' && syscall !== 'fsync'
}
