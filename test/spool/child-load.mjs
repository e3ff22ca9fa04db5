// Loads the spool in argv[2] until it is killed: 32 writers with bodies of 0 to 120 KB and now and then
// a large one, some removals and meta writes, and a relay that appends the outbox to argv[3] by the
// exactly-once protocol; with COMPACTS it is compacted all the while. Says on standard output, a JSON line each, what it was told is durable.
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs'
import { openSpool } from '../../dist/spool/index.js'

const [path, journalFile] = process.argv.slice(2)
const WRITERS = Number(process.env.WRITERS ?? 32)

const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`)
const noise = randomBytes(1 << 20)

function body() {
  const size =
    Math.random() < 0.02
      ? (300_000 + Math.random() * 300_000) | 0
      : (Math.random() ** 2 * 120_000) | 0
  const at = (Math.random() * (noise.length - size)) | 0
  const bytes = Buffer.from(noise.subarray(at, at + size))
  if (size >= 8) bytes.writeUIntBE(Math.floor(Math.random() * 2 ** 48), 0, 6)
  return bytes
}

async function* pieces(bytes) {
  for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536)
}

async function writer(spool, n) {
  const mine = []
  for (;;) {
    const bytes = body()
    const staged = Math.random() < 0.3
    const { ids, size, sha256 } = await spool.swapOut({
      mailfrom: 'a@example.org',
      rcptto: Math.random() < 0.2 ? [`x@d${n}.example`, `y@d${n}.example`] : [`x@d${n}.example`],
      body: staged ? await spool.stageBody(pieces(bytes)) : bytes,
    })
    if (createHash('sha256').update(bytes).digest('hex') !== sha256) throw new Error('wrong hash')
    say({ stored: ids, size, sha256 })
    mine.push(...ids)
    if (Math.random() < 0.1) {
      const id = mine[(Math.random() * mine.length) | 0]
      const { meta } = await spool.swapOutMeta(id, { retries: 1, nextAttempt: Date.now() + 1000 })
      say({ meta: id, version: meta.version })
    }
    if (mine.length > 20) {
      const [id] = mine.splice((Math.random() * mine.length) | 0, 1)
      say({ removing: id })
      await spool.swapRemove(id)
      say({ removed: id })
    }
  }
}

/** Again and again; what is there is not to be seen to change. */
async function compactor(spool) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 50))
    await spool.upkeep.compact().catch((error) => {
      if (error.code !== 'SPOOL_ERR_FULL') throw error
    })
  }
}

/** Lines in the journal from a byte on, those that are whole. */
function linesFrom(fd, from) {
  const bytes = Buffer.alloc(fstatSync(fd).size - from)
  readSync(fd, bytes, 0, bytes.length, from)
  const end = bytes.lastIndexOf(10) + 1
  return { count: bytes.toString('latin1', 0, end).split('\n').length - 1, end: from + end }
}

function append(fd, at, records) {
  const bytes = Buffer.concat(records.flatMap(({ payload }) => [payload, Buffer.from('\n')]))
  writeSync(fd, bytes, 0, bytes.length, at)
  fsyncSync(fd)
  return at + bytes.length
}

async function relay(spool) {
  const fd = openSync(journalFile, 'a+')
  closeSync(fd)
  const journal = openSync(journalFile, 'r+')
  let end = fstatSync(journal).size
  let doneUpTo
  const noted = spool.outbox.noted('mainlog')
  if (noted !== null) {
    // What was appended of the noted batch stays, the rest is appended now.
    const { count, end: whole } = linesFrom(journal, Number(noted.after))
    ftruncateSync(journal, whole)
    const batch = spool.outbox
      .pending('mainlog', { maxRecords: 1e6, maxBytes: 1e9 })
      .filter(({ seq }) => seq <= noted.upTo)
    end = append(journal, whole, batch.slice(count))
    doneUpTo = noted.upTo
  } else if (end > 0) {
    end = linesFrom(journal, 0).end
    ftruncateSync(journal, end)
  }
  let wake = () => undefined
  spool.outbox.onRecords(() => wake())
  for (;;) {
    const batch = spool.outbox.pending('mainlog', {
      maxRecords: 500,
      maxBytes: 1e6,
      afterSeq: doneUpTo,
    })
    if (batch.length === 0) {
      await new Promise((resolve) => {
        wake = resolve
      })
      continue
    }
    const upTo = batch.at(-1).seq
    await spool.outbox.note('mainlog', { after: String(end), upTo }, doneUpTo)
    end = append(journal, end, batch)
    doneUpTo = upTo
  }
}

const spool = await openSpool({
  path,
  events: { format: 'json', journalOf: () => 'mainlog' },
})
say({ ready: true })
// On a disk that was cut off every write fails; what was said before counts.
const stop = (error) => {
  say({ stopped: String(error.code ?? error) })
  process.exit(3)
}
if (process.env.RELAY_ONLY) {
  relay(spool).catch(stop)
  // All that was waiting is appended: the outbox is empty but for the note of the last batch.
  for (;;) {
    const { records } = spool.outbox.size()
    const noted = spool.outbox.noted('mainlog')
    const [first] = spool.outbox.pending('mainlog', {
      maxRecords: 1,
      maxBytes: 1,
      afterSeq: noted?.upTo,
    })
    if (records === 0 || (noted !== null && first === undefined)) break
    await new Promise((resolve) => setImmediate(resolve))
  }
  const noted = spool.outbox.noted('mainlog')
  if (noted !== null) await spool.outbox.done('mainlog', noted.upTo)
  await spool.close()
  process.exit(0)
}
relay(spool).catch(stop)
for (let n = 0; n < WRITERS; n++) writer(spool, n).catch(stop)
if (process.env.COMPACTS) compactor(spool).catch(stop)
