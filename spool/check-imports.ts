/** Checks what is kept of imports: each row can be read. */
import type { Findings } from './check-report.js'
import type { Pace } from './jobs.js'
import { isImportRow } from './layout.js'
import type { Snapshot } from './snapshot.js'

export async function checkImports(
  snapshot: Snapshot,
  findings: Findings,
  pace: Pace,
): Promise<void> {
  for (const { key, value } of snapshot.range('imports')) {
    await pace.step()
    if (isImportRow(key, value)) continue
    const what = `imports: ${key.toString('hex')}`
    findings.add({ problem: 'row-malformed', what, db: 'imports', key })
  }
}
