/**
 * Repair of a spool at rest. It takes the spool as its owner; makes it one that opens: rows under keys that
 * are none and rows of `state` and `outbox` that cannot be read go into quarantine; then repairs it as
 * `repairStore` does. A file with damaged pages is salvaged first (salvage.ts). Nothing that an ordinary
 * open would delete is touched before the counts are right.
 */

import { checkImports } from './check-imports.js'
import { readLaneLog } from './check-indexes.js'
import { bodyRefOf } from './check-messages.js'
import { checkOutbox, checkState } from './check-outbox.js'
import { type Finding, Findings, type ProblemName } from './check-report.js'
import { SpoolError } from './errors.js'
import { type LongOptions, Pace } from './jobs.js'
import { CHUNK_KEY_BYTES, QUEUE_KEY_BYTES } from './layout.js'
import { ID_BYTES } from './message-id.js'
import { own } from './owner.js'
import { Quarantine } from './quarantine.js'
import type { RepairOptions, RepairReport } from './repair.js'
import type { DatabaseName } from './rows.js'
import { damagedPages, type SalvageReport, salvage } from './salvage.js'
import { Snapshot } from './snapshot.js'
import { Spool } from './spool.js'
import { Store } from './store.js'

export interface OfflineRepairReport extends RepairReport {
  /** What came of a file with damaged pages; null when it had none. */
  readonly salvage: SalvageReport | null
}

const DEFAULT_MODE = 0o640

/** Throws SPOOL_ERR_OWNED with the pid of a service that has it, SPOOL_ERR_OPEN, SPOOL_ERR_ABORTED. */
export async function repairSpool(
  path: string,
  options: RepairOptions & {
    mode?: number | undefined
    /** Salvage the file also when no page of it is seen to be damaged. */
    salvage?: boolean | undefined
  } = {},
): Promise<OfflineRepairReport> {
  const mode = options.mode ?? DEFAULT_MODE
  await Store.mustExist(path)
  const owner = await own(path, mode)
  try {
    const isDamaged = options.salvage === true || (await damagedPages(path)).length > 0
    let salvaged = isDamaged ? await salvage(path, mode, options) : null
    let atRest: AtRest
    try {
      atRest = await mendAtRest(path, mode, options)
    } catch (error) {
      // Damage that shows only when LMDB reads it.
      const isOfPages = error instanceof SpoolError && error.code === 'SPOOL_ERR_CORRUPT'
      if (!isOfPages || salvaged !== null) throw error
      salvaged = await salvage(path, mode, options)
      atRest = await mendAtRest(path, mode, options)
    }
    const store = await Store.open({ path, readOnly: false, mode, mapSize: undefined })
    let spool: Spool
    try {
      spool = new Spool(store, null, { path, mode }, { sweep: false })
    } catch (error) {
      await store.close()
      throw error
    }
    try {
      const report = await spool.upkeep.repair(options)
      return { ...withAtRest(report, atRest), salvage: salvaged }
    } finally {
      await spool.close()
    }
  } finally {
    await owner.release()
  }
}

interface AtRest {
  readonly mended: Partial<Record<ProblemName, number>>
  readonly kept: string[]
}

async function mendAtRest(path: string, mode: number, options: LongOptions): Promise<AtRest> {
  const store = await Store.open({
    path,
    readOnly: false,
    mode,
    mapSize: undefined,
    anyFormat: true,
  })
  try {
    const found = await findAtRest(store, options)
    const quarantine = new Quarantine(path, mode)
    const mended: Partial<Record<ProblemName, number>> = {}
    const kept: string[] = []
    for (const { problem, what, db, key } of found) {
      if (db === undefined || key === undefined) continue
      const row = store.db(db).get(key)
      if (row === undefined) continue
      if (problem !== 'staged-has-message') {
        const reason = `${problem}: ${what}`
        kept.push(await quarantine.keep({ kind: 'row', reason, db, key, row }))
      }
      await store.write(() => void store.db(db).remove(key))
      mended[problem] = (mended[problem] ?? 0) + 1
    }
    return { mended, kept }
  } finally {
    await store.close()
  }
}

const KEY_BYTES: Partial<Record<DatabaseName, number>> = {
  messages: ID_BYTES,
  chunks: CHUNK_KEY_BYTES,
  refs: ID_BYTES,
  staged: ID_BYTES,
  queue: QUEUE_KEY_BYTES,
}

async function findAtRest(store: Store, options: LongOptions): Promise<Finding[]> {
  const found: Finding[] = []
  const findings = new Findings((finding) => {
    if (WANTED.has(finding.problem)) found.push(finding)
  })
  const pace = new Pace(options)
  const snapshot = new Snapshot(store)
  try {
    checkState(snapshot, findings)
    pace.begin('outbox', store.count('outbox'))
    await checkOutbox(snapshot, findings, pace)
    for (const [name, length] of Object.entries(KEY_BYTES) as [DatabaseName, number][]) {
      pace.begin(name, store.count(name))
      for (const key of snapshot.keys(name)) {
        await pace.step()
        if (key.length === length) continue
        const what = `${name}: ${key.toString('hex')}`
        findings.add({ problem: 'row-malformed', what, db: name, key })
      }
    }
    await checkImports(snapshot, findings, pace)
    findLaneLog(snapshot, findings)
    await findStaged(snapshot, findings, pace)
    return found
  } finally {
    snapshot.done()
  }
}

const WANTED: ReadonlySet<ProblemName> = new Set([
  'row-malformed',
  'state-undecodable',
  'outbox-undecodable',
  'staged-has-message',
])

/** With one row wrong the whole log goes: it says only what the lanes are behind by, and they are mended. */
function findLaneLog(snapshot: Snapshot, findings: Findings): void {
  if (readLaneLog(snapshot).wrong.length === 0) return
  for (const key of snapshot.keys('lanelog')) {
    const what = `lanelog: ${key.toString('hex')}`
    findings.add({ problem: 'row-malformed', what, db: 'lanelog', key })
  }
}

/** A message's body in `staged` would be deleted at the next open. */
async function findStaged(snapshot: Snapshot, findings: Findings, pace: Pace): Promise<void> {
  let isAny = false
  for (const _ of snapshot.keys('staged', { limit: 1 })) isAny = true
  if (!isAny) return
  for (const { key, value } of snapshot.range('messages')) {
    await pace.step()
    const ref = key.length === ID_BYTES ? bodyRefOf(key, value) : undefined
    if (ref === undefined || snapshot.get('staged', ref.body) === undefined) continue
    const what = ref.body.toString('hex')
    findings.add({ problem: 'staged-has-message', what, db: 'staged', key: ref.body })
  }
}

function withAtRest(report: RepairReport, { mended, kept }: AtRest): RepairReport {
  const sum = { ...report.mended }
  for (const [name, count] of Object.entries(mended) as [ProblemName, number][]) {
    sum[name] = (sum[name] ?? 0) + count
  }
  return {
    ...report,
    mended: sum,
    quarantined: report.quarantined + kept.length,
    entries: [...kept, ...report.entries],
  }
}
