/**
 * Goes round a journal until the file FINISH is there: `clean` removes what nobody needs; `index` brings indexes up to date as
 * a subscriber that comes and goes; `look` asks everything that can be asked; `repair` repairs what needs none.
 * Usage: caretaker.mjs DIR clean|index|look|repair FINISH
 */
import { existsSync, writeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import {
  addSubscriber,
  cleanJournal,
  describeJournal,
  inspectJournal,
  lastId,
  openReader,
  removeSubscriber,
  repairJournal,
} from '../../../dist/jlog/index.js'

const [dir, task, finish] = process.argv.slice(2)

async function index() {
  const name = 'indexer'
  await addSubscriber(dir, name).catch((error) => {
    // One that was killed has left it.
    if (error.code !== 'JLOG_ERR_SUBSCRIBER_EXISTS') throw error
  })
  const reader = await openReader(dir, name)
  for (let rounds = 0; rounds < 30; rounds++) {
    const interval = await reader.readInterval()
    if (interval !== null) await reader.checkpoint(interval.last)
  }
  await reader.close()
  await removeSubscriber(dir, name)
}

async function look() {
  await lastId(dir)
  await describeJournal(dir)
  await inspectJournal(dir)
}

const work = { clean: () => cleanJournal(dir), index, look, repair: () => repairJournal(dir) }[task]
while (!existsSync(finish)) {
  await work()
  writeSync(1, '.')
  await delay(task === 'look' || task === 'repair' ? 200 : 5)
}
