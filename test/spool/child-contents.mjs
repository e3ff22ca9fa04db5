// Shares, replaces, drops, copies and removes contents of the spool in argv[2] until it is killed. Says on
// standard output, a JSON line each, what it was told is durable: a message and the SHA-256 of its content.
import { randomBytes } from 'node:crypto'
import { writeSync } from 'node:fs'
import { openSpool } from '../../dist/spool/index.js'

const spool = await openSpool({ path: process.argv[2], largeMessageThreshold: 20_000 })
const say = (id, sha256) => writeSync(1, `${JSON.stringify({ id, sha256 })}\n`)
const body = () => randomBytes((Math.random() ** 2 * 60_000) | 0)
const envelope = { mailfrom: '', rcptto: ['a@example.com', 'b@example.com'] }

/** Each works on messages of its own, so that what it says of them comes in the order of the changes. */
async function worker() {
  const mine = new Map()
  const add = ({ ids, sha256 }) => {
    for (const id of ids) {
      mine.set(id, sha256)
      say(id, sha256)
    }
  }
  const pick = () => [...mine.keys()][(Math.random() * mine.size) | 0]
  for (;;) {
    if (mine.size < 5) add(await spool.swapOut({ ...envelope, body: body() }))
    const id = pick()
    const dice = Math.random()
    const hasContent = mine.get(id) !== 'dropped'
    if (mine.size > 30 || dice < 0.2) {
      mine.delete(id)
      say(id, 'any')
      await spool.swapRemove(id)
    } else if (dice < 0.45) {
      say(id, 'any')
      const { sha256 } = await spool.swapOutContent(id, body())
      mine.set(id, sha256)
      say(id, sha256)
    } else if (dice < 0.6 && hasContent) {
      say(id, 'any')
      await spool.swapRemoveContent(id)
      mine.set(id, 'dropped')
      say(id, 'dropped')
    } else if (dice < 0.8 && hasContent) {
      add(await spool.swapOut({ ...envelope, body: { refs: id } }))
    } else if (hasContent) {
      add(await spool.copy(id, { share: dice < 0.9 }))
    }
  }
}

for (let n = 0; n < 16; n++) void worker()
