/**
 * The LMDB environment and its databases. Promises: what a commit's promise acknowledges is on the disk
 * (`overlappingSync: false`), and the store's mapped pages can be handed back while it stays open.
 */
import { open as openFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Database,
  open,
  type RootDatabase,
  type RootDatabaseOptionsWithPath,
  type Transaction,
} from 'lmdb'
import { directoryMode, makeDirectories, syncPath } from './durable.js'
import { SpoolError } from './errors.js'
import { FORMAT_UNPACKED, FORMAT_VERSION, pack, STATE_FORMAT, unpack } from './layout.js'
import { assertOpens, cannotOpen, mustExist, otherFormat } from './preflight.js'
import { DATABASES, type DatabaseName, type RowStore } from './rows.js'

/** Spools of this format that were made before there were these lack them until they are next opened for writing. */
const ADDED: ReadonlySet<DatabaseName> = new Set(['idempotency', 'imports'])

export type Db = Database<Buffer, Buffer>

/** For reading, in the place of one that is not there. */
const EMPTY_DB = {
  get: () => undefined,
  getBinaryFast: () => undefined,
  getKeys: () => [],
  getRange: () => [],
  getStats: () => ({ entryCount: 0 }),
} as unknown as Db

interface Environment {
  readonly root: RootDatabase<Buffer, Buffer>
  readonly databases: Record<DatabaseName, Db>
}

/** What lmdb-js takes besides what its types declare. */
interface EnvironmentOptions extends RootDatabaseOptionsWithPath {
  overlappingSync: false
  txnStartThreshold: number
  batchStartThreshold: number
  permissionsMode: number
}

export interface StoreOptions {
  path: string
  readOnly: boolean
  mode: number
  mapSize: number | undefined
  /** Whether chunks are going to be packed. */
  packs?: boolean
  /** For check, and for repair, which has to mend the row that says it: only one of a version to come is refused. */
  anyFormat?: boolean
}

/** No format above it is taken for one of a later version. */
const LAST_FORMAT = 99

/** Address space, not memory or disk. lmdb-js grows a map that is too small, but keeps the old one. */
const MAP_SIZES = [2 ** 40, 2 ** 36, 2 ** 32]

/** Pages mapped by reading are handed back once there are so many bytes of them. */
const REMAP_BYTES = 32 * 1024 * 1024
/** What passes through once, as a large body does, is worth less to keep. */
const STREAMED_WEIGHT = 8

export class Store implements RowStore {
  readonly path: string
  readonly readOnly: boolean
  readonly #options: StoreOptions
  #environment: Environment | undefined
  #touched = 0
  #reads = 0
  #onUnread: () => void = () => undefined
  #closed = false

  /** Throws SPOOL_ERR_OPEN. */
  static async makeDirectory({ path, mode }: StoreOptions): Promise<void> {
    try {
      await makeDirectories(path, directoryMode(mode))
    } catch (cause) {
      throw new SpoolError('SPOOL_ERR_OPEN', 'the spool directory cannot be made', {
        file: path,
        cause,
      })
    }
  }

  /** Throws SPOOL_ERR_OPEN. */
  static mustExist(path: string): Promise<void> {
    return mustExist(path)
  }

  /**
   * Throws SPOOL_ERR_OPEN, SPOOL_ERR_CORRUPT for a file that LMDB cannot open. The directory must exist; with `readOnly`, the spool
   * too.
   */
  static async open(options: StoreOptions): Promise<Store> {
    const { path, readOnly } = options
    if (readOnly) await mustExist(path)
    const isNew = !readOnly && (await makeFiles(options))
    await assertOpens(path, readOnly)
    const store = new Store(options)
    try {
      await store.#checkFormat()
      if (isNew) await syncPath(options.path)
    } catch (error) {
      await store.close()
      throw error
    }
    return store
  }

  private constructor(options: StoreOptions) {
    this.path = options.path
    this.readOnly = options.readOnly
    this.#options = options
    this.#environment = openEnvironment(options)
  }

  /** Throws SPOOL_ERR_CLOSED. */
  db(name: DatabaseName): Db {
    return this.#open.databases[name]
  }

  /** Writes what `writes` puts and removes in one transaction; resolves when it is on the disk. */
  write(writes: () => void): Promise<unknown> {
    return this.#open.root.batch(writes)
  }

  /** Entries of a database, as LMDB counts them. */
  count(name: DatabaseName): number {
    const { entryCount } = this.db(name).getStats() as { entryCount: number }
    return entryCount
  }

  /**
   * Counts bytes read through the map. Their pages belong to the page cache, yet they count as the
   * process's memory until they are unmapped.
   */
  touched(bytes: number): void {
    this.#touched += bytes
  }

  /** As `touched`, for what is not likely to be read again. */
  streamed(bytes: number): void {
    this.#touched += bytes * STREAMED_WEIGHT
  }

  get wantsRemap(): boolean {
    return this.#touched >= REMAP_BYTES && !this.#closed && this.#reads === 0
  }

  /** A consistent read, to be ended with `endRead` before the store is closed; the map stays meanwhile. */
  beginRead(): Transaction {
    const transaction = this.#open.root.useReadTransaction()
    this.#reads++
    return transaction
  }

  endRead(transaction: Transaction): void {
    transaction.done()
    this.#readEnded()
  }

