/**
 * Appending to a journal, against plain writes of the same bytes in 1 MiB pieces, in the same run and on the same
 * disk. Rounds of both take turns, so that a slow moment of the machine hits both; what is printed is the median of the
 * rounds' ratios. Where nothing waits for a sync, bare loops show what is to be had: the same headers and payloads put into a buffer
 * that is written in aligned pieces of 512 KiB, without locks, ids or promises; into one file, and into files of 4 MiB that
 * are synced in the background, as a journal's segments are.
 *
 * A writer of safety 1 syncs the segments that it finished. The rows with "then sync" compare it with plain writes that end with a
 * sync, too; the others with plain writes of which none is on the disk yet.
 *
 * Files are emptied after a round and removed at the end: ext4 passes over each inode that was freed in the last minutes
 * when it makes a file, which would be measured otherwise. What making one costs is printed; where it is much more than
 * some 50 µs, files were removed shortly before.
 * Usage: node bench/jlog-append.mjs [--dir DIR] [--mib N] [--rounds N] [--only NAME]
 */
import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { createJournal, openWriter } from '../dist/jlog/index.js'

const { values } = parseArgs({
  options: {
    dir: { type: 'string', default: tmpdir() },
    mib: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '7' },
    only: { type: 'string' },
  },
})
const TOTAL_BYTES = Number(values.mib) * 1024 * 1024
const ROUNDS = Number(values.rounds)
/** Until then functions are compiled and memory is faulted in, beside what is measured. */
const WARM_UP_ROUNDS = 3
const HEADER_BYTES = 16
const MIB = Buffer.alloc(1024 * 1024, 'm')
const SEGMENT_BYTES = 4 * 1024 * 1024
const LARGE_SEGMENT_BYTES = 64 * 1024 * 1024
const LOOP_BYTES = 512 * 1024
const setBytes = Uint8Array.prototype.set

const scratch = mkdtempSync(join(values.dir, 'bobbin-bench-'))
let serial = 0

/** The same bytes as plain writes of 1 MiB; `sync` after each, and once at the end when `finalSync`. */
function plain(bytes, { sync = false, finalSync = false } = {}) {
  const path = join(scratch, `plain-${serial++}`)
  const fd = openSync(path, 'w')
  const seconds = timeNow(() => {
    for (let at = 0; at < bytes; at += MIB.length) {
      writeSync(fd, MIB)
      if (sync) fdatasyncSync(fd)
    }
    if (finalSync) fdatasyncSync(fd)
  })
  closeSync(fd)
  truncateSync(path)
  return bytes / seconds
}

/** The same records by a bare loop, into files of `fileBytes` that are synced in the background. */
async function bareLoop(bytes, size, fileBytes = Number.POSITIVE_INFINITY) {
  const records = payloads(size, size < 1000 ? 1000 : 256)
  const buffer = Buffer.allocUnsafeSlow(LOOP_BYTES + HEADER_BYTES + size)
  const words = new DataView(buffer.buffer)
  const paths = []
  const syncs = []
  const seconds = timeNow(() => {
    let used = 0
    let written = fileBytes
    let fd = -1
    for (let left = bytes; left > 0; left -= LOOP_BYTES) {
      if (written >= fileBytes) {
        if (fd >= 0) syncs.push(finish(fd))
        paths.push(join(scratch, `loop-${serial++}`))
        fd = openSync(paths.at(-1), 'w')
        written = 0
      }
      used = fill(buffer, words, used, records)
      writeSync(fd, buffer, 0, LOOP_BYTES, written)
      buffer.copyWithin(0, LOOP_BYTES, used)
      used -= LOOP_BYTES
      written += LOOP_BYTES
    }
    syncs.push(finish(fd))
  })
  await Promise.all(syncs)
  for (const path of paths) truncateSync(path)
  return bytes / seconds
}

/** Puts records at `used` and behind until a piece is full. */
function fill(buffer, words, used, records) {
  let at = used
  for (let i = 0; at < LOOP_BYTES; i = i + 1 < records.length ? i + 1 : 0) {
    const record = records[i]
    words.setInt32(at, 0x663a7318, true)
    words.setInt32(at + 4, i, true)
    words.setInt32(at + 8, 0, true)
    words.setInt32(at + 12, record.length, true)
    setBytes.call(buffer, record, at + HEADER_BYTES)
    at += HEADER_BYTES + record.length
  }
  return at
}

async function finish(fd) {
  await promisify(fdatasync)(fd)
  closeSync(fd)
}

function timeNow(work) {
  const start = process.hrtime.bigint()
  work()
  return Number(process.hrtime.bigint() - start) / 1e9
}

/** Bytes on disk a second with which `work(writer)` appends `bytes` to a new journal. */
async function journal(bytes, create, work, finalSync = false) {
  const dir = join(scratch, `journal-${serial++}`)
  await createJournal(dir, create)
  const writer = await openWriter(dir)
  const start = process.hrtime.bigint()
  await work(writer)
  if (finalSync) await writer.sync()
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  await writer.close()
  for (const name of readdirSync(dir)) truncateSync(join(dir, name))
  return bytes / seconds
}

/** Appends the records again and again, as fast as the writer is ready for them. */
async function inBatches(writer, records, count) {
  const settled = []
  for (let left = count; left > 0; left -= records.length) {
    settled.push(writer.appendBatch(records))
    await writer.ready()
  }
  await Promise.all(settled)
}

