/**
 * Another Bobbin spool, at rest: the import owns it meanwhile, so that nobody delivers from it. Messages keep
 * what they had: times, retries, dictionaries, and which of them share a body. One that is leased is due
 * when its lease ends; one that only waits for its lease to be removed is left alone. Contents are held
 * against their hashes. What is in its quarantine and in its outbox stays there.
 */
import { createHash } from 'node:crypto'
import { Changes } from '../changes.js'
import { Core } from '../core.js'
import { SpoolError } from '../errors.js'
import { decodeMeta, isDropped, type MessageRecord, unpairs } from '../layout.js'
import { formatId, ID_BYTES } from '../message-id.js'
import { DEFAULT_MODE } from '../options.js'
import { type Ownership, own, ownToRead } from '../owner.js'
import { damagedPages } from '../salvage.js'
import { Store } from '../store.js'
import { openFormer, pageOf, type SpoolReader } from './former-spool.js'
import {
  type Source,
  type SourceContent,
  SourceError,
  SourceGone,
  type SourceMessage,
} from './source.js'

const PAGE = 200

export class SpoolSource implements Source {
  readonly format = 'spool'
  readonly base: string
  readonly removesEach = true
  readonly #reader: SpoolReader
  readonly #owner: Ownership

  /**
   * `remove`: its messages are to be taken out. Throws SPOOL_ERR_OWNED with the pid of a service that has it,
   * SPOOL_ERR_OPEN, SPOOL_ERR_CORRUPT for a file with damaged pages.
   */
  static async open(base: string, { remove }: { remove: boolean }): Promise<SpoolSource> {
    await Store.mustExist(base)
    const owner = await (remove ? own(base, DEFAULT_MODE) : ownToRead(base))
    try {
      // LMDB may end the process over such a page.
      if ((await damagedPages(base)).length > 0) throw damaged(base)
      const former = openFormer(base)
      if (former !== null && remove) {
        await former.close()
        throw new SpoolError(
          'SPOOL_ERR_INVALID',
          'remove: a spool of a former format is only read',
          {
            field: 'remove',
            file: base,
            advice: 'import it without removing, then move it away',
          },
        )
      }
      return new SpoolSource(base, former ?? (await openCurrent(base, remove)), owner)
    } catch (error) {
      await owner.release()
      throw error
    }
  }

  private constructor(base: string, reader: SpoolReader, owner: Ownership) {
    this.base = base
    this.#reader = reader
    this.#owner = owner
  }

  async count(): Promise<number> {
    return this.#reader.count()
  }

  async *messages(): AsyncGenerator<SourceMessage, void, void> {
    let after: Buffer | null = null
    for (;;) {
      const page = this.#reader.page(after, PAGE)
      for (const { key, value } of page) {
        after = key
        if (this.#waitsForRemoval(key, value)) continue
        const id = key.length === ID_BYTES ? formatId(key) : key.toString('hex')
        yield {
          key: id,
          originalId: id,
          open: async () => this.#open(key),
          remove: () => this.#remove(id),
        }
      }
      if (page.length < PAGE) return
    }
  }

  async settle(): Promise<void> {}

  async finish(): Promise<string | null> {
    return null
  }

  async close(): Promise<void> {
    await this.#reader.close()
    await this.#owner.release()
  }

  #waitsForRemoval(key: Buffer, value: Buffer): boolean {
    try {
      return this.#reader.decode(key, value).lease?.unlink === true
    } catch {
      return false // told when it is opened
    }
  }

  #open(key: Buffer): SourceContent {
    const value = this.#reader.get(key)
    if (value === undefined) throw new SourceGone(key.toString('hex'))
    let record: MessageRecord
    try {
      record = this.#reader.decode(key, value)
    } catch (cause) {
      throw new SourceError(2, (cause as Error).message, { cause })
    }
    const { lease, conn, mess, nextAttempt } = record
    const dueAfterLease = lease === null ? nextAttempt : Math.max(nextAttempt ?? 0, lease.until)
    return {
      meta: {
        ...record,
        id: formatId(key),
        rcptto: [record.rcptto],
        nextAttempt: nextAttempt === null ? null : dueAfterLease,
        context: { conn: unpairs(conn), mess: unpairs(mess) },
      },
      body: isDropped(record) ? null : this.#body(record),
      // Who says it is something else does not share it.
      sharedAs: isDropped(record) ? undefined : nameOf(record),
      close: async () => undefined,
    }
  }

  async *#body(record: MessageRecord): AsyncGenerator<Uint8Array, void, void> {
    const hash = createHash('sha256')
    try {
      for await (const piece of this.#reader.read(record)) {
        hash.update(piece)
        yield piece
      }
    } catch (cause) {
      throw new SourceError(3, (cause as Error).message, { cause })
    }
    if (!hash.digest().equals(record.sha256)) {
      throw new SourceError(3, 'its content is not what its hash says')
    }
  }

  async #remove(id: string): Promise<boolean> {
    try {
      await this.#reader.remove(id)
      return true
    } catch (error) {
      if (!(error instanceof SpoolError && error.code === 'SPOOL_ERR_NOT_FOUND')) throw error
      return false
    }
  }
}

async function openCurrent(base: string, remove: boolean): Promise<SpoolReader> {
  const store = await Store.open({
    path: base,
    readOnly: !remove,
    mode: DEFAULT_MODE,
    mapSize: undefined,
  })
  let core: Core
  try {
    core = new Core({
      store,
      options: { path: base },
      sweep: false,
      // What cannot be read stays where it is.
      onUnreadable: () => undefined,
    })
  } catch (error) {
    await store.close()
    throw error
  }
  const changes = new Changes(core)
  return {
    remove: (id) => changes.remove(id),
    count: () => store.count('messages'),
    page: (after, limit) => pageOf(store.db('messages'), after, limit),
    get: (key) => store.db('messages').get(key),
    decode: decodeMeta,
    read: (record) => core.bodies.read(record, { start: 0, end: record.size }).stream,
    close: async () => {
      await core.close()
      await store.close()
    },
  }
}

function nameOf({ body, sha256 }: MessageRecord): string {
  return Buffer.concat([body, sha256]).toString('base64')
}

function damaged(file: string): SpoolError {
  return new SpoolError('SPOOL_ERR_CORRUPT', 'pages of the spool are damaged', {
    file,
    advice: 'run bobbin spool repair on it first',
  })
}