  /** Resolves when nobody reads; with false when that takes longer than `milliseconds`. */
  async unread(milliseconds: number): Promise<boolean> {
    const end = performance.now() + milliseconds
    while (this.#reads > 0) {
      const left = end - performance.now()
      if (left <= 0) return false
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#onUnread = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return true
  }

  /** Copies the store as of now, without its free pages, into a directory that exists, beside whatever is written. */
  async copyTo(directory: string): Promise<void> {
    this.#reads++
    try {
      await this.#open.root.backup(directory, true)
    } finally {
      this.#readEnded()
    }
    // Were the first commit into a copy one that frees many pages, LMDB would end the process over an assertion
    // (mdb_page_alloc of lmdb-js 3.5). So it is one that changes nothing.
    const copy = openEnvironment({ ...this.#options, path: directory, readOnly: false })
    try {
      const { state } = copy.databases
      const format = state.get(STATE_FORMAT)
      await copy.root.batch(() => void (format && state.put(STATE_FORMAT, Buffer.from(format))))
    } finally {
      await copy.root.close()
    }
    await rm(join(directory, 'lock.mdb'), { force: true })
  }

  #readEnded(): void {
    this.#reads--
    if (this.#reads === 0) this.#onUnread()
  }

  /** Unmaps and maps the file again. Only while no write is under way; takes about a millisecond. */
  remap(): void {
    this.#touched = 0
    const { root } = this.#open
    // lmdb-js puts off the closing until promises of finished commits have been looked at; there is
    // no commit under way, and no reader may meet a closed store, so it has to happen at once.
    Object.defineProperty(root, '_endWrites', { value: undefined })
    this.#environment = undefined
    void root.close()
    try {
      this.#environment = openEnvironment(this.#options)
    } catch {
      // Out of descriptors or memory, say: whoever needs the store next tries again and is told.
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#environment?.root.close()
  }

  get #open(): Environment {
    if (this.#closed) {
      throw new SpoolError('SPOOL_ERR_CLOSED', 'the spool is closed', { file: this.path })
    }
    this.#environment ??= openEnvironment(this.#options)
    return this.#environment
  }

  async #checkFormat(): Promise<void> {
    const { readOnly, packs, anyFormat } = this.#options
    const row = this.db('state').get(STATE_FORMAT)
    const format = row === undefined ? undefined : this.#format(row)
    if (format === FORMAT_VERSION || (format === FORMAT_UNPACKED && packs !== true)) return
    if (format === undefined || format === FORMAT_UNPACKED) {
      if (readOnly || anyFormat === true) return
      await this.write(() => void this.db('state').put(STATE_FORMAT, pack(FORMAT_VERSION)))
      return
    }
    // What no version to come can have written is damage, which check tells and repair mends.
    if (anyFormat === true && !(format > FORMAT_VERSION && format <= LAST_FORMAT)) return
    throw otherFormat(this.path, format)
  }

  #format(row: Buffer): number {
    try {
      const format = unpack(row)
      if (typeof format === 'number') return format
    } catch {}
    if (this.#options.anyFormat === true) return Number.NaN
    throw new SpoolError('SPOOL_ERR_CORRUPT', 'the format of the spool cannot be read', {
      file: this.path,
      advice: 'run bobbin spool repair',
    })
  }
}

/** Throws SPOOL_ERR_OPEN. */
function openEnvironment({ path, readOnly, mode, mapSize }: StoreOptions): Environment {
  const root = openRoot({
    path,
    readOnly,
    // Only so does the commit's promise mean that the data is on the disk.
    overlappingSync: false,
    // The committer makes the transactions; each is one `batch`, which LMDB writes whole or not.
    eventTurnBatching: false,
    // The writing thread starts with the first operations of a batch, not after the event turn.
    txnStartThreshold: 1,
    batchStartThreshold: 1,
    noSubdir: false,
    encoding: 'binary',
    keyEncoding: 'binary',
    maxDbs: 32,
    mapSizes: mapSize === undefined ? MAP_SIZES : [mapSize],
    permissionsMode: mode,
  })
  const databases: Partial<Record<DatabaseName, Db>> = {}
  for (const name of DATABASES) {
    const db = root.openDB<Buffer, Buffer>(name, { encoding: 'binary', keyEncoding: 'binary' }) as
      | Db
      | undefined
    if (db === undefined && readOnly && ADDED.has(name)) {
      databases[name] = EMPTY_DB
      continue
    }
    if (db === undefined) {
      throw new SpoolError('SPOOL_ERR_OPEN', `the spool has no database ${name}`, { file: path })
    }
    databases[name] = db
  }
  return { root, databases: databases as Record<DatabaseName, Db> }
}

/** With the largest map that there is address space for. */
function openRoot({
  mapSizes,
  ...options
}: EnvironmentOptions & { mapSizes: number[] }): Environment['root'] {
  for (const [i, mapSize] of mapSizes.entries()) {
    try {
      return open<Buffer, Buffer>({ ...options, mapSize } as EnvironmentOptions)
    } catch (cause) {
      if (i < mapSizes.length - 1 && /cannot allocate memory/i.test(String(cause))) continue
      const file = options.path as string
      throw new SpoolError('SPOOL_ERR_OPEN', 'the spool cannot be opened', { file, cause })
    }
  }
  throw new SpoolError('SPOOL_ERR_INVALID', 'mapSize: none', { field: 'mapSize' })
}

/** Makes the files, with their mode before anything is in them. True if they are new. */
async function makeFiles({ path, mode }: StoreOptions): Promise<boolean> {
  let isNew = false
  for (const name of ['data.mdb', 'lock.mdb']) {
    const file = join(path, name)
    const exists = await stat(file).then(
      () => true,
      () => false,
    )
    if (exists) continue
    isNew = true
    const handle = await openFile(file, 'a', mode).catch((cause: unknown) => {
      throw cannotOpen(path, cause)
    })
    await handle.chmod(mode)
    await handle.close()
  }
  return isNew
}
