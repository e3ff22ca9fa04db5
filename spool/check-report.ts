/** What a check finds, and how it is told: everything is counted, a bounded number is listed. */
import type { Counters } from './layout.js'
import type { DatabaseName } from './rows.js'

export const PROBLEMS = [
  'row-malformed',
  'state-undecodable',
  'meta-undecodable',
  'body-chunk-missing',
  'body-chunk-undecodable',
  'body-size-wrong',
  'body-hash-wrong',
  'body-orphaned',
  'refs-wrong',
  'queue-without-message',
  'message-without-queue',
  'queue-wrong',
  'lane-wrong',
  'lease-wrong',
  'expiry-wrong',
  'idempotency-wrong',
  'staged-has-message',
  'counter-wrong',
  'outbox-undecodable',
  'outbox-gap',
  'outbox-relayed',
  'page-damaged',
] as const

export type ProblemName = (typeof PROBLEMS)[number]

export interface Problem {
  readonly problem: ProblemName
  /** Which row, and what was found against what was expected. */
  readonly what: string
}

/** A problem, with what it takes to mend it. */
export interface Finding extends Problem {
  /** The row that is wrong or missing. */
  readonly db?: DatabaseName
  readonly key?: Buffer
  readonly body?: Buffer
  readonly counter?: keyof Counters
  /** What is to be added to the stored number. */
  readonly delta?: number
  readonly gap?: { readonly journal: string; readonly from: number; readonly to: number }
}

export interface CheckReport {
  readonly messages: number
  readonly bodies: number
  /** Of all bodies, each counted once. */
  readonly bytes: number
  /** Bodies that are being taken in or deleted: no problem. */
  readonly staged: number
  /** All problems, listed or not. */
  readonly found: number
  /** By name; names without problems are left out. */
  readonly counts: Partial<Record<ProblemName, number>>
  /** The first of them. */
  readonly problems: Problem[]
}

/** Problems in a report. */
export const MAX_LISTED = 1000

export class Findings {
  readonly problems: Problem[] = []
  readonly counts: Partial<Record<ProblemName, number>> = {}
  found = 0
  readonly #onFinding: ((finding: Finding) => void) | undefined

  constructor(onFinding?: (finding: Finding) => void) {
    this.#onFinding = onFinding
  }

  add(finding: Finding): void {
    const { problem, what } = finding
    this.found++
    this.counts[problem] = (this.counts[problem] ?? 0) + 1
    if (this.problems.length < MAX_LISTED) this.problems.push({ problem, what })
    this.#onFinding?.(finding)
  }
}
