/** `bobbin jlog inspect`: what is wrong with a journal, seen with the eyes of its repair. Changes nothing. */
import { type Command, InvalidArgumentError } from 'commander'
import { inspectJournal, inspectSegment, type JournalInspection } from '../../../jlog/index.js'
import { EXIT, print } from '../../program.js'
import { describeCheckpoints, describeDamage, describeSurroundings } from './damage-text.js'
import { withProgress } from './progress.js'
import { columns, count, toJson } from './report.js'

interface Flags {
  json?: boolean
  records?: number
}

export function addInspect(jlog: Command): void {
  jlog
    .command('inspect')
    .description(
      'look for damage and change nothing; exits 1 when there is any, or a segment is missing',
    )
    .argument('<dir>')
    .option('--json', 'print one JSON document; with --records, a line each')
    .option(
      '--records <segment>',
      'instead: each record and each damaged range of one segment, given as 0000001f',
      segmentNumber,
    )
    .addHelpText('after', '\nExample:\n  bobbin jlog inspect ./mail.jlog')
    .action(async (dir: string, { json, records }: Flags) => {
      if (records !== undefined) return listRecords(dir, records, json)
      const found = await withProgress((onProgress) => inspectJournal(dir, { onProgress }))
      await print(json ? `${JSON.stringify(toJson(found))}\n` : describe(found))
      // A missing segment is nothing that a repair could mend, but a problem all the same.
      if (!found.sound || found.missing.length > 0) process.exitCode = EXIT.failed
    })
}

function segmentNumber(text: string): number {
  if (/^[0-9a-f]{1,8}$/i.test(text)) return Number.parseInt(text, 16)
  throw new InvalidArgumentError('Give the hexadecimal name of a segment, as 0000001f.')
}

function describe(found: JournalInspection): string {
  const { sound, records, segments, subscribers, missing } = found
  const state = !sound ? 'damaged' : missing.length > 0 ? 'incomplete' : 'sound'
  const rows = segments.map((one) => [
    one.file,
    one.records,
    one.bytes,
    one.damagedBytes,
    one.index,
    one.sound ? 'sound' : 'to be repaired',
  ])
  const head = ['segment', 'records', 'bytes', 'damaged', 'index', 'state']
  return [
    `${state}: ${count(records, 'record')} in ${count(segments.length, 'segment')}\n`,
    rows.length === 0 ? '' : `\n${columns([head, ...rows])}`,
    ...segments.map(({ file, damage, omitted }) => describeDamage(file, damage, omitted)),
    describeCheckpoints(subscribers, 'repair would put it at'),
    describeSurroundings(found),
  ].join('')
}

async function listRecords(dir: string, log: number, json = false): Promise<void> {
  for await (const found of inspectSegment(dir, log)) {
    if (found.kind === 'damaged') process.exitCode = EXIT.failed
    if (json) {
      await print(`${JSON.stringify(toJson(found))}\n`)
    } else if (found.kind === 'damaged') {
      const { offset, end, reason } = found
      await print(`damage             at ${offset}  ${count(end - offset, 'byte')}  ${reason}\n`)
    } else {
      const { id, offset, sec, usec, size } = found
      const time = new Date(sec * 1000).toISOString().slice(0, 19)
      const micros = String(usec).padStart(6, '0')
      await print(`${id}  at ${offset}  ${count(size, 'byte')}  ${time}.${micros}Z\n`)
    }
  }
}
