/** `bobbin jlog cat` and `tail`: records of a journal, at rest and as they come. Neither moves a checkpoint nor writes anything. */
import type { Command } from 'commander'
import { getCheckpoint, type LogId, readRecords } from '../../../jlog/index.js'
import { bytesOfArgument } from '../../arguments.js'
import { DamageLog } from './damage-log.js'
import { after, followOn } from './follow-on.js'
import { place } from './options.js'
import { printRecords } from './record-output.js'

export function addCat(jlog: Command): void {
  jlog
    .command('cat')
    .description(
      'print every record that can be read, each with a newline at its end; damage is told, passed over, and exits 1',
    )
    .argument('<dir>')
    .option('--subscriber <name>', "from this subscriber's checkpoint on")
    .option('--json', 'a line of JSON each, payloads in base64')
    .option('--verify', 'compare each record with its checksum, where it has one')
    .addHelpText(
      'after',
      '\nExample:\n  bobbin jlog cat ./mail.jlog --subscriber archive --json | head',
    )
    .action(async (dir: string, { subscriber, json, verify = false }: CatFlags) => {
      const damage = new DamageLog()
      const output = { ...(json ? { json } : {}), onUnreadable: damage.unreadable.bind(damage) }
      const from =
        subscriber === undefined ? undefined : await getCheckpoint(dir, bytesOfArgument(subscriber))
      for await (const batch of readRecords(dir, {
        ...(from === undefined ? {} : { after: from }),
        onDamage: 'skip',
        verify,
        onSkipped: damage.skipped.bind(damage),
      })) {
        await printRecords(from === undefined ? batch : after(batch, from), output)
      }
      damage.finish()
    })
}

interface CatFlags {
  subscriber?: string
  json?: boolean
  verify?: boolean
}

export function addTail(jlog: Command): void {
  jlog
    .command('tail')
    .description(
      'print records as they are written, until interrupted; damage in a finished segment is told and passed over',
    )
    .argument('<dir>')
    .option('--from <where>', 'begin, end, or a log id: what comes after it', place, 'end')
    .option('--json', 'a line of JSON each, payloads in base64')
    .addHelpText('after', '\nExample:\n  bobbin jlog tail ./mail.jlog --from 00000003:0000001f')
    .action(
      async (dir: string, { from, json }: { from: LogId | 'begin' | 'end'; json?: boolean }) => {
        const damage = new DamageLog()
        const onUnreadable = damage.unreadable.bind(damage)
        const signal = interrupted()
        for await (const batch of followOn(dir, from, { signal, onDamage: onUnreadable })) {
          await printRecords(batch, { ...(json ? { json } : {}), onUnreadable })
        }
        damage.finish()
      },
    )
}

/** Aborts at the first SIGTERM or SIGINT; a second one ends the process as it would any. */
export function interrupted(): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort())
  return stop.signal
}
