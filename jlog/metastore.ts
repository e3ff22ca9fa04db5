/**
 * The metastore: which segment is being written, when a segment is full, the safety, and the magic of the records.
 *
 * Other processes, libjlog's among them, map it shared, so what is read here is what they wrote a moment ago, and
 * the other way round. Only the word that changes is written: a legacy metastore of 12 bytes stays one.
 */
import { join } from 'node:path'
import { JlogError } from './errors.js'
import { errnoOf, JournalFile, METASTORE_FILE_ERRORS } from './file.js'
import {
  decodeMetastore,
  METASTORE_BYTES,
  METASTORE_FILE,
  type Metastore,
  SAFETY,
} from './format.js'
import { refuseOtherByteOrder } from './settings.js'

const STORAGE_LOG_AT = 0
const UNIT_LIMIT_AT = 4
const SAFETY_AT = 8

/** @throws JlogError JLOG_ERR_META_OPEN when it is missing, too short, or holds what no metastore can */
export async function readMetastore(dir: string): Promise<Metastore> {
  const store = await MetastoreFile.open(dir, { write: false })
  try {
    return store.read()
  } finally {
    await store.close()
  }
}

/**
 * Says that `to` is now the segment being written, if it still is `from`; under the metastore's lock.
 * `prepare` runs under that lock, and only if it will be changed: the place to create the next segment.
 * @returns the segment that is being written afterwards, by whoever's doing
 */
export async function advanceStorageLog(
  dir: string,
  from: number,
  to: number,
  prepare?: () => Promise<void>,
): Promise<number> {
  const store = await MetastoreFile.open(dir)
  try {
    return await store.advance(from, to, prepare)
  } finally {
    await store.close()
  }
}

/** Changes settings of an existing journal, durably; writers and readers that have it open see them at once. */
export async function alterMetastore(
  dir: string,
  changes: Partial<Pick<Metastore, 'unitLimit' | 'safety'>>,
): Promise<Metastore> {
  const store = await MetastoreFile.open(dir)
  try {
    return await store.alter(changes)
  } finally {
    await store.close()
  }
}

/** An open metastore, for those who look at it again and again. */
export class MetastoreFile {
  readonly #file: JournalFile

  private constructor(file: JournalFile) {
    this.#file = file
  }

  /** @param options.write false: open for reading only; it can then not be changed */
  static async open(
    dir: string,
    options: { readonly write?: boolean } = {},
  ): Promise<MetastoreFile> {
    try {
      const file = await JournalFile.open(join(dir, METASTORE_FILE), {
        write: options.write ?? true,
        errors: METASTORE_FILE_ERRORS,
      })
      return new MetastoreFile(file)
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
      throw new JlogError(
        'JLOG_ERR_META_OPEN',
        'there is no journal here: the metastore is missing',
        {
          file: join(dir, METASTORE_FILE),
          advice: 'create the journal, or repair it if it has segments',
        },
      )
    }
  }

  /** Has the file been replaced by another, as a repair may do? Then this is the old one, and must be opened anew. */
  get stale(): boolean {
    return this.#file.stat().links === 0
  }

  /** As `stale`, also where the file is still there, under another name: with its whole journal, mostly. Costs more. */
  get moved(): boolean {
    return !this.#file.bearsItsName()
  }

  /** As it stands now. 16 bytes from the page cache, so it does not wait. */
  read(): Metastore {
    const bytes = this.#file.readNow(0, METASTORE_BYTES)
    const meta = decodeMetastore(bytes)
    // With a limit of 0, which libjlog takes, each segment would be full before its first record, and the next one made without end.
    if (meta !== null && meta.unitLimit > 0) return meta
    refuseOtherByteOrder(bytes, this.#file.path)
    throw new JlogError('JLOG_ERR_META_OPEN', 'the metastore is damaged', {
      file: this.#file.path,
      advice: 'repair the journal',
    })
  }

  /** See `advanceStorageLog`. Durable afterwards when the journal's safety is 2. */
  async advance(from: number, to: number, prepare?: () => Promise<void>): Promise<number> {
    return this.#file.withLock(async () => {
      const meta = this.read()
      if (meta.storageLog !== from) return meta.storageLog
      await prepare?.()
      await this.#writeWord(STORAGE_LOG_AT, to)
      if (meta.safety === SAFETY.safe) await this.#file.sync()
      return to
    })
  }

  /**
   * As `advance`, at once and not durably. False: somebody has the metastore's lock, nothing was done.
   * `prepare` runs as there.
   */
  advanceNow(from: number, to: number, prepare: () => void): boolean {
    if (!this.#file.tryLock()) return false
    try {
      if (this.read().storageLog !== from) return true
      prepare()
      this.#file.writeNow(wordOf(to), STORAGE_LOG_AT)
      return true
    } finally {
      this.#file.unlock()
    }
  }

  async alter(changes: Partial<Pick<Metastore, 'unitLimit' | 'safety'>>): Promise<Metastore> {
    const { unitLimit, safety } = changes
    if (unitLimit !== undefined) assertUnitLimit(unitLimit)
    if (safety !== undefined) assertSafety(safety)
    return this.#file.withLock(async () => {
      this.read()
      if (unitLimit !== undefined) await this.#writeWord(UNIT_LIMIT_AT, unitLimit)
      if (safety !== undefined) await this.#writeWord(SAFETY_AT, safety)
      await this.#file.sync()
      return this.read()
    })
  }

  async sync(): Promise<void> {
    await this.#file.sync()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async #writeWord(at: number, value: number): Promise<void> {
    await this.#file.write(wordOf(value), at)
  }
}

function wordOf(value: number): Buffer {
  const word = Buffer.allocUnsafe(4)
  word.writeUInt32LE(value, 0)
  return word
}

export function assertUnitLimit(unitLimit: number): void {
  if (Number.isInteger(unitLimit) && unitLimit >= 1 && unitLimit <= 0xffffffff) return
  throw new JlogError('JLOG_ERR_NOT_SUPPORTED', `not a segment size: ${String(unitLimit)}`, {
    advice: 'give a whole number of bytes from 1 to 4294967295',
  })
}

export function assertSafety(safety: number): void {
  if (safety === SAFETY.unsafe || safety === SAFETY.almostSafe || safety === SAFETY.safe) return
  throw new JlogError('JLOG_ERR_NOT_SUPPORTED', `not a safety: ${String(safety)}`, {
    advice: 'give 0 (unsafe), 1 (almost safe) or 2 (safe)',
  })
}
