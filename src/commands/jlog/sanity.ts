/** `bobbin jlog sanity` and `endian`: a look whether everything fits together, and journals from hosts of the other byte order. */
import type { Command } from 'commander'
import {
  type ByteOrder,
  changeEndian,
  checkSanity,
  type SanityReport,
} from '../../../jlog/index.js'
import { choice, EXIT, print } from '../../program.js'
import { columns, count, toJson } from './report.js'

const byteOrder = choice(['little', 'big'])

export function addSanity(jlog: Command): void {
  jlog
    .command('sanity')
    .description(
      'see whether everything in a journal fits together, changing nothing; exits 1 when something does not',
    )
    .argument('<dir>')
    .option('--order <byte order>', 'little or big', byteOrder, 'little')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  bobbin jlog sanity ./mail.jlog')
    .action(async (dir: string, { order, json }: { order: ByteOrder; json?: boolean }) => {
      const report = await checkSanity(dir, order)
      await print(json ? `${JSON.stringify(toJson(report))}\n` : describe(report))
      if (report.problems.length > 0) process.exitCode = EXIT.failed
    })
}

function describe({ segments, problems }: SanityReport): string {
  const records = segments.reduce((sum, segment) => sum + segment.records, 0)
  const rows = problems.map(({ file, offset, kind, what }) => [
    offset === undefined ? file : `${file} at ${offset}`,
    kind,
    what,
  ])
  return (
    `${count(records, 'record')} in ${count(segments.length, 'segment')}, ` +
    `${problems.length === 0 ? 'everything fits' : count(problems.length, 'problem')}\n` +
    (rows.length === 0 ? '' : `\n${columns(rows)}`)
  )
}

export function addEndian(jlog: Command): void {
  jlog
    .command('endian')
    .description(
      'change the byte order of a journal that nobody uses; in place, the old one is kept beside it',
    )
    .argument('<dir>')
    .requiredOption('--to <byte order>', 'little or big', byteOrder)
    .option(
      '--output <dir>',
      'write to a directory that is not there yet, and leave the source alone',
    )
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExample:\n  bobbin jlog endian ./from-sparc.jlog --to little --output ./mail.jlog',
    )
    .action(async (dir: string, { to, output, json }: EndianFlags) => {
      const done = await changeEndian(dir, {
        to,
        ...(output === undefined ? {} : { destination: output }),
      })
      if (json) return print(`${JSON.stringify(toJson(done))}\n`)
      const { directory, original, records, segments, leftOut } = done
      await print(
        `${directory}: ${count(records, 'record')} in ${count(segments, 'segment')}, ${to}-endian\n` +
          `as it was: ${original}\n` +
          (leftOut.length === 0 ? '' : `left out: ${leftOut.join(', ')}\n`),
      )
    })
}

interface EndianFlags {
  to: ByteOrder
  output?: string
  json?: boolean
}
