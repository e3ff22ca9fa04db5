/**
 * Salvage: a file of LMDB with damaged pages is read page by page (pages.ts), never by LMDB, and every row
 * whose pages are undamaged goes into a new file, which takes the old one's place when it is whole; the
 * old one is kept beside it. Rows below a damaged branch are found by looking at each page that is neither
 * reached nor free, and told apart by their shape. What contradicts itself then is for repair to mend.
 */
import { link, mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MAX_LISTED } from './check-report.js'
import { type LongOptions, Pace } from './jobs.js'
import {
  freePages,
  LEAF,
  type LeafRow,
  leaves,
  type Page,
  PageFile,
  readTree,
  type Tree,
} from './pages.js'
import { databaseOf } from './row-shapes.js'
import { DATABASES, type DatabaseName } from './rows.js'
import { Store } from './store.js'

export interface SalvageReport {
  /** Where the damaged file is now. */
  readonly kept: string
  /** Pages of the file, and those found damaged: the first of their numbers. */
  readonly pages: number
  readonly damagedPages: number[]
  /** Rows that came back, by database. */
  readonly rows: Partial<Record<DatabaseName, number>>
  /** Rows that did not, by database, where the file still says how many there were. */
  readonly lost: Partial<Record<DatabaseName, number>>
  /** Keys, in hex, of lost rows whose keys are known: the first of them. */
  readonly lostKeys: { readonly db: string; readonly key: string }[]
}

/**
 * Numbers of pages that are damaged, as far as they can be told to be: the first of them. No file changes.
 * Without `contents` the pages that bodies lie in are not read.
 */
export async function damagedPages(
  path: string,
  { contents = true }: { contents?: boolean } = {},
): Promise<number[]> {
  const file = await PageFile.open(join(path, 'data.mdb'))
  try {
    if (file.isNew) return []
    const walk = new Walk(file, contents)
    for await (const _ of walk.rows()) {
      // The walk notes the damage.
    }
    await walk.readFree()
    const again = await PageFile.open(join(path, 'data.mdb'))
    await again.close()
    // Written to meanwhile: what was seen is nothing to go by.
    if (again.metas[0]?.transaction !== file.metas[0]?.transaction) return []
    return walk.damaged
  } finally {
    await file.close()
  }
}

/** For a spool at rest, by its owner. Throws SPOOL_ERR_OPEN, SPOOL_ERR_ABORTED, and what the disk throws. */
export async function salvage(
  path: string,
  mode: number,
  options: LongOptions = {},
): Promise<SalvageReport> {
  const damagedFile = join(path, 'data.mdb')
  const making = join(path, '.salvage.partial')
  await rm(making, { recursive: true, force: true })
  await mkdir(making)
  const file = await PageFile.open(damagedFile)
  try {
    const target = await Store.open({
      path: making,
      readOnly: false,
      mode,
      mapSize: undefined,
      anyFormat: true,
    })
    let report: Omit<SalvageReport, 'kept'>
    try {
      report = await copyRows(file, target, new Pace(options))
    } finally {
      await target.close()
    }
    const kept = await keepBeside(damagedFile)
    await rename(join(making, 'data.mdb'), damagedFile)
    await rm(join(path, 'lock.mdb'), { force: true })
    await sync(path)
    return { kept, ...report }
  } finally {
    await file.close()
    await rm(making, { recursive: true, force: true })
  }
}

