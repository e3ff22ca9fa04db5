/** `bobbin spool import`: messages of another spool, at rest in a data directory or as a job of a running service. */
import { type Command, Option } from 'commander'
import { escapeText, type ImportReportJson, importToJson } from '../../../api/json.js'
import { IMPORT_FORMATS, type ImportFormat } from '../../../spool/index.js'
import { collect, EXIT, print, wholeNumber } from '../../program.js'
import { connect } from '../connection.js'
import { add, type OnProgress, type Options, table, withProgress } from './options.js'

interface ImportCommandOptions extends Options {
  config?: string
  format?: ImportFormat
  concurrency?: number
  from?: string
  to?: string[]
  regenerateIds?: true
  suppressTrace?: true
  remove?: true
  maxRetention?: number
  again?: true
}

export function addImport(spool: Command): void {
  add(spool, 'import', 'take the messages of another spool, each once; run again it goes on')
    .argument('<path>', 'with --url below the setting spool.import_root of the service')
    .addOption(
      new Option('--format <format>', 'instead of what is seen to be there').choices(
        IMPORT_FORMATS,
      ),
    )
    .option('--concurrency <n>', 'messages at once (default: 8)', wholeNumber(1))
    .option('--from <address>', "sender of messages that do not tell theirs; '' is the null sender")
    .option(
      '--to <address>',
      'recipient of messages that do not tell theirs; several times',
      collect,
    )
    .option('--regenerate-ids', 'give every message a new id')
    .option('--suppress-trace', 'put no Received field before the messages')
    .addOption(new Option('--keep', 'leave the source as it is (default)').conflicts('remove'))
    .addOption(new Option('--remove', 'take messages out of the source once they are stored here'))
    .option('--max-retention <seconds>', 'longest stay of an imported message', wholeNumber(0))
    .option('--again', 'import also what was imported before')
    .option(
      '--config <file>',
      'settings of the service, for a spool at rest',
      process.env.BOBBIN_CONFIG,
    )
    .action(async (path: string, options: ImportCommandOptions) => {
      const report = await withProgress((onProgress) =>
        options.url === undefined
          ? importAtRest(path, options, onProgress)
          : importOver(options.url, path, options, onProgress),
      )
      await print(options.json ? `${JSON.stringify(report)}\n` : importText(report))
      if (report.failed > 0 || report.left !== null) process.exitCode = EXIT.failed
    })
}

async function importAtRest(
  path: string,
  options: ImportCommandOptions,
  onProgress: OnProgress,
): Promise<ImportReportJson> {
  const [{ loadConfig }, { withOwnedSpool }] = await Promise.all([
    import('../../config.js'),
    import('../../own-spool.js'),
  ])
  const config = loadConfig({ file: options.config, flags: { data: options.data } })
  const { result, waiting } = await withOwnedSpool(config, (spool) =>
    spool.importFrom(path, {
      format: options.format,
      concurrency: options.concurrency,
      mailfrom: options.from,
      rcptto: options.to,
      regenerateIds: options.regenerateIds,
      suppressTrace: options.suppressTrace,
      remove: options.remove,
      maxRetention: options.maxRetention,
      again: options.again,
      onProgress,
    }),
  )
  if (waiting !== null) {
    const { records, reason } = waiting
    process.stderr.write(
      `bobbin: ${records} log records wait for the next start of the service: ${reason}\n`,
    )
  }
  return importToJson(result)
}

function importOver(
  url: string,
  path: string,
  options: ImportCommandOptions,
  onProgress: OnProgress,
): Promise<ImportReportJson> {
  const json = {
    path,
    format: options.format,
    concurrency: options.concurrency,
    mailfrom: options.from,
    rcptto: options.to,
    regenerate_ids: options.regenerateIds,
    suppress_trace: options.suppressTrace,
    remove: options.remove,
    max_retention: options.maxRetention,
    again: options.again,
  }
  return connect(url).jobs.run('/v1/spool/import', { json, onProgress })
}

function importText({ failures, results, ...sums }: ImportReportJson): string {
  const failed = failures
    .map(
      ({ original_id, result, reason }) =>
        `failed: ${escapeText(original_id)}: ${escapeText(reason)} (result ${result})\n`,
    )
    .join('')
  return `${failed}${table({ ...sums, results })}`
}
