/**
 * Changing the byte order of a journal, for one that came from a host of the other kind (jlog_change_endian). The source is only read.
 * The new journal is written whole and synced under a name of its own, then renamed into place; in place, the old one stays beside it as a copy.
 * A crash leaves the old journal, whole, under its name or under the copy's.
 */
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type ByteOrder, metastoreIn, otherOrder, swapWords, walkHeaders } from './byte-order.js'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile, syncDirectory, writeFileDurably } from './file.js'
import {
  CHECKPOINT_BYTES,
  headerBytes,
  INDEX_ENTRY_BYTES,
  indexFile,
  METASTORE_FILE,
  type Metastore,
  PRE_COMMIT_FILE,
  PRE_COMMIT_HEADER_BYTES,
  parseSegmentFile,
  segmentFile,
} from './format.js'
import { type JournalListing, listJournal } from './journal-directory.js'
import { MAX_PRE_COMMIT_BYTES } from './pre-commit.js'
import { isKnownMagic } from './settings.js'

export interface EndianOptions {
  /** The byte order wanted. */
  readonly to: ByteOrder
  /** Directory to make; it must not be there. Default: in place, the old journal kept beside the new one. */
  readonly destination?: string
}

export interface EndianReport {
  /** The converted journal. */
  readonly directory: string
  /** Where the journal as it was is now; the source itself unless it was done in place. */
  readonly original: string
  readonly segments: number
  readonly records: number
  /** Indexes that did not fit their segment and were left out (readers make them anew), files that belong to no journal. */
  readonly leftOut: readonly string[]
}

/**
 * Nobody may use the journal meanwhile.
 * @throws JlogError JLOG_ERR_CREATE_EXISTS (destination), JLOG_ERR_META_OPEN (no metastore, or not in the other order),
 * JLOG_ERR_FILE_CORRUPT (repair it first), JLOG_ERR_CHECKPOINT (a checkpoint of a wrong size); nothing is left of the new journal then
 */
export async function changeEndian(source: string, options: EndianOptions): Promise<EndianReport> {
  const from = otherOrder(options.to)
  const dir = resolve(source)
  const target = resolve(options.destination ?? source)
  const inPlace = target === dir
  if (!inPlace && (await exists(target))) throw taken(target)
  const listing = await listJournal(dir)
  const meta = await readMetastoreIn(dir, from)
  const fresh = join(dirname(target), `.${basename(target)}.endian-${process.pid}`)
  try {
    await mkdir(fresh, { mode: (await stat(dir)).mode & 0o777 })
  } catch (cause) {
    throw new JlogError('JLOG_ERR_CREATE_MKDIR', 'cannot make the directory', {
      file: fresh,
      cause,
    })
  }
  try {
    const conversion = new Conversion(dir, fresh, from, meta)
    const done = await conversion.run(listing)
    await syncDirectory(fresh)
    const original = inPlace ? await freeName(`${dir}.${from}-endian`) : dir
    if (inPlace) await rename(dir, original)
    await rename(fresh, target)
    await syncDirectory(dirname(target))
    return { directory: target, original, ...done }
  } catch (error) {
    await rm(fresh, { recursive: true, force: true })
    if (error instanceof JlogError) throw error
    throw new JlogError('JLOG_ERR_FILE_WRITE', 'cannot write the converted journal', {
      file: target,
      cause: error,
    })
  }
}

class Conversion {
  readonly #dir: string
  readonly #fresh: string
  readonly #from: ByteOrder
  readonly #meta: Metastore
  readonly #leftOut: string[] = []
  #records = 0

  constructor(dir: string, fresh: string, from: ByteOrder, meta: Metastore) {
    this.#dir = dir
    this.#fresh = fresh
    this.#from = from
    this.#meta = meta
  }

