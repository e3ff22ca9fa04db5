/**
 * Reading a journal in order, against reading the same files unparsed in 1 MiB pieces, in the same run. Rounds of all
 * take turns; what is printed is the median of the rounds. Each way of reading does the same work a record that its user would:
 * `lengths` asks for each record's size, `payloads` makes a view of each payload, `records` a whole record object.
 * Usage: node bench/jlog-read.mjs [--dir DIR] [--mib N] [--rounds N] [--size BYTES] [--compression off|none|lz4]
 */
import { closeSync, openSync, readdirSync, readSync, rmSync } from 'node:fs'
import { mkdtemp, open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  addSubscriber,
  createJournal,
  describeJournal,
  openReader,
  openWriter,
  readRecords,
  setCheckpoint,
} from '../dist/jlog/index.js'

const { values } = parseArgs({
  options: {
    dir: { type: 'string', default: tmpdir() },
    mib: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '5' },
    size: { type: 'string', default: '100' },
    compression: { type: 'string', default: 'off' },
  },
})
const ROUNDS = Number(values.rounds)
const SIZE = Number(values.size)
const MIB = 1024 * 1024

const scratch = await mkdtemp(join(values.dir, 'bobbin-bench-'))
const dir = join(scratch, 'journal')
await fill()
const { records, bytes } = await describeJournal(dir)
const segments = readdirSync(dir)
  .filter((name) => /^[0-9a-f]{8}$/.test(name))
  .sort()

async function fill() {
  await createJournal(dir, { compression: values.compression, subscribers: ['s'] })
  const writer = await openWriter(dir)
  const payload = Buffer.from(
    'a line of a mail log, as it is written by the thousand: '.repeat(Math.ceil(SIZE / 50)),
  ).subarray(0, SIZE)
  const batch = Array(1000).fill(payload)
  const count = Math.ceil((Number(values.mib) * MIB) / (SIZE + 16))
  for (let i = 0; i < count; i += batch.length) await writer.appendBatch(batch)
  await writer.close()
}

function unparsedSync() {
  const chunk = Buffer.allocUnsafeSlow(MIB)
  for (const name of segments) {
    const fd = openSync(join(dir, name))
    for (let at = 0, n = 1; n > 0; at += n) n = readSync(fd, chunk, 0, MIB, at)
    closeSync(fd)
  }
}

async function unparsed() {
  const chunk = Buffer.allocUnsafeSlow(MIB)
  for (const name of segments) {
    const file = await open(join(dir, name))
    for (let at = 0, n = 1; n > 0; at += n) n = (await file.read(chunk, 0, MIB, at)).bytesRead
    await file.close()
  }
}

let seen = 0

function lengths(batch) {
  for (let i = 0; i < batch.length; i++) seen += batch.size(i)
}

function payloads(batch) {
  for (let i = 0; i < batch.length; i++) seen += batch.payload(i).length
}

function whole(batch) {
  for (const record of batch) seen += record.payload.length
}

const atRest = (use, release) => async () => {
  for await (const batch of readRecords(dir)) {
    use(batch)
    if (release) batch.release()
  }
}

/** As a subscriber does it, checkpoints included, from the beginning; the indexes are there after the first round. */
const subscribed = (use) => async () => {
  await setCheckpoint(dir, 's', { log: 0, marker: 0 })
  const reader = await openReader(dir, 's')
  for (
    let interval = await reader.readInterval();
    interval !== null;
    interval = await reader.readInterval()
  ) {
    for (let batch = await reader.readBatch(); batch.length > 0; batch = await reader.readBatch()) {
      use(batch)
      batch.release()
    }
    await reader.checkpoint(interval.last)
  }
  await reader.close()
}

await addSubscriber(dir, 'keeper')
const ways = {
  'unparsed, readSync': unparsedSync,
  'unparsed, read': unparsed,
  'readRecords, lengths': atRest(lengths, true),
  'readRecords, lengths, bytes kept': atRest(lengths, false),
  'readRecords, payloads': atRest(payloads, true),
  'readRecords, records': atRest(whole, true),
  'reader, lengths': subscribed(lengths),
  'reader, payloads': subscribed(payloads),
}
const seconds = Object.fromEntries(Object.keys(ways).map((name) => [name, []]))
for (let round = 0; round <= ROUNDS; round++) {
  for (const [name, way] of Object.entries(ways)) {
    const start = process.hrtime.bigint()
    await way()
    if (round > 0) seconds[name].push(Number(process.hrtime.bigint() - start) / 1e9)
  }
}
rmSync(scratch, { recursive: true })

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]
const against = (name, base) => median(seconds[name].map((s, i) => seconds[base][i] / s))
console.log(
  `${records} records of ${SIZE} B, ${(bytes / MIB).toFixed(0)} MiB in ${segments.length} segments, ${values.compression}; median of ${ROUNDS} rounds`,
)
console.table(
  Object.fromEntries(
    Object.keys(ways).map((name) => [
      name,
      {
        'M records/s': Number((records / median(seconds[name]) / 1e6).toFixed(2)),
        'GB/s': Number((bytes / median(seconds[name]) / 1e9).toFixed(2)),
        'of readSync': Number(against(name, 'unparsed, readSync').toFixed(2)),
        'of read': Number(against(name, 'unparsed, read').toFixed(2)),
      },
    ]),
  ),
)
if (seen === 0) throw new Error('nothing was read')
