/**
 * Ten million records through one process, as a writer, a subscriber who checkpoints, a follower and one who reads all that is there.
 * Prints its memory (RSS, bytes) after each million. Usage: flat.mjs DIR COMPRESSION
 */
import { writeSync } from 'node:fs'
import {
  createJournal,
  follow,
  openReader,
  openWriter,
  readRecords,
} from '../../../dist/jlog/index.js'

const [dir, compression] = process.argv.slice(2)
const ROUNDS = 10
const BATCHES = 1000
await createJournal(dir, { compression, subscribers: ['s'] })
const writer = await openWriter(dir)
const reader = await openReader(dir, 's')
const tail = follow(dir, { from: 'begin' })
const batch = Array(1000).fill(
  Buffer.alloc(100, 'a line of a mail log, as it is written by the thousand: '),
)
const seen = { subscriber: 0, follower: 0, atRest: 0 }

for (let round = 1; round <= ROUNDS; round++) {
  for (let i = 0; i < BATCHES; i++) {
    await writer.ready()
    await writer.appendBatch(batch)
  }
  for await (const found of readRecords(dir)) {
    for (let i = 0; i < found.length; i += 100) found.payload(i)
    seen.atRest += found.length
  }
  // The follower first: what the subscriber has read is removed.
  while (seen.follower < round * BATCHES * 1000) seen.follower += (await tail.next()).value.length
  for (let next = await reader.readInterval(); next; next = await reader.readInterval()) {
    for (let got = await reader.readBatch(); got.length > 0; got = await reader.readBatch()) {
      seen.subscriber += got.length
      // Some give their batches back, and some do not.
      if (round % 2 === 0) got.release()
    }
    await reader.checkpoint(next.last)
  }
  writeSync(1, `${process.memoryUsage.rss()}\n`)
}
await tail.return()
await reader.close()
await writer.close()
writeSync(1, `${JSON.stringify(seen)}\n`)
