/** `bobbin spool check` and `repair`: at rest in a data directory, or as a job of a running service. */
import type { Command } from 'commander'
import { BobbinClient } from '../../../api/index.js'
import {
  type BackupReport,
  type CheckReport,
  checkSpool,
  compactSpool,
  type OfflineRepairReport,
  openSpool,
  type Progress,
  type RepairReport,
  repairSpool,
} from '../../../spool/index.js'
import { EXIT, print, UsageError } from '../../program.js'
import { spoolPath } from '../../service.js'
import { add, type Options, progressLine, table } from './options.js'

type OnProgress = (progress: Progress | null) => void

export function addUpkeep(spool: Command): void {
  add(spool, 'check', 'compare everything in the spool with everything else; changes nothing')
    .option('--deep', 'compare each content with its hash, too')
    .action(async (options: Options & { deep?: boolean }) => {
      const { deep = false, data, url } = options
      const report = await withProgress((onProgress) =>
        url === undefined
          ? checkSpool(spoolPath(data), { deep, onProgress })
          : (new BobbinClient(url).job(
              `/v1/spool/check?deep=${deep}`,
              onProgress,
            ) as Promise<CheckReport>),
      )
      await print(options.json ? `${JSON.stringify(report)}\n` : checkText(report))
      if (report.found > 0) process.exitCode = EXIT.failed
    })

  add(
    spool,
    'repair',
    'mend the spool; what cannot be read goes to quarantine, nothing is destroyed',
  )
    .option('--shallow', 'do not compare contents with their hashes')
    .option('--salvage', 'at rest: write the file anew, as a damaged one always is')
    .action(async (options: Options & { shallow?: boolean; salvage?: boolean }) => {
      const { shallow = false, salvage = false, data, url } = options
      if (salvage && url !== undefined) throw new UsageError('--salvage is for a spool at rest')
      const deep = !shallow
      const report = await withProgress((onProgress) =>
        url === undefined
          ? repairSpool(spoolPath(data), { deep, salvage, onProgress })
          : (new BobbinClient(url).job(
              `/v1/spool/repair?deep=${deep}`,
              onProgress,
            ) as Promise<RepairReport>),
      )
      await print(options.json ? `${JSON.stringify(report)}\n` : repairText(report))
      if (report.after.found > 0) process.exitCode = EXIT.failed
    })
}

export function addBackup(spool: Command): void {
  add(spool, 'backup', 'copy the spool as of now, also beside a running service')
    .argument(
      '<dir>',
      'a directory that is not there yet; with --url a name below spool.backup_root',
    )
    .action(async (directory: string, options: Options) => {
      const report = await (options.url === undefined
        ? backupFiles(spoolPath(options.data), directory)
        : new BobbinClient(options.url).job('/v1/spool/backup', undefined, { name: directory }))
      await print(options.json ? `${JSON.stringify(report)}\n` : table(report as BackupReport))
    })

  spool
    .command('compact')
    .description('make the file of the spool as small as it can be; at rest only')
    .option('--data <dir>', 'data directory', process.env.BOBBIN_DATA ?? './data')
    .option('--json', 'print JSON')
    .action(async (options: Options) => {
      const report = await compactSpool(spoolPath(options.data))
      await print(options.json ? `${JSON.stringify(report)}\n` : table(report))
    })
}

async function backupFiles(path: string, directory: string): Promise<BackupReport> {
  const spool = await openSpool({ path, readOnly: true })
  try {
    return await spool.upkeep.backup(directory)
  } finally {
    await spool.close()
  }
}

async function withProgress<T>(run: (onProgress: OnProgress) => Promise<T>): Promise<T> {
  const line = progressLine()
  try {
    return await run(line.show)
  } finally {
    line.end()
  }
}

function checkText({ problems, found, counts, ...sums }: CheckReport): string {
  const lines = problems.map(({ problem, what }) => `${problem}: ${what}\n`).join('')
  const more = found > problems.length ? `and ${found - problems.length} more\n` : ''
  return `${lines}${more}${table({ ...sums, problems: found })}${table(counts, 'problem.')}`
}

function repairText(report: RepairReport & Partial<OfflineRepairReport>): string {
  const { before, after, mended, quarantined, entries, salvage } = report
  const salvaged =
    salvage == null ? '' : table({ salvage: { ...salvage, lostKeys: salvage.lostKeys.length } })
  const names = entries.map((name) => `quarantined: ${name}\n`).join('')
  const left = after.problems.map(({ problem, what }) => `left: ${problem}: ${what}\n`).join('')
  const sums = { found: before.found, left: after.found, quarantined }
  return `${salvaged}${names}${left}${table(mended, 'mended.')}${table(sums)}`
}
