/** `bobbin spool export`: messages as files, of a data directory or of a running service. */
import { type Command, Option } from 'commander'
import { ClientError, type MetaJson } from '../../../api/client/index.js'
import { escapeText } from '../../../api/json.js'
import {
  EXPORT_FORMATS,
  type ExportedMessage,
  type ExportFormat,
  type ExportReport,
  type ExportSource,
  exportedMessage,
  exportMessages,
  exportSource,
  MESSAGE_STATES,
  openSpool,
} from '../../../spool/index.js'
import { spoolPath } from '../../data-directory.js'
import { collect, EXIT, print } from '../../program.js'
import { connect } from '../connection.js'
import { add, type Options, table, withProgress } from './options.js'

interface ExportCommandOptions extends Options {
  format: ExportFormat
  id?: string[]
  state?: string
  domain?: string
  fromHeader: string
  toHeader: string
  envelope: boolean
}

export function addExport(spool: Command): void {
  add(spool, 'export', 'write messages into files; the spool keeps them; run again it goes on')
    .argument('<dir>', 'made where there is none; nothing in it is written over')
    .addOption(
      new Option('--format <format>', 'what is written')
        .choices(EXPORT_FORMATS)
        .makeOptionMandatory(),
    )
    .option('--id <id>', 'only this message; several times', collect)
    .addOption(new Option('--state <state>', 'only messages in this state').choices(MESSAGE_STATES))
    .option('--domain <domain>', 'only recipients of this domain')
    .option('--from-header <name>', 'field that keeps the sender', 'Return-Path')
    .option('--to-header <name>', 'field that keeps the recipient', 'X-Envelope-To')
    .option('--no-envelope', 'put nothing before the messages')
    .action(async (directory: string, options: ExportCommandOptions) => {
      const report = await withProgress((onProgress) =>
        withExportSource(options, (source) =>
          exportMessages(source, directory, {
            format: options.format,
            ids: options.id,
            state: options.state,
            domain: options.domain,
            envelope: options.envelope ? { from: options.fromHeader, to: options.toHeader } : null,
            onProgress,
          }),
        ),
      )
      await print(options.json ? `${JSON.stringify(report)}\n` : exportText(report))
      if (report.failed > 0) process.exitCode = EXIT.failed
    })
}

async function withExportSource(
  { url, data }: Options,
  use: (source: ExportSource) => Promise<ExportReport>,
): Promise<ExportReport> {
  if (url !== undefined) return use(serviceSource(url))
  const spool = await openSpool({ path: spoolPath(data), readOnly: true })
  try {
    return await use(exportSource(spool))
  } finally {
    await spool.close()
  }
}

function serviceSource(url: string): ExportSource {
  const client = connect(url)
  return {
    async *messages() {
      for await (const meta of client.list()) yield fromJson(meta)
    },
    async message(id) {
      try {
        return fromJson(await client.meta(id))
      } catch (error) {
        if (error instanceof ClientError && error.status === 404) return undefined
        throw error
      }
    },
    content: (id) => client.content(id),
    total: async () => (await client.spool()).messages,
  }
}

function fromJson(meta: MetaJson): ExportedMessage {
  return exportedMessage({ ...meta, created: Date.parse(meta.created) } as Parameters<
    typeof exportedMessage
  >[0])
}

function exportText({ failures, ...sums }: ExportReport): string {
  const failed = failures.map(({ id, reason }) => `failed: ${id}: ${escapeText(reason)}\n`).join('')
  return `${failed}${table(sums)}`
}
