/** `bobbin spool check` and `repair`: at rest in a data directory, or as a job of a running service. */

import type { Command } from 'commander'
import { escapeText } from '../../../api/json.js'
import {
  type CheckReport,
  checkSpool,
  type OfflineRepairReport,
  type RepairReport,
  repairSpool,
} from '../../../spool/index.js'
import { spoolPath } from '../../data-directory.js'
import { EXIT, print, UsageError } from '../../program.js'
import { connect } from '../connection.js'
import { add, type Options, table, withProgress } from './options.js'

export function addUpkeep(spool: Command): void {
  add(spool, 'check', 'compare everything in the spool with everything else; changes nothing')
    .option(
      '--deep',
      'read each content, too, and compare it with its hash: else only that its chunks are there',
    )
    .action(async (options: Options & { deep?: boolean }) => {
      const { deep = false, data, url } = options
      const report = await withProgress((onProgress) =>
        url === undefined
          ? checkSpool(spoolPath(data), { deep, onProgress })
          : connect(url).jobs.run<CheckReport>('/v1/spool/check', { query: { deep }, onProgress }),
      )
      await print(options.json ? `${JSON.stringify(report)}\n` : checkText(report))
      if (report.found > 0) process.exitCode = EXIT.failed
    })

  add(
    spool,
    'repair',
    'mend the spool; what cannot be read goes to quarantine, nothing is destroyed',
  )
    .option('--shallow', 'do not read contents: of those, only missing chunks are found')
    .option('--salvage', 'at rest: write the file anew, as a damaged one always is')
    .action(async (options: Options & { shallow?: boolean; salvage?: boolean }) => {
      const { shallow = false, salvage = false, data, url } = options
      if (salvage && url !== undefined) throw new UsageError('--salvage is for a spool at rest')
      const deep = !shallow
      const report = await withProgress((onProgress) =>
        url === undefined
          ? repairSpool(spoolPath(data), { deep, salvage, onProgress })
          : connect(url).jobs.run<RepairReport>('/v1/spool/repair', {
              query: { deep },
              onProgress,
            }),
      )
      await print(options.json ? `${JSON.stringify(report)}\n` : repairText(report))
      if (report.after.found > 0 || hasLost(report)) process.exitCode = EXIT.failed
    })
}

function checkText({ problems, found, counts, ...sums }: CheckReport): string {
  const lines = problems.map(({ problem, what }) => `${problem}: ${escapeText(what)}\n`).join('')
  const more = found > problems.length ? `and ${found - problems.length} more\n` : ''
  return `${lines}${more}${table({ ...sums, problems: found })}${table(counts, 'problem.')}`
}

/** Rows that a salvage could not bring back. */
function hasLost({ salvage }: Partial<OfflineRepairReport>): boolean {
  return Object.values(salvage?.lost ?? {}).some((rows) => rows > 0)
}

function repairText(report: RepairReport & Partial<OfflineRepairReport>): string {
  const { before, after, mended, quarantined, entries, salvage } = report
  const salvaged =
    salvage == null ? '' : table({ salvage: { ...salvage, lostKeys: salvage.lostKeys.length } })
  const names = entries.map((name) => `quarantined: ${name}\n`).join('')
  const left = after.problems
    .map(({ problem, what }) => `left: ${problem}: ${escapeText(what)}\n`)
    .join('')
  const sums = { found: before.found, left: after.found, quarantined }
  return `${salvaged}${names}${left}${table(mended, 'mended.')}${table(sums)}`
}
