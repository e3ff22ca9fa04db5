/** What keeps a spool well: check and repair, and quarantine for what cannot be read. */
import { createHash } from 'node:crypto'
import { type BackupReport, backupStore } from './backup.js'
import { type CheckOptions, type CheckReport, checkStore } from './check.js'
import { type CompactReport, compactStore } from './compact.js'
import { invalid, SpoolError } from './errors.js'
import { type LongOptions, throwIfAborted } from './jobs.js'
import { Mender, type MendParts } from './mend.js'
import type { NewMessage } from './message.js'
import { parseId } from './message-id.js'
import type { Quarantine } from './quarantine.js'
import { type RepairOptions, type RepairReport, repairStore } from './repair.js'
import { type SpoolSpace, spoolSpace } from './space.js'

const EMPTY = Buffer.alloc(0)

export interface UpkeepParts extends MendParts {
  /** A message that cannot be read stays where it is. */
  readonly leaveUnreadable: boolean
  /** Resolves when the message is in the store, if it is anywhere. */
  readonly spooled: (id: string) => Promise<unknown>
  /** Stores a message anew. */
  readonly restore: (message: NewMessage, body: AsyncIterable<Uint8Array>) => Promise<string>
}

export interface ReleaseOptions {
  /** The envelope, where the quarantined meta cannot be read; or another than it has. */
  readonly mailfrom?: string | undefined
  readonly rcptto?: string | undefined
  /** Release what is not whole, too. */
  readonly force?: boolean | undefined
}

export class Upkeep {
  readonly #parts: UpkeepParts
  /** Messages on their way into quarantine. */
  readonly #taking = new Map<string, Promise<boolean>>()

  constructor(parts: UpkeepParts) {
    this.#parts = parts
  }

  get quarantine(): Quarantine {
    return this.#parts.quarantine
  }

  /** One consistent look at the spool beside whatever goes on. Throws SPOOL_ERR_ABORTED. */
  check(options: CheckOptions = {}): Promise<CheckReport> {
    return checkStore(this.#parts.store, options)
  }

  /** Mends what can be mended while the spool is used. Throws SPOOL_ERR_ABORTED, and what a write throws. */
  async repair(options: RepairOptions = {}): Promise<RepairReport> {
    throwIfAborted(options.signal)
    const { leaveUnreadable } = this.#parts
    return repairStore(this.#parts, { leaveUnreadable, ...options })
  }

  /** Room on the file system of the spool. */
  space(): Promise<SpoolSpace> {
    return spoolSpace(this.#parts.store.path)
  }

  /** Copies the spool as of now, quarantine included, into a new directory. Throws SPOOL_ERR_INVALID. */
  backup(directory: string): Promise<BackupReport> {
    return backupStore(this.#parts.store, directory, this.quarantine.directory)
  }

  /**
   * Makes the file as small as it can be; what is to be written waits meanwhile, reads go on.
   * Throws SPOOL_ERR_BUSY when contents are being read at its end, SPOOL_ERR_FULL without room for the copy.
   */
  compact(options: LongOptions = {}): Promise<CompactReport> {
    return compactStore(this.#parts.store, this.#parts.committer, options)
  }

  /** Moves a message into quarantine. Throws SPOOL_ERR_NOT_FOUND. */
  async take(id: string, reason: string): Promise<void> {
    const key = parseId(id)
    let taking = this.#taking.get(id)
    if (taking === undefined) {
      taking = this.#take(key, id, reason).finally(() => this.#taking.delete(id))
      this.#taking.set(id, taking)
    }
    if (!(await taking)) {
      throw new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
    }
  }

  /** As it is by now, also when that was not forced. */
  async #take(key: Buffer, id: string, reason: string): Promise<boolean> {
    await this.#parts.spooled(id)
    await this.#parts.metas.sync()
    return new Mender(this.#parts).takeMessage(key, reason)
  }

  /**
   * Stores a quarantined message anew, under a new id and due at once, then deletes the entry. Killed in
   * between, it leaves both: a message may come twice, but is never lost.
   * Throws SPOOL_ERR_NOT_FOUND; SPOOL_ERR_INVALID for what is no message, or not whole, unless forced.
   */
  async release(name: string, options: ReleaseOptions = {}): Promise<string> {
    const { quarantine, restore } = this.#parts
    const { kind, meta, bodyBytes } = await quarantine.show(name)
    if (kind === 'row') throw invalid('name', 'a row is no message')
    const mailfrom = options.mailfrom ?? meta?.mailfrom
    const rcptto = options.rcptto ?? meta?.rcptto
    if (mailfrom === undefined || rcptto === undefined) {
      const field = mailfrom === undefined ? 'mailfrom' : 'rcptto'
      throw invalid(field, 'not known of this entry: give the envelope')
    }
    if (options.force !== true && !(await this.#isWhole(name))) {
      throw invalid('name', 'its content is not whole, or not known to be: look at it, then force')
    }
    const body = bodyBytes === null ? none() : await quarantine.content(name)
    const id = await restore(
      {
        mailfrom,
        rcptto: [rcptto],
        body: EMPTY,
        ...(meta === null
          ? {}
          : {
              context: meta.context,
              batchId: meta.batchId,
              connectionId: meta.connectionId,
              protocol: meta.protocol,
              bindingGroup: meta.bindingGroup,
              binding: meta.binding,
              peer: meta.peer,
              ...(meta.retention === null ? {} : { retention: meta.retention }),
            }),
      },
      body,
    )
    await quarantine.purge(name)
    return id
  }

  /** Whether the content is what the meta says. */
  async #isWhole(name: string): Promise<boolean> {
    const { quarantine } = this.#parts
    const { meta, bodyBytes } = await quarantine.show(name)
    if (meta === null || meta.sha256 === null || meta.size !== (bodyBytes ?? 0)) return false
    const hashing = createHash('sha256')
    if (bodyBytes !== null)
      for await (const bytes of await quarantine.content(name)) hashing.update(bytes)
    return hashing.digest('hex') === meta.sha256
  }

  /** A read has failed with this: what does not contradict itself is left alone. */
  unreadable(id: string, error: unknown): void {
    const isCorrupt = error instanceof SpoolError && error.code === 'SPOOL_ERR_CORRUPT'
    if (!isCorrupt || this.#parts.leaveUnreadable || this.#parts.store.readOnly) return
    // It stays where it is when this fails, and the next reader meets it again.
    this.take(id, error.message).catch(() => undefined)
  }

  /** Resolves when nothing is on its way into quarantine. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#taking.values())
  }
}

async function* none(): AsyncGenerator<Uint8Array, void, void> {}
