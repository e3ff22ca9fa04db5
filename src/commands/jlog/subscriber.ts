/** `bobbin jlog subscriber …`: who reads a journal, and from where. */
import type { Command } from 'commander'
import {
  addSubscriber,
  checkpointAt,
  describeJournal,
  formatLogId,
  type LogId,
  removeSubscriber,
  setCheckpoint,
} from '../../../jlog/index.js'
import { print } from '../../program.js'
import { logId, place, subscriberName } from './options.js'
import { columns } from './report.js'

interface Flags {
  hex?: boolean
  json?: boolean
}

const HEX = ['--hex', 'names are hexadecimal digits, for those that are no text'] as const

export function addSubscribers(jlog: Command): void {
  const subscriber = jlog.command('subscriber').description('who reads a journal, and from where')

  subscriber
    .command('list')
    .description('list the subscribers, sorted by name, with what they have not read')
    .argument('<dir>')
    .option('--json', 'a line of JSON each')
    .addHelpText('after', '\nExample:\n  bobbin jlog subscriber list ./mail.jlog')
    .action(async (dir: string, { json }: Flags) => {
      const { subscribers } = await describeJournal(dir)
      const facts = subscribers.map(({ name, nameBytes, checkpoint, lag }) => ({
        name,
        name_hex: nameBytes.toString('hex'),
        checkpoint: formatLogId(checkpoint),
        lag_records: lag.records,
        lag_bytes: lag.bytes,
      }))
      if (json) {
        for (const one of facts) await print(`${JSON.stringify(one)}\n`)
      } else if (facts.length > 0) {
        const rows = facts.map((one) => [
          JSON.stringify(one.name),
          one.checkpoint,
          one.lag_records,
          one.lag_bytes,
        ])
        await print(
          columns([['subscriber', 'has read up to', 'records left', 'bytes left'], ...rows]),
        )
      }
    })

  subscriber
    .command('add')
    .description('add a subscriber')
    .argument('<dir>')
    .argument('<name>')
    .option('--at <where>', 'begin, end, or the log id that counts as read last', place, 'begin')
    .option(...HEX)
    .addHelpText('after', '\nExample:\n  bobbin jlog subscriber add ./mail.jlog archive --at end')
    .action(
      async (dir: string, name: string, { at, hex }: Flags & { at: LogId | 'begin' | 'end' }) =>
        tell(await addSubscriber(dir, subscriberName(name, hex), await whence(dir, at))),
    )

  subscriber
    .command('remove')
    .description('remove a subscriber; what only it still needed can be cleaned afterwards')
    .argument('<dir>')
    .argument('<name>')
    .option(...HEX)
    .addHelpText('after', '\nExample:\n  bobbin jlog subscriber remove ./mail.jlog archive')
    .action((dir: string, name: string, { hex }: Flags) =>
      removeSubscriber(dir, subscriberName(name, hex)),
    )

  subscriber
    .command('set')
    .description(
      'set the checkpoint: everything up to and including the id counts as read; tells where it stands',
    )
    .argument('<dir>')
    .argument('<name>')
    .argument('<id>', 'a log id, as 00000003:0000001f', logId)
    .option(...HEX)
    .addHelpText(
      'after',
      '\nExample:\n  bobbin jlog subscriber set ./mail.jlog archive 00000003:0000001f',
    )
    .action(async (dir: string, name: string, id: LogId, { hex }: Flags) => {
      const place = await checkpointAt(dir, id)
      await setCheckpoint(dir, subscriberName(name, hex), place)
      await tell(place)
    })

  subscriber
    .command('copy')
    .description('add a subscriber where another one stands')
    .argument('<dir>')
    .argument('<from>', 'one that is there')
    .argument('<name>', 'the new one')
    .option(...HEX)
    .addHelpText(
      'after',
      '\nExample:\n  bobbin jlog subscriber copy ./mail.jlog archive archive-test',
    )
    .action(async (dir: string, from: string, name: string, { hex }: Flags) =>
      tell(
        await addSubscriber(dir, subscriberName(name, hex), { copy: subscriberName(from, hex) }),
      ),
    )
}

async function whence(dir: string, at: LogId | 'begin' | 'end'): Promise<LogId | 'begin' | 'end'> {
  return typeof at === 'string' ? at : checkpointAt(dir, at)
}

async function tell(checkpoint: LogId): Promise<void> {
  await print(`${formatLogId(checkpoint)}\n`)
}
