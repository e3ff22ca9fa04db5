/** `bobbin jlog repair`: puts a journal right and tells, file by file, what was kept, what was cut, and where that is now. */
import type { Command } from 'commander'
import { type RepairReport, repairJournal, type SegmentReport } from '../../../jlog/index.js'
import { print } from '../../program.js'
import { describeCheckpoints, describeDamage, describeSurroundings } from './damage-text.js'
import { withProgress } from './progress.js'
import { columns, count, toJson } from './report.js'

interface Flags {
  json?: boolean
  dryRun?: boolean
}

export function addRepair(jlog: Command): void {
  jlog
    .command('repair')
    .description(
      'repair a journal; keeps every record that something confirms, and every byte that it cuts in a file beside',
    )
    .argument('<dir>')
    .option('--dry-run', 'tell what would be done, and change nothing')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  bobbin jlog repair ./mail.jlog --dry-run')
    .action(async (dir: string, { json, dryRun = false }: Flags) => {
      const done = await withProgress((onProgress) => repairJournal(dir, { dryRun, onProgress }))
      await print(json ? `${JSON.stringify(toJson(done))}\n` : describe(done))
    })
}

function describe(report: RepairReport): string {
  const { records, segments, subscribers, changed, dryRun, emptyRemoved } = report
  const title = !changed ? 'nothing to repair' : dryRun ? 'would be repaired' : 'repaired'
  const rows = segments.map((one) => [
    one.file,
    one.records,
    one.bytesAfter,
    one.cutBytes,
    stateOf(one, dryRun),
    ...[one.cutFile, one.indexFile].filter((file) => file !== null),
  ])
  const head = ['segment', 'records kept', 'bytes kept', 'bytes cut', '']
  if (rows.some((row) => row.length > head.length)) head.push('what was cut is in')
  return [
    `${title}: ${count(records, 'record')} in ${count(segments.length - emptyRemoved.length, 'segment')}\n`,
    rows.length === 0 ? '' : `\n${columns([head, ...rows])}`,
    ...segments.map(({ file, cut, omitted }) => describeDamage(file, cut, omitted)),
    describeCheckpoints(subscribers, dryRun ? 'would be put at' : 'is now at'),
    describeSurroundings(report),
    emptyRemoved.length === 0
      ? ''
      : `${dryRun ? 'empty, to be removed' : 'empty, removed'}: ${emptyRemoved.join(', ')}\n`,
  ].join('')
}

function stateOf({ changed, resumed, index }: SegmentReport, dryRun: boolean): string {
  if (!changed) return 'sound'
  if (dryRun) return 'to be repaired'
  if (resumed) return 'repair completed'
  return index === 'moved-aside' ? 'repaired, index put aside' : 'repaired'
}
