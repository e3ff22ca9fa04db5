/** What stands between a stored message and its end: lanes, leases, dispositions, retention. */
import type { Bodies } from './bodies.js'
import { Clock } from './clock.js'
import type { Committer, Transaction } from './committer.js'
import { Dispositions } from './dispositions.js'
import { invalid } from './errors.js'
import type { EventOptions } from './events.js'
import { Expiry } from './expiry.js'
import { Lanes } from './lanes.js'
import { Leases } from './leases.js'
import type { IdGenerator } from './message-id.js'
import type { MetaWrites } from './meta-writes.js'
import type { RowStore } from './rows.js'
import { checkSchedule, DEFAULT_SCHEDULE, type RetrySchedule } from './schedule.js'
import { isCount } from './validate.js'

export interface DeliveryOptions {
  /** When a message is tried again; `DEFAULT_SCHEDULE` when not given. */
  retry?: RetrySchedule | undefined
  /** Seconds a message may stay that has no retention of its own; for ever when not given. */
  maxRetention?: number | undefined
}

export interface DeliveryParts {
  readonly store: RowStore
  readonly committer: () => Committer
  readonly ids: IdGenerator
  readonly metas: MetaWrites
  readonly bodies: () => Bodies
  readonly events: EventOptions | undefined
}

export class Delivery {
  readonly leases: Leases
  readonly dispositions: Dispositions
  readonly lanes: Lanes
  readonly #expiry: Expiry

  /** Throws SPOOL_ERR_INVALID for a setting. */
  constructor(parts: DeliveryParts, { retry, maxRetention }: DeliveryOptions) {
    if (maxRetention !== undefined && !isCount(maxRetention)) {
      throw invalid('maxRetention', 'not a number of seconds')
    }
    const schedule = checkSchedule(retry ?? DEFAULT_SCHEDULE)
    // The last id given out says how late it had been before a restart.
    const clock = new Clock(parts.ids.last.readUIntBE(0, 6))
    this.lanes = new Lanes(parts.store, parts.committer)
    this.leases = new Leases({ ...parts, lanes: this.lanes, clock })
    this.dispositions = new Dispositions({ ...parts, leases: this.leases, clock, schedule })
    this.#expiry = new Expiry({
      ...parts,
      dispositions: this.dispositions,
      clock,
      maxRetention: maxRetention ?? null,
    })
  }

  start(): void {
    this.leases.start()
    this.#expiry.start()
  }

  async stop(): Promise<void> {
    this.leases.stop()
    await this.#expiry.stop()
  }

  /** Removes what has outlived its retention now, instead of at the next tick. */
  expire(): Promise<void> {
    return this.#expiry.tick()
  }

  /** Called last in each transaction: keeps the indexes that follow from what it writes. */
  include(tx: Transaction): void {
    this.lanes.include(tx)
    this.#expiry.include(tx)
  }

  committed(): void {
    this.lanes.committed()
    this.#expiry.committed()
  }
}
