/**
 * Whether messages are taken, and if not, why: looked at ten times a second, so that asking costs nothing. What comes
 * and goes has two marks, so that the answer does not flap. Each change is one line in the log, which says more than
 * the reasons do: those are open to everybody.
 */
import type { FastifyBaseLogger } from 'fastify'
import type { Reason, ReasonCode } from '../api/index.js'
import type { SpaceWatch, Spool } from '../spool/index.js'
import { HighWater } from './high-water.js'
import { heapShare, heldBytes } from './memory.js'
import type { ShedLimits } from './shed-settings.js'

const TICK_MS = 100
/** Memory is looked at each so many ticks. */
const MEMORY_TICKS = 5
/** Delays have to be low for so long before messages are taken again. */
const HOLD_MS = 1000
/** From this share of the largest heap on, memory is high. */
const HEAP_SHARE = 0.85
const MiB = 1024 * 1024

const RETRY_AFTER: Record<ReasonCode, number> = {
  stopping: 5,
  spool_read_only: 60,
  low_space: 30,
  log_backlog: 10,
  commits_late: 5,
  memory_high: 5,
  event_loop_late: 5,
}

export interface ReadinessSources {
  readonly spool: Pick<Spool, 'readOnly' | 'waiting' | 'outbox'>
  readonly space: Pick<SpaceWatch, 'reason'>
}

export interface ReadinessLimits extends ShedLimits {
  /** Log records that may wait for their journals. */
  readonly backlog: number
}

/** What is measured; another one for tests. */
export interface Gauges {
  now(): number
  heldBytes(): number
  heapShare(): number
}

const GAUGES: Gauges = { now: () => performance.now(), heldBytes, heapShare }

export class Readiness {
  readonly #sources: ReadinessSources
  readonly #limits: ReadinessLimits
  readonly #log: FastifyBaseLogger
  readonly #gauges: Gauges
  readonly #commits: HighWater
  readonly #loop: HighWater
  readonly #memory: HighWater
  readonly #backlog: HighWater
  #reasons: readonly Reason[] = []
  #isStopping = false
  #timer: NodeJS.Timeout | undefined
  #expected: number | null = null
  #ticks = 0
  #held = 0

  constructor(
    sources: ReadinessSources,
    limits: ReadinessLimits,
    log: FastifyBaseLogger,
    gauges = GAUGES,
  ) {
    this.#sources = sources
    this.#limits = limits
    this.#log = log
    this.#gauges = gauges
    const delay = (high: number, looks: number) =>
      new HighWater({ high, low: high / 2, hold: HOLD_MS, looks })
    this.#commits = delay(limits.commitDelay, 1)
    // A single late tick is a pause of the machine, or a collection: nothing to shed for.
    this.#loop = delay(limits.eventLoopDelay, 2)
    this.#memory = new HighWater({ high: 1, low: 0.9, hold: HOLD_MS })
    this.#backlog = new HighWater({ high: limits.backlog, low: limits.backlog * 0.9, hold: 0 })
  }

  /** Why no messages are taken; empty when they are. As of the last look. */
  get reasons(): readonly Reason[] {
    return this.#reasons
  }

  /** Looks now, and from now on. */
  start(): void {
    this.look()
    this.#expected = this.#gauges.now() + TICK_MS
    this.#timer = setInterval(() => this.look(), TICK_MS).unref()
  }

  /** The service is about to end. */
  stopping(): void {
    this.#isStopping = true
    this.look()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  look(): void {
    const now = this.#gauges.now()
    const late = this.#expected === null ? 0 : Math.max(0, now - this.#expected)
    this.#expected = now + TICK_MS
    const reasons = [
      this.#isStopping ? reason('stopping', 'the service is stopping') : null,
      this.#readOnly(),
      this.#space(),
      this.#logBacklog(now),
      this.#commitsLate(now),
      this.#memoryHigh(now),
      this.#loopLate(late, now),
    ].filter((found) => found !== null)
    this.#tell(reasons)
    this.#reasons = reasons
  }

  #tell(reasons: readonly Reason[]): void {
    const codes = reasons.map(({ code }) => code)
    if (codes.join() === this.#reasons.map(({ code }) => code).join()) return
    if (codes.length === 0) this.#log.info('messages are taken again')
    else {
      const details = reasons.map(({ detail }) => detail)
      const { readOnly } = this.#sources.spool
      const line = { reasons: codes, details, ...(readOnly === null ? {} : { readOnly }) }
      this.#log.warn(line, 'no messages are taken')
    }
  }

  #readOnly(): Reason | null {
    if (this.#sources.spool.readOnly === null) return null
    return reason(
      'spool_read_only',
      'the spool takes no writes since one failed: see the log, check the disk, then restart the service',
    )
  }

  #space(): Reason | null {
    const found = this.#sources.space.reason
    return found === null ? null : reason('low_space', found)
  }

  #logBacklog(now: number): Reason | null {
    const { waiting } = this.#sources.spool.outbox
    if (!this.#backlog.look(waiting, now)) return null
    return reason('log_backlog', `${waiting} log records wait for their journals`)
  }

  #commitsLate(now: number): Reason | null {
    const { commitDelay } = this.#limits
    const { milliseconds } = this.#sources.spool.waiting
    if (!this.#commits.look(milliseconds, now)) return null
    return reason(
      'commits_late',
      `writes are late: the oldest has waited ${seconds(milliseconds)} for the disk, and ${seconds(commitDelay)} is the limit`,
    )
  }

  #memoryHigh(now: number): Reason | null {
    const { memory } = this.#limits
    if (this.#ticks++ % MEMORY_TICKS === 0) {
      this.#held = this.#gauges.heldBytes()
      this.#memory.look(Math.max(this.#held / memory, this.#gauges.heapShare() / HEAP_SHARE), now)
    }
    if (!this.#memory.isHigh) return null
    return reason(
      'memory_high',
      `the process holds ${Math.round(this.#held / MiB)} MiB of ${Math.round(memory / MiB)}, or its heap is nearly full`,
    )
  }

  #loopLate(late: number, now: number): Reason | null {
    if (!this.#loop.look(late, now)) return null
    return reason(
      'event_loop_late',
      `the process is ${seconds(late)} late with its work, and ${seconds(this.#limits.eventLoopDelay)} is the limit`,
    )
  }
}

function reason(code: ReasonCode, detail: string): Reason {
  return { code, detail, retryAfter: RETRY_AFTER[code] }
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}
