/** `bobbin jlog info`: what a journal is like now. Only reads. */
import type { Command } from 'commander'
import type { journalToJson } from '../../../api/index.js'
import { describeJournal } from '../../../jlog/index.js'
import { print } from '../../program.js'
import { columns, warn } from './report.js'

type Info = ReturnType<typeof journalToJson> & {
  pre_commit_pending: number
  metastore_sound: boolean
}

export function addInfo(jlog: Command): void {
  jlog
    .command('info')
    .description('describe a journal: settings, segments, subscribers and what they have not read')
    .argument('<dir>')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  bobbin jlog info ./data/journals/mainlog')
    .action(async (dir: string, { json }: { json?: boolean }) => {
      // Only here, because the service is much to load for the other commands.
      const { journalToJson } = await import('../../../api/index.js')
      const found = await describeJournal(dir)
      const info: Info = {
        ...journalToJson(dir, found),
        pre_commit_pending: found.preCommit?.pending ?? 0,
        metastore_sound: found.metastoreSound,
      }
      if (!found.metastoreSound) {
        warn('the metastore is missing or damaged; the settings are those that the segments show')
      }
      await print(json ? `${JSON.stringify(info)}\n` : describe(info))
    })
}

function describe(info: Info): string {
  const { segments, subscribers, metastore_sound: _, ...settings } = info
  let text = columns(
    Object.entries(settings).map(([name, value]) => [
      name.replaceAll('_', ' '),
      value === null ? '-' : String(value),
    ]),
  )
  if (segments.length > 0) {
    const rows = segments.map(({ log, records, bytes }) => [log, records, bytes])
    text += `\n${columns([['segment', 'records', 'bytes'], ...rows])}`
  }
  if (subscribers.length > 0) {
    const rows = subscribers.map((one) => [
      JSON.stringify(one.name),
      one.checkpoint,
      one.lag_records,
      one.lag_bytes,
    ])
    text += `\n${columns([['subscriber', 'has read up to', 'records left', 'bytes left'], ...rows])}`
  }
  return text
}
