/** What keeps a spool well: check and repair, and quarantine for what cannot be read. */
import { type CheckOptions, type CheckReport, checkStore } from './check.js'
import { SpoolError } from './errors.js'
import { throwIfAborted } from './jobs.js'
import { Mender, type MendParts } from './mend.js'
import { parseId } from './message-id.js'
import type { Quarantine } from './quarantine.js'
import { type RepairOptions, type RepairReport, repairStore } from './repair.js'

export interface UpkeepParts extends MendParts {
  /** A message that cannot be read stays where it is. */
  readonly leaveUnreadable: boolean
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

  /** Moves a message into quarantine. Throws SPOOL_ERR_NOT_FOUND. */
  async take(id: string, reason: string): Promise<void> {
    const key = parseId(id)
    let taking = this.#taking.get(id)
    if (taking === undefined) {
      taking = new Mender(this.#parts)
        .takeMessage(key, reason)
        .finally(() => this.#taking.delete(id))
      this.#taking.set(id, taking)
    }
    if (!(await taking)) {
      throw new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id}`, { id })
    }
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
