/**
 * Reads as a subscriber, piece by piece, with a checkpoint after each piece, until it has reached the id in FINISH.
 * Prints `r <log> <marker> <who> <n>` for each record before it checkpoints, and `try <log> <marker>` before, `done …` after
 * the checkpoint. Usage: subscriber.mjs DIR NAME FINISH SEED
 */
import { setTimeout as delay } from 'node:timers/promises'
import { openReader } from '../../../dist/jlog/index.js'
import { finalId, labelOf, Output, randomFrom, reached } from './common.mjs'

const [dir, name, finish, seed] = process.argv.slice(2)
const random = randomFrom(Number(seed))
const output = new Output()
const reader = await openReader(dir, name)

for (;;) {
  const interval = await reader.readInterval()
  if (interval === null) {
    if (reached(await reader.position(), finalId(finish))) break
    await delay(2)
    continue
  }
  // Also one by one, and what comes next must be the same.
  const single = random() < 0.1 ? labelOf((await reader.read(interval.first)).payload) : null
  let last = null
  do {
    const batch = await reader.readBatch({ maxRecords: 1 + Math.floor(random() * 300) })
    if (batch.length === 0) break
    for (const { id, payload } of batch) {
      const label = labelOf(payload)
      if (single !== null && id.marker === interval.first.marker && label !== single)
        output.line(`r ${id.log} ${id.marker} read-otherwise ${single}`)
      output.line(`r ${id.log} ${id.marker} ${label}`)
    }
    last = batch.last
    batch.release()
  } while (random() < 0.7)
  output.line(`try ${last.log} ${last.marker}`)
  output.flush()
  await reader.checkpoint(last)
  output.line(`done ${last.log} ${last.marker}`)
  output.flush()
}
await reader.close()