/** `inFlight` callers that each append one record after the other. */
async function singles(writer, record, count, inFlight) {
  let left = count
  const caller = async () => {
    while (left-- > 0) await writer.append(record)
  }
  await Promise.all(Array.from({ length: inFlight }, caller))
}

function payloads(bytes, count) {
  return Array.from({ length: count }, (_, i) => Buffer.alloc(bytes, `record ${i} of a batch; `))
}

/** A case: appends batches of so many records, which are made before the clock runs. */
function batches(size, perBatch, create, finalSync = false) {
  return (count, bytes) => {
    const records = payloads(size, perBatch)
    return journal(bytes, create, (writer) => inBatches(writer, records, count), finalSync)
  }
}

/** A case: appends of one 1 KiB record each, 1,024 in flight. */
function single(create) {
  return (count, bytes) => {
    const [record] = payloads(1024, 1)
    return journal(bytes, create, (writer) => singles(writer, record, count, 1024))
  }
}

const cases = [
  {
    name: '100 B, safety 1, batches of 1,000',
    target: 0.5,
    record: 100,
    run: batches(100, 1000, { safety: 1 }),
    base: (bytes) => plain(bytes),
    loops: true,
  },
  {
    name: '100 B, safety 1, segments of 64 MiB',
    target: 0.5,
    record: 100,
    run: batches(100, 1000, { safety: 1, unitLimit: LARGE_SEGMENT_BYTES }),
    base: (bytes) => plain(bytes),
  },
  {
    name: '100 B, safety 1, then sync',
    record: 100,
    run: batches(100, 1000, { safety: 1 }, true),
    base: (bytes) => plain(bytes, { finalSync: true }),
  },
  {
    name: '1 KiB, safety 1, batches of 256',
    target: 0.8,
    record: 1024,
    run: batches(1024, 256, { safety: 1 }),
    base: (bytes) => plain(bytes),
    loops: true,
  },
  {
    name: '1 KiB, safety 1, segments of 64 MiB',
    target: 0.8,
    record: 1024,
    run: batches(1024, 256, { safety: 1, unitLimit: LARGE_SEGMENT_BYTES }),
    base: (bytes) => plain(bytes),
  },
  {
    name: '1 KiB, safety 1, then sync',
    record: 1024,
    run: batches(1024, 256, { safety: 1 }, true),
    base: (bytes) => plain(bytes, { finalSync: true }),
  },
  {
    name: '1 KiB, safety 2, 1,024 single appends in flight',
    target: 0.5,
    record: 1024,
    run: single({ safety: 2 }),
    base: (bytes) => plain(bytes, { sync: true }),
  },
  {
    name: '1 KiB, safety 1, 1,024 single appends in flight',
    record: 1024,
    run: single({ safety: 1 }),
    base: (bytes) => plain(bytes),
  },
  {
    name: '1 KiB, LZ4, batches of 256 (target: 0.4 M records/s)',
    record: 1024,
    run: batches(1024, 256, { compression: 'lz4' }),
    base: (bytes) => plain(bytes),
  },
]

function printRow(what, ...figures) {
  console.log(what.padEnd(56), ...figures.map((figure) => String(figure).padStart(11)))
}

/** Microseconds that making a file takes, here and now. */
function creation() {
  const times = Array.from({ length: 100 }, () => {
    return timeNow(() => closeSync(openSync(join(scratch, `made-${serial++}`), 'wx'))) * 1e6
  })
  return median(times).toFixed(0)
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]

try {
  plain(TOTAL_BYTES)
  console.log(
    `${values.mib} MiB a round, ${ROUNDS} rounds; baseline: plain 1 MiB writes of the same bytes; a file is made in ${creation()} µs`,
  )
  printRow('case', 'M records/s', 'MiB/s', 'plain', 'ratio', 'target')
  for (const { name, target, record, run, base, loops } of cases) {
    if (values.only && !name.includes(values.only)) continue
    const count = Math.floor(TOTAL_BYTES / (record + HEADER_BYTES))
    const bytes = count * (record + HEADER_BYTES)
    const contenders = [[name, () => run(count, bytes), target]]
    if (loops) {
      contenders.push(
        ['  a bare loop into one file', () => bareLoop(bytes, record)],
        ['  a bare loop into synced files of 4 MiB', () => bareLoop(bytes, record, SEGMENT_BYTES)],
      )
    }
    const rounds = contenders.map(() => [])
    for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
      for (const [i, [, measure]] of contenders.entries()) {
        const before = base(bytes)
        const speed = await measure()
        const baseline = (before + base(bytes)) / 2
        if (round >= 0) rounds[i].push({ speed, baseline, ratio: speed / baseline })
      }
    }
    for (const [i, [what, , target]] of contenders.entries()) {
      const middle = (key) => median(rounds[i].map((one) => one[key]))
      const speed = middle('speed')
      printRow(
        what,
        (speed / (record + HEADER_BYTES) / 1e6).toFixed(2),
        (speed / 2 ** 20).toFixed(0),
        (middle('baseline') / 2 ** 20).toFixed(0),
        middle('ratio').toFixed(2),
        target ?? '',
      )
    }
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
