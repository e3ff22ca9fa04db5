/**
 * Compares everything in a spool with everything else: messages and index, bodies with their chunks and
 * counts, outbox, counters. Reads all of it, in one consistent look and in bounded memory, and changes
 * nothing. A body in `staged` belongs to no message, which is no problem: it is being taken in, or deleted.
 */
import { BodyUsers } from './body-users.js'
import { checkBodies } from './check-bodies.js'
import { checkIdempotency } from './check-idempotency.js'
import { checkImports } from './check-imports.js'
import { checkExpiry, checkLanes, checkLeases } from './check-indexes.js'
import { checkMessages, checkQueue, gatherUsers } from './check-messages.js'
import { checkOutbox, checkState, storedCounters } from './check-outbox.js'
import { type CheckReport, type Finding, Findings } from './check-report.js'
import { SpoolError } from './errors.js'
import { type LongOptions, Pace } from './jobs.js'
import type { Counters } from './layout.js'
import { DEFAULT_MODE } from './options.js'
import { damagedPages } from './salvage.js'
import { Snapshot } from './snapshot.js'
import { Store } from './store.js'

export { type CheckReport, PROBLEMS, type Problem } from './check-report.js'

export interface CheckOptions extends LongOptions {
  /** Read each body, and compare it with its hash (default); else only its rows are counted. */
  readonly deep?: boolean | undefined
}

/** Works beside a running service. Throws SPOOL_ERR_OPEN, SPOOL_ERR_ABORTED. */
export async function checkSpool(path: string, options: CheckOptions = {}): Promise<CheckReport> {
  await Store.mustExist(path)
  const damaged = await damagedPages(path, { contents: options.deep ?? true })
  if (damaged.length > 0) return pagesReport(damaged)
  const store = await Store.open({
    path,
    readOnly: true,
    mode: DEFAULT_MODE,
    mapSize: undefined,
    anyFormat: true,
  })
  try {
    return await checkStore(store, options)
  } catch (error) {
    if (error instanceof SpoolError && error.code === 'SPOOL_ERR_CORRUPT') {
      return damageReport([error.message])
    }
    throw error
  } finally {
    await store.close()
  }
}

/** No more is looked at: LMDB may end the process over such a page. */
function pagesReport(damaged: readonly number[]): CheckReport {
  return damageReport(damaged.map((number) => (number === 0 ? 'a meta page' : `page ${number}`)))
}

function damageReport(damaged: readonly string[]): CheckReport {
  const findings = new Findings()
  for (const what of damaged) findings.add({ problem: 'page-damaged', what })
  const { found, counts, problems } = findings
  return { messages: 0, bodies: 0, bytes: 0, staged: 0, found, counts, problems }
}

export async function checkStore(
  store: Store,
  options: CheckOptions & {
    onFinding?: ((finding: Finding) => void) | undefined
    /** Bodies gathered in one pass over the messages. */
    capacity?: number | undefined
  } = {},
): Promise<CheckReport> {
  const { deep = true } = options
  const pace = new Pace(options)
  const findings = new Findings(options.onFinding)
  const users = new BodyUsers(options.capacity)
  const snapshot = new Snapshot(store)
  try {
    checkState(snapshot, findings)
    pace.begin('messages', store.count('messages'))
    const { messages, ...kinds } = await checkMessages(snapshot, users, findings, pace)
    pace.begin('queue', store.count('queue'))
    await checkQueue(snapshot, findings, pace)
    pace.begin('indexes', null)
    await checkLeases(snapshot, findings, pace)
    await checkExpiry(snapshot, findings, pace)
    await checkLanes(snapshot, findings, pace)
    await checkIdempotency(snapshot, findings, pace)
    await checkImports(snapshot, findings, pace)
    const sums = { bodies: 0, bytes: 0, staged: 0 }
    let isFurther = false
    do {
      if (isFurther) {
        pace.begin('messages', store.count('messages'))
        await gatherUsers(snapshot, users, pace)
      }
      users.finish()
      pace.begin('bodies', null)
      const part = await checkBodies(snapshot, users, deep, findings, pace)
      sums.bodies += part.bodies
      sums.bytes += part.bytes
      sums.staged += part.staged
      isFurther = users.next()
    } while (isFurther)
    pace.begin('outbox', store.count('outbox'))
    const outbox = await checkOutbox(snapshot, findings, pace)
    const { bodies, bytes, staged } = sums
    checkCounters(snapshot, { bodies, bytes, ...kinds, ...outbox }, findings)
    const { found, counts, problems } = findings
    return { messages, bodies, bytes, staged, found, counts, problems }
  } finally {
    snapshot.done()
  }
}

function checkCounters(snapshot: Snapshot, counted: Counters, findings: Findings): void {
  const { counters } = storedCounters(snapshot)
  for (const name of Object.keys(counted) as (keyof Counters)[]) {
    const delta = counted[name] - counters[name]
    if (delta === 0) continue
    const what = `${name}: ${counters[name]} stored, ${counted[name]} counted`
    findings.add({ problem: 'counter-wrong', what, counter: name, delta })
  }
}