async function copyRows(
  file: PageFile,
  target: Store,
  pace: Pace,
): Promise<Omit<SalvageReport, 'kept'>> {
  const walk = new Walk(file)
  const writer = new RowWriter(target)
  const lostKeys: { db: string; key: string }[] = []
  const lose = (db: string, key: Buffer) => {
    if (lostKeys.length < MAX_LISTED) lostKeys.push({ db, key: key.toString('hex') })
  }
  pace.begin('pages', file.pages)
  for await (const { db, row } of walk.rows()) {
    await pace.step()
    if (row.value === null) lose(db, row.key)
    else await writer.put(db, row.key, row.value)
  }
  const isCut = walk.damaged.some((number) => number > 0)
  await walk.readFree()
  // With the trees whole there is nothing to look for but what a commit after them wrote, whose meta page
  // is lost: a page that is free by a list that is damaged holds what was removed.
  if (isCut || file.metas.length < 2) {
    pace.begin('unreached pages', file.pages)
    const after = isCut ? -1 : walk.transaction
    for (const number of await unreached(walk, after, pace)) {
      const page = await file.page(number)
      if (page === undefined) continue
      const { rows } = await file.rows(page, walk.claimOverflow)
      const db = databaseOf(rows)
      if (db === undefined) continue
      for (const { key, value } of rows) {
        if (value === null) lose(db, key)
        else if (page.transaction > walk.transaction) await writer.put(db, key, value)
        else await writer.putIfAbsent(db, key, value)
      }
    }
  }
  await writer.flush()
  const lost: Partial<Record<DatabaseName, number>> = {}
  for (const [db, { entries }] of walk.trees) {
    const missing = entries - (writer.counts[db] ?? 0)
    if (missing > 0) lost[db] = missing
  }
  return {
    pages: file.pages,
    damagedPages: walk.damaged.slice(0, MAX_LISTED),
    rows: writer.counts,
    lost,
    lostKeys,
  }
}

/** What the newest meta page leads to, and which pages that takes. */
class Walk {
  readonly file: PageFile
  readonly damaged: number[] = []
  readonly trees = new Map<DatabaseName, Tree>()
  readonly #contents: boolean
  readonly #reached: Uint8Array
  readonly #free: Uint8Array

  /** Without `contents` the long values of `chunks` come empty. */
  constructor(file: PageFile, contents = true) {
    this.file = file
    this.#contents = contents
    this.#reached = new Uint8Array(Math.ceil(file.pages / 8) + 1)
    this.#free = new Uint8Array(this.#reached.length)
    // Which of the two is not known; page 0 stands for either.
    if (file.metas.length < 2) this.damaged.push(0)
  }

  /** The commit that is walked; -1 when no meta page can be read. */
  get transaction(): number {
    return this.file.metas[0]?.transaction ?? -1
  }

