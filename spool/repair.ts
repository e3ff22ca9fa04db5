/**
 * Repair: check, mend what was found, check again, until nothing is found or nothing more can be done.
 * Counts come first, for a body must not go while somebody still has it; then what cannot be read goes
 * into quarantine; the sums come last, once everything they count is right. It works on a spool that is
 * being used; the few problems that need one at rest are told as left.
 */

import { checkStore } from './check.js'
import { bodyRefOf } from './check-messages.js'
import { type CheckReport, type Finding, MAX_LISTED, type ProblemName } from './check-report.js'
import { type LongOptions, Pace } from './jobs.js'
import { Mender, type MendParts } from './mend.js'
import { ID_BYTES } from './message-id.js'
import { Snapshot } from './snapshot.js'

export interface RepairOptions extends LongOptions {
  /** Compare each body with its hash (default). */
  readonly deep?: boolean | undefined
  /** Leave messages that cannot be read where they are; they go into quarantine when not given. */
  readonly leaveUnreadable?: boolean | undefined
}

export interface RepairReport {
  /** What was found at first, and in the end. */
  readonly before: CheckReport
  readonly after: CheckReport
  /** Problems that were mended, by name. */
  readonly mended: Partial<Record<ProblemName, number>>
  /** Entries that came into quarantine, and the names of the first of them. */
  readonly quarantined: number
  readonly entries: string[]
}

/** Problems taken on in one round; the rest wait for the next. */
const MAX_FINDINGS = 50_000
const MAX_ROUNDS = 50
const AT_ONCE = 256

/** What leaves the store untouched but for a count or an index: always first. */
const COUNTS: ReadonlySet<ProblemName> = new Set([
  'refs-wrong',
  'staged-has-message',
  'message-without-queue',
  'queue-wrong',
  'queue-without-message',
  'lane-wrong',
  'lease-wrong',
  'expiry-wrong',
  'idempotency-wrong',
  'outbox-relayed',
  'outbox-gap',
])
const BODIES: ReadonlySet<ProblemName> = new Set([
  'body-chunk-missing',
  'body-chunk-undecodable',
  'body-size-wrong',
  'body-hash-wrong',
])
const UNREADABLE: ReadonlySet<ProblemName> = new Set(['meta-undecodable', ...BODIES])
/** A page, or a row under a key that is none: mended at rest (repair-offline.ts). */
const AT_REST: ReadonlySet<ProblemName> = new Set([
  'row-malformed',
  'state-undecodable',
  'page-damaged',
])

/** Throws SPOOL_ERR_ABORTED, and what a write throws; what was mended by then stays mended. */
export async function repairStore(
  parts: MendParts,
  options: RepairOptions = {},
): Promise<RepairReport> {
  const { store } = parts
  const mender = new Mender(parts)
  const pace = new Pace(options)
  const mended: Partial<Record<ProblemName, number>> = {}
  let before: CheckReport | undefined
  let deep = options.deep !== false
  for (let round = 1; ; round++) {
    const found: Finding[] = []
    let isLeft = false
    const after = await checkStore(store, {
      ...options,
      deep,
      onFinding: (finding) => {
        if (!isOurs(finding, options)) isLeft ||= BODIES.has(finding.problem)
        else if (found.length < MAX_FINDINGS) found.push(finding)
      },
    })
    before ??= after
    // What is mended does not change the other bodies. They are read again only while more may be wrong than
    // is known, or when some stay as they are: the last report has to tell of those.
    deep &&= isLeft || found.length === MAX_FINDINGS
    const work = found.length === 0 || round === MAX_ROUNDS ? [] : nextOf(found)
    if (work.length === 0) return reportOf(before, after, mended, mender)
    pace.begin('mending', work.length)
    // A log that is wrong can only be mended as what it made of the lanes.
    if (work.some(({ problem }) => problem === 'lane-wrong')) await parts.indexLanes()
    let count = 0
    const note = ({ problem }: Finding) => {
      mended[problem] = (mended[problem] ?? 0) + 1
      count++
    }
    const plain = work.filter(({ problem }) => !BODIES.has(problem))
    for (let at = 0; at < plain.length; at += AT_ONCE) {
      const slice = plain.slice(at, at + AT_ONCE)
      const isCount = slice.every(({ problem }) => COUNTS.has(problem))
      // Into one commit together; but files are written one after the other.
      if (isCount) {
        const results = await Promise.all(slice.map((finding) => mender.mend(finding)))
        for (const [i, done] of results.entries()) if (done) note(slice[i] as Finding)
      } else {
        for (const finding of slice) if (await mender.mend(finding)) note(finding)
      }
      await pace.step(slice.length)
    }
    const bodies = work.filter(({ problem }) => BODIES.has(problem))
    if (bodies.length > 0) {
      const users = await usersOf(parts, bodies, pace)
      await mender.mendBodies(users)
      for (const finding of bodies) note(finding)
    }
    if (count === 0) return reportOf(before, after, mended, mender)
  }
}

function reportOf(
  before: CheckReport,
  after: CheckReport,
  mended: RepairReport['mended'],
  { kept }: Mender,
): RepairReport {
  const entries = kept.slice(0, MAX_LISTED)
  return { before, after, mended, quarantined: kept.length, entries }
}

function isOurs({ problem }: Finding, { leaveUnreadable = false }: RepairOptions): boolean {
  if (AT_REST.has(problem)) return false
  return !(leaveUnreadable && UNREADABLE.has(problem))
}

/** What may be done now: counts and indexes, then the rest; sums when there is nothing else. */
function nextOf(found: Finding[]): Finding[] {
  const rest = found.filter(({ problem }) => problem !== 'counter-wrong')
  if (rest.length === 0) return found
  const counts = rest.filter(({ problem }) => COUNTS.has(problem))
  // Not all counts are known: those first.
  if (found.length === MAX_FINDINGS && counts.length > 0) return counts
  return [...counts, ...rest.filter(({ problem }) => !COUNTS.has(problem))]
}

/** Which messages have these bodies. */
async function usersOf(
  { store }: MendParts,
  findings: readonly Finding[],
  pace: Pace,
): Promise<Map<string, { ids: Buffer[]; why: string }>> {
  const users = new Map<string, { ids: Buffer[]; why: string }>()
  for (const { body, problem, what } of findings) {
    if (body !== undefined) {
      users.set(body.toString('latin1'), { ids: [], why: `${problem}: ${what}` })
    }
  }
  const snapshot = new Snapshot(store)
  try {
    pace.begin('messages', store.count('messages'))
    for (const { key, value } of snapshot.range('messages')) {
      await pace.step()
      const ref = key.length === ID_BYTES ? bodyRefOf(key, value) : undefined
      if (ref !== undefined) users.get(ref.body.toString('latin1'))?.ids.push(key)
    }
  } finally {
    snapshot.done()
  }
  return users
}
