#!/usr/bin/env node
/**
 * `jlogtail DIR`: what is appended to a journal from now on, a line a record, until SIGINT, SIGTERM or a closed pipe. A drop-in for libjlog's;
 * needs no subscriber, so none is left behind.
 */
import { interrupted } from './commands/jlog/cat.js'
import { DamageLog } from './commands/jlog/damage-log.js'
import { followOn } from './commands/jlog/follow-on.js'
import { printRecords } from './commands/jlog/record-output.js'
import { printError, runTool } from './tool.js'

const EMPTY = '... empty message ...'

await runTool('jlogtail', async () => {
  const [dir, ...more] = process.argv.slice(2)
  if (dir === undefined || more.length > 0) {
    await printError('usage: jlogtail /path/to/jlog\n')
    return 1
  }
  const damage = new DamageLog('jlogtail')
  const onUnreadable = damage.unreadable.bind(damage)
  for await (const batch of followOn(dir, 'end', {
    signal: interrupted(),
    onDamage: onUnreadable,
  })) {
    await printRecords(batch, { empty: EMPTY, onUnreadable })
  }
  return 0
})
