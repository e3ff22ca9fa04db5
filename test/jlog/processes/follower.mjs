/**
 * Follows a journal from an id on (or `begin`) until it has seen the record with the id in FINISH. Prints as a subscriber does.
 * Usage: follower.mjs DIR FINISH FROM
 */
import { follow } from '../../../dist/jlog/index.js'
import { finalId, labelOf, Output, reached } from './common.mjs'

const [dir, finish, from] = process.argv.slice(2)
const [log, marker] = from.split(' ').map(Number)
const output = new Output()
const stop = new AbortController()
let last = from === 'begin' ? { log: 0, marker: 0 } : { log, marker }

const look = setInterval(() => {
  const final = finalId(finish)
  // A segment that was begun, and has no record, is never seen.
  const seen = final?.marker === 0 ? { log: last.log + 1, marker: 0 } : last
  if (reached(seen, final)) stop.abort()
}, 20)
for await (const batch of follow(dir, {
  from: from === 'begin' ? from : last,
  signal: stop.signal,
})) {
  for (const { id, payload } of batch) output.line(`r ${id.log} ${id.marker} ${labelOf(payload)}`)
  output.flush()
  last = batch.last
  batch.release()
}
clearInterval(look)