  async run({ names, segments, checkpoints }: JournalListing) {
    await this.#words(METASTORE_FILE, (size) => size === 16 || size === 12, 'JLOG_ERR_META_OPEN')
    for (const name of checkpoints) {
      await this.#words(name, (size) => size === CHECKPOINT_BYTES, 'JLOG_ERR_CHECKPOINT')
    }
    for (const log of segments) await this.#segment(log, names.includes(indexFile(log)))
    if (names.includes(PRE_COMMIT_FILE)) await this.#preCommit()
    for (const name of names)
      if (!this.#known(name, segments, checkpoints)) this.#leftOut.push(name)
    return { segments: segments.length, records: this.#records, leftOut: this.#leftOut.sort() }
  }

  #known(name: string, segments: readonly number[], checkpoints: readonly string[]): boolean {
    if (name === METASTORE_FILE || name === PRE_COMMIT_FILE || checkpoints.includes(name))
      return true
    const log = parseSegmentFile(name.slice(0, 8))
    return log !== null && segments.includes(log) && (name.length === 8 || name.slice(8) === '.idx')
  }

  /** A small file of nothing but words. */
  async #words(
    name: string,
    sizeFits: (size: number) => boolean,
    code: 'JLOG_ERR_META_OPEN' | 'JLOG_ERR_CHECKPOINT',
  ): Promise<void> {
    const file = await JournalFile.open(join(this.#dir, name))
    try {
      const bytes = await file.read(0, file.size())
      if (!sizeFits(bytes.length)) {
        throw new JlogError(code, `a file of ${bytes.length} bytes has the wrong size`, {
          file: file.path,
          advice: 'repair the journal first, on a host of its own byte order',
        })
      }
      swapWords(bytes, 0, bytes.length)
      const { mode } = await stat(file.path)
      await writeFileDurably(join(this.#fresh, name), bytes, {
        mode: mode & 0o777,
        exclusive: true,
      })
    } finally {
      await file.close()
    }
  }

  async #segment(log: number, indexed: boolean): Promise<void> {
    const source = await JournalFile.open(join(this.#dir, segmentFile(log)))
    const mode = (await stat(source.path)).mode & 0o777
    const target = await JournalFile.open(join(this.#fresh, segmentFile(log)), {
      create: mode,
      exclusive: true,
    })
    const index = indexed
      ? await IndexConversion.open(this.#dir, this.#fresh, log, this.#from, mode)
      : null
    try {
      const size = source.size()
      const header = headerBytes(this.#meta.hdrMagic)
      const ends = await walkHeaders(
        source,
        size,
        this.#meta.hdrMagic,
        this.#from,
        ({ magic }) => magic === this.#meta.hdrMagic,
        async (bytes, at, headers) => {
          for (const place of headers) swapWords(bytes, place, place + header)
          this.#records += headers.length
          await index?.check(headers.map((place) => at + place))
          await target.write(bytes, at)
        },
      )
      if (ends !== size) {
        throw new JlogError(
          'JLOG_ERR_FILE_CORRUPT',
          `no record of a ${this.#from}-endian journal stands here`,
          {
            file: source.path,
            segment: log,
            offset: ends,
            advice: 'see whether the byte order is the other one; otherwise repair it first',
          },
        )
      }
      await target.sync()
      if (index !== null && !(await index.finish())) this.#leftOut.push(indexFile(log))
    } finally {
      await source.close()
      await target.close()
      await index?.close()
    }
  }

  /** A count of bytes, then that many bytes of whole records; the rest of the buffer means nothing. */
  async #preCommit(): Promise<void> {
    const source = await JournalFile.open(join(this.#dir, PRE_COMMIT_FILE))
    try {
      if (source.size() > PRE_COMMIT_HEADER_BYTES + MAX_PRE_COMMIT_BYTES) {
        throw new JlogError(
          'JLOG_ERR_PRE_COMMIT_OPEN',
          `a buffer of ${source.size()} bytes cannot be used`,
          {
            file: source.path,
            advice: 'repair the journal first, on a host of its own byte order',
          },
        )
      }
      const bytes = await source.read(0, source.size())
      if (bytes.length < PRE_COMMIT_HEADER_BYTES) {
        this.#leftOut.push(PRE_COMMIT_FILE)
        return
      }
      const turned = Buffer.from(bytes)
      swapWords(turned, 0, PRE_COMMIT_HEADER_BYTES)
      const counted = (this.#from === 'little' ? bytes : turned).readUInt32LE(0)
      const end = PRE_COMMIT_HEADER_BYTES + counted
      const header = headerBytes(this.#meta.hdrMagic)
      const pending = bytes.subarray(PRE_COMMIT_HEADER_BYTES, end)
      const reader = { readAt: async (into: Uint8Array, at: number) => pending.copy(into, 0, at) }
      const ends = await walkHeaders(
        reader,
        pending.length,
        this.#meta.hdrMagic,
        this.#from,
        ({ offset }) => {
          const at = PRE_COMMIT_HEADER_BYTES + offset
          swapWords(turned, at, at + header)
          return true
        },
      )
      if (ends !== counted) {
        throw new JlogError('JLOG_ERR_PRE_COMMIT_OPEN', 'the records that wait in it are damaged', {
          file: source.path,
          offset: PRE_COMMIT_HEADER_BYTES + ends,
          advice: 'repair the journal first, on a host of its own byte order',
        })
      }
      const { mode } = await stat(source.path)
      await writeFileDurably(join(this.#fresh, PRE_COMMIT_FILE), turned, {
        mode: mode & 0o777,
        exclusive: true,
      })
    } finally {
      await source.close()
    }
  }
}

/** An index, compared with the records while it is turned round. One that does not fit is left out: it is made anew when read. */
class IndexConversion {
  readonly #source: JournalFile
  readonly #target: JournalFile
  readonly #from: ByteOrder
  #position = 0
  #fits = true

  private constructor(source: JournalFile, target: JournalFile, from: ByteOrder) {
    this.#source = source
    this.#target = target
    this.#from = from
  }

  static async open(dir: string, fresh: string, log: number, from: ByteOrder, mode: number) {
    const source = await JournalFile.open(join(dir, indexFile(log)))
    const target = await JournalFile.open(join(fresh, indexFile(log)), {
      create: mode,
      exclusive: true,
    })
    return new IndexConversion(source, target, from)
  }

  async check(offsets: readonly number[]): Promise<void> {
    const there = await this.#source.read(this.#position, offsets.length * INDEX_ENTRY_BYTES)
    const entries = Math.floor(there.length / INDEX_ENTRY_BYTES)
    for (let i = 0; i < entries; i++) {
      const at = i * INDEX_ENTRY_BYTES
      const entry = this.#from === 'little' ? there.readBigUInt64LE(at) : there.readBigUInt64BE(at)
      if (entry !== BigInt(offsets[i]!)) this.#fits = false
    }
    await this.#write(there)
  }

  /** What is left must be the closing entry, or nothing. @returns false when the index does not fit and is gone */
  async finish(): Promise<boolean> {
    const rest = await this.#source.read(this.#position, INDEX_ENTRY_BYTES + 1)
    if (rest.length > 0 && !rest.equals(Buffer.alloc(INDEX_ENTRY_BYTES))) this.#fits = false
    await this.#write(rest)
    if (this.#fits) {
      await this.#target.sync()
      return true
    }
    await rm(this.#target.path)
    return false
  }

  async close(): Promise<void> {
    await this.#source.close()
    await this.#target.close()
  }

  async #write(entries: Buffer): Promise<void> {
    if (entries.length % INDEX_ENTRY_BYTES !== 0) this.#fits = false
    if (!this.#fits || entries.length === 0) return
    await this.#target.write(Buffer.from(entries).swap64(), this.#position)
    this.#position += entries.length
  }
}

async function readMetastoreIn(dir: string, order: ByteOrder): Promise<Metastore> {
  const path = join(dir, METASTORE_FILE)
  let file: JournalFile
  try {
    file = await JournalFile.open(path)
  } catch (cause) {
    throw new JlogError('JLOG_ERR_META_OPEN', 'cannot read the metastore', { file: path, cause })
  }
  try {
    const meta = metastoreIn(await file.read(0, file.size()), order)
    if (meta !== null && isKnownMagic(meta.hdrMagic)) return meta
    throw new JlogError(
      'JLOG_ERR_META_OPEN',
      `this is not the metastore of a ${order}-endian journal`,
      {
        file: path,
        advice: 'see whether the journal has the wanted byte order already',
      },
    )
  } finally {
    await file.close()
  }
}

async function freeName(wanted: string): Promise<string> {
  for (let n = 0; ; n++) {
    const name = n === 0 ? wanted : `${wanted}-${n}`
    if (!(await exists(name))) return name
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error) => {
      if (errnoOf(error) === 'ENOENT') return false
      throw error
    },
  )
}

function taken(path: string): JlogError {
  return new JlogError('JLOG_ERR_CREATE_EXISTS', 'there is something of that name already', {
    file: path,
  })
}
