// Takes a body of argv[3] MiB in and out through the spool in argv[2], and prints by how much the process
// grew at most, in bytes, beyond what it was after a first small message.
import { createHash } from 'node:crypto'
import { openSpool } from '../../dist/spool/index.js'

const [path, mebibytes] = process.argv.slice(2)
const MIB = 1024 * 1024

const spool = await openSpool({ path })
const PIECE = 64 * 1024 // as a socket gives them

async function* source(count) {
  for (let i = 0; i < (count * MIB) / PIECE; i++) {
    const piece = Buffer.alloc(PIECE, 'abcdefg')
    piece.writeUInt32BE(i)
    yield piece
  }
}

async function through(count) {
  const hashing = createHash('sha256')
  const body = await spool.stageBody(source(count))
  const { ids } = await spool.swapOut({ mailfrom: '', rcptto: ['a@example.org'], body })
  const back = await spool.swapIn(ids[0])
  let size = 0
  for await (const part of back.stream) {
    size += part.length
    hashing.update(part)
  }
  if (size !== count * MIB || hashing.digest('hex') !== back.sha256) throw new Error('other bytes')
  await spool.swapRemove(ids[0])
}

await through(1)
const before = process.memoryUsage.rss()
let most = before
const watch = setInterval(() => {
  most = Math.max(most, process.memoryUsage.rss())
}, 5)
await through(Number(mebibytes))
clearInterval(watch)
most = Math.max(most, process.memoryUsage.rss())
await spool.close()
console.log(JSON.stringify({ before, most, grown: most - before }))
