/** `bobbin jlog clean`: room taken back from what all subscribers have read. */
import type { Command } from 'commander'
import { cleanJournal } from '../../../jlog/index.js'
import { print } from '../../program.js'
import { segmentName } from './report.js'

export function addClean(jlog: Command): void {
  jlog
    .command('clean')
    .description(
      'remove the segments that every subscriber has read; never the one being written, and none without subscribers',
    )
    .argument('<dir>')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExample:\n  bobbin jlog clean ./mail.jlog')
    .action(async (dir: string, { json }: { json?: boolean }) => {
      const removed = (await cleanJournal(dir)).map(segmentName)
      if (json) await print(`${JSON.stringify({ removed })}\n`)
      else
        await print(
          removed.length === 0 ? 'nothing to remove\n' : `removed ${removed.join(', ')}\n`,
        )
    })
}