  async *rows(): AsyncGenerator<{ db: DatabaseName; row: LeafRow }, void, void> {
    const meta = this.file.metas[0]
    if (meta === undefined) return
    for await (const { row } of this.#rowsOf(meta.main.root)) {
      // Names end in a NUL.
      const db = DATABASES.find((name) => `${name}\0` === row.key.toString('latin1'))
      const tree = row.isTree && row.value !== null ? readTree(row.value) : undefined
      if (db !== undefined && tree !== undefined) this.trees.set(db, tree)
    }
    for (const [db, { root }] of this.trees) {
      const readsValues = this.#contents || db !== 'chunks'
      for await (const { row } of this.#rowsOf(root, readsValues)) yield { db, row }
    }
    // An older spool has fewer of them, and says how many.
    if (this.trees.size < Math.min(DATABASES.length, meta.main.entries)) {
      this.#damage(meta.main.root)
    }
  }

  /** Which pages the newest commit says are free; after `rows`. */
  async readFree(): Promise<void> {
    const meta = this.file.metas[0]
    if (meta === undefined) return
    for await (const { row } of this.#rowsOf(meta.free.root)) {
      for (const number of freePages(row.value, this.file.pages)) {
        if (number >= this.file.pages) continue
        if (isSet(this.#reached, number)) this.#damage(number)
        set(this.#free, number)
      }
    }
  }

  isUnreached(number: number, transaction: number): boolean {
    if (isSet(this.#reached, number)) return false
    // A page that was free is not any more when a later commit wrote to it, whose meta page is lost.
    return !isSet(this.#free, number) || transaction > this.transaction
  }

  claimOverflow = (number: number, count: number): boolean => {
    for (let i = number; i < number + count; i++) if (isSet(this.#reached, i)) return false
    for (let i = number; i < number + count; i++) set(this.#reached, i)
    return true
  }

  async *#rowsOf(root: number, readsValues = true): AsyncGenerator<{ row: LeafRow }, void, void> {
    const visit = (number: number) => {
      if (isSet(this.#reached, number)) return false
      set(this.#reached, number)
      return true
    }
    const pages = leaves(this.file, root, visit, (number) => this.#damage(number))
    for await (const page of pages) {
      const { rows, isWhole } = await this.file.rows(page, this.claimOverflow, readsValues)
      if (!isWhole) this.#damage(page.number)
      for (const row of rows) {
        if (row.value === null) this.#damage(page.number)
        yield { row }
      }
    }
  }

  #damage(number: number): void {
    if (this.damaged.length < 100_000 && this.damaged.at(-1) !== number) this.damaged.push(number)
  }
}

/** Leaves of a commit after `after` that hold rows and are not reached, newest first. */
async function unreached(walk: Walk, after: number, pace: Pace): Promise<number[]> {
  const found: { number: number; transaction: number }[] = []
  // With both meta pages there is nothing newer: such pages are of a commit that never was.
  const newest = walk.file.metas.length === 2 ? walk.transaction : Number.POSITIVE_INFINITY
  for (let number = 2; number < walk.file.pages; number++) {
    await pace.step()
    if (!walk.isUnreached(number, Number.POSITIVE_INFINITY)) continue
    const page: Page | undefined = await walk.file.page(number)
    if (page === undefined || page.flags !== LEAF) continue
    if (page.transaction <= after || page.transaction > newest) continue
    if (!walk.isUnreached(number, page.transaction)) continue
    found.push({ number, transaction: page.transaction })
  }
  return found.sort((a, b) => b.transaction - a.transaction).map(({ number }) => number)
}

const BATCH_BYTES = 4 * 1024 * 1024

/** Writes rows in batches; the first value of a key stands. */
class RowWriter {
  readonly counts: Partial<Record<DatabaseName, number>> = {}
  readonly #target: Store
  #rows: { db: DatabaseName; key: Buffer; value: Buffer }[] = []
  #bytes = 0

  constructor(target: Store) {
    this.#target = target
  }

  async put(db: DatabaseName, key: Buffer, value: Buffer): Promise<void> {
    this.counts[db] = (this.counts[db] ?? 0) + 1
    this.#rows.push({ db, key: Buffer.from(key), value: Buffer.from(value) })
    this.#bytes += key.length + value.length + 64
    if (this.#bytes >= BATCH_BYTES) await this.flush()
  }

  async putIfAbsent(db: DatabaseName, key: Buffer, value: Buffer): Promise<void> {
    const isWaiting = this.#rows.some((row) => row.db === db && row.key.equals(key))
    if (isWaiting || this.#target.db(db).get(Buffer.from(key)) !== undefined) return
    await this.put(db, key, value)
    // So that few wait, and are found.
    if (this.#rows.length >= 64) await this.flush()
  }

  async flush(): Promise<void> {
    const rows = this.#rows
    this.#rows = []
    this.#bytes = 0
    if (rows.length === 0) return
    await this.#target.write(() => {
      for (const { db, key, value } of rows) void this.#target.db(db).put(key, value)
    })
  }
}

/** A second name for the damaged file, which then loses its first. */
async function keepBeside(file: string): Promise<string> {
  for (let n = 1; ; n++) {
    const kept = `${file}.damaged-${n}`
    try {
      await link(file, kept)
      return kept
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}

async function sync(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function isSet(bits: Uint8Array, n: number): boolean {
  return ((bits[n >> 3] as number) & (1 << (n & 7))) !== 0
}

function set(bits: Uint8Array, n: number): void {
  bits[n >> 3] = (bits[n >> 3] as number) | (1 << (n & 7))
}
