/** `bobbin spool backup`, `restore` and `compact`: copies of the whole store. */
import type { Command } from 'commander'
import {
  type BackupReport,
  type CompactReport,
  compactSpool,
  openSpool,
  type RestoreReport,
  restoreSpool,
} from '../../../spool/index.js'
import { spoolPath } from '../../data-directory.js'
import { EXIT, print } from '../../program.js'
import { connect } from '../connection.js'
import { add, addAtRest, type Options, table, withProgress } from './options.js'

export function addBackup(spool: Command): void {
  add(spool, 'backup', 'copy the spool as of now, also beside a running service')
    .argument(
      '<dir>',
      'a directory that is not there yet; with --url a name below spool.backup_root',
    )
    .action(async (directory: string, options: Options) => {
      const report = await (options.url === undefined
        ? backupFiles(spoolPath(options.data), directory)
        : connect(options.url).jobs.run('/v1/spool/backup', { json: { name: directory } }))
      await print(options.json ? `${JSON.stringify(report)}\n` : table(report as BackupReport))
    })

  addAtRest(spool, 'restore', 'make a backup the spool of a data directory that has none')
    .argument('<backup>', 'the directory of a backup, which is left as it is')
    .option('--force', 'also one that is not sound: repair it then')
    .action(async (backup: string, options: Options & { force?: boolean }) => {
      const report = await withProgress((onProgress) =>
        restoreSpool(backup, spoolPath(options.data), { force: options.force, onProgress }),
      )
      await print(options.json ? `${JSON.stringify(report)}\n` : restoreText(report))
      if (report.check.found > 0) process.exitCode = EXIT.failed
    })

  add(
    spool,
    'compact',
    'make the file of the spool as small as it can be, which takes room for a copy; in a running service writes wait meanwhile',
  ).action(async (options: Options) => {
    const report = await (options.url === undefined
      ? compactSpool(spoolPath(options.data))
      : connect(options.url).jobs.run('/v1/spool/compact'))
    await print(options.json ? `${JSON.stringify(report)}\n` : table(report as CompactReport))
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

function restoreText({ directory, bytes, check }: RestoreReport): string {
  const { messages, bodies, found } = check
  return table({ directory, bytes, messages, bodies, problems: found })
}
