// A spool that does as it is told: a JSON line a call on standard input, a JSON line an answer on standard output,
// written at once, so that what was answered is known also when this is killed. Time is what the caller
// says it is, and what the spool does by itself every second it does when it is told to.
import { createHash } from 'node:crypto'
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'

let now = 0
const ticks = []
Date.now = () => now
performance.now = () => now
globalThis.setInterval = (tick) => {
  ticks.push(tick)
  return { unref: () => 0, [Symbol.toPrimitive]: () => 0 }
}

const { compactSpool, openSpool } = await import('../../dist/spool/index.js')

const JOURNAL = 'mainlog'
let path
let options
let spool

async function* pieces(bytes, size) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const turn = () => new Promise((resolve) => setTimeout(resolve, 2))

/** `via`: how the body comes. */
async function bodyOf({ body, via }) {
  if (via === 'refs') return { refs: body }
  const bytes = Buffer.from(body, 'base64')
  if (via === 'bytes') return bytes
  return spool.stageBody(via === 'stream' ? pieces(bytes, 7001) : bytes)
}

async function contentOf(read) {
  if (read === null) return null
  const hash = createHash('sha256')
  let size = 0
  for await (const piece of read.stream) {
    hash.update(piece)
    size += piece.length
  }
  return { size, sha256: hash.digest('hex') }
}

const unlessMissing = async (work) => {
  try {
    return await work()
  } catch (error) {
    if (error.code === 'SPOOL_ERR_NOT_FOUND') return null
    throw error
  }
}

async function everyMeta(query) {
  const metas = []
  let cursor
  do {
    const page = await spool.list({ ...query, limit: 50, ...(cursor ? { cursor } : {}) })
    metas.push(...page.messages)
    cursor = page.cursor
  } while (cursor !== null)
  return metas
}

const calls = {
  async open(given) {
    path = given.path
    options = given.options
    spool = await openSpool({
      ...options,
      path,
      events: { format: 'json', journalOf: () => JOURNAL },
    })
  },
  async close() {
    await spool.close()
    ticks.length = 0
  },
  async compact() {
    await calls.close()
    await compactSpool(path)
    await calls.open({ path, options })
  },
  async store({ message, key }) {
    const body = await bodyOf(message)
    const options = key === undefined ? {} : { idempotencyKey: key }
    return spool.swapOut({ ...message, body }, options)
  },
  async storeMulti({ messages, shared }) {
    const staged =
      shared === undefined ? undefined : await spool.stageBody(Buffer.from(shared, 'base64'))
    const all = []
    for (const message of messages)
      all.push({ ...message, body: staged ?? (await bodyOf(message)) })
    try {
      return await spool.swapOutMulti(all)
    } finally {
      // Does nothing once it is a message's.
      await staged?.discard()
    }
  },
  async read({ id, range }) {
    const { size, sha256: digest, ...read } = await spool.swapIn(id, range)
    void read
    const bytes = await (await spool.swapIn(id, range)).buffer()
    return { size, digest, length: bytes.length, sha256: sha256(bytes) }
  },
  async headers({ id }) {
    return sha256(await (await spool.swapInHeaders(id)).buffer())
  },
  async structure({ id }) {
    const { size, root } = await spool.swapInStructure(id)
    return { size, type: root.type }
  },
  async snapshot({ id }) {
    const { meta, body } = await spool.snapshot(id)
    return { meta, content: await contentOf(body) }
  },
  /** Reads while it is removed. */
  async readRemoved({ id }) {
    const read = await spool.swapIn(id)
    await spool.swapRemove(id)
    return contentOf(read)
  },
  meta: ({ id }) => spool.meta(id),
  update: ({ id, patch, options }) => spool.swapOutMeta(id, patch, options),
  contextSet: ({ id, name, key, value, options }) =>
    spool.context(id, name).set(key, value, options),
  contextDelete: ({ id, name, key, options }) => spool.context(id, name).delete(key, options),
  contextClean: ({ id, name, options }) => spool.context(id, name).clean(options),
  copy: ({ id, share }) => spool.copy(id, { share }),
  async replace({ id, ifVersion, ...body }) {
    const staged = await bodyOf(body)
    try {
      return await spool.swapOutContent(id, staged, ifVersion === undefined ? {} : { ifVersion })
    } catch (error) {
      if (body.via !== 'bytes') await staged.discard()
      throw error
    }
  },
  drop: ({ id }) => spool.swapRemoveContent(id),
  remove: ({ id }) => spool.swapRemove(id),
  unlink: ({ id }) => spool.unlinkOnFree(id),
  async claim(options) {
    // What was not forced is in the index only once it is synced.
    await spool.list({ limit: 1 })
    return spool.claim(options)
  },
  extend: ({ lease, seconds }) => spool.extendClaim(lease, seconds),
  release: ({ lease }) => spool.releaseClaim(lease),
  dispose: ({ id, disposition }) => spool.dispose(id, disposition),
  log: ({ event }) => spool.log(event),
  index: () => spool.indexQueue(),
  async tick() {
    await spool.list({ limit: 1 })
    for (let n = 0; n < 3; n++) {
      for (const tick of ticks) tick()
      await spool.expire()
      // Whatever was submitted before it is done.
      await spool.claim({ limit: 1, domain: 'no.such.example' })
      await turn()
    }
  },
  async take({ id }) {
    await spool.upkeep.take(id, 'the model says so')
    return (await spool.upkeep.quarantine.list({ limit: 1000 })).entries.map(({ name }) => name)
  },
  takeBack: ({ name }) => spool.upkeep.release(name),
  purge: ({ name }) => spool.upkeep.quarantine.purge(name),
  async repair() {
    const { before, mended } = await spool.upkeep.repair()
    return { found: before.found, problems: before.problems, mended }
  },
  check: () => spool.upkeep.check({ deep: true }),
  /** The relay's part. */
  async relay({ count }) {
    const records = spool.outbox.pending(JOURNAL, { maxRecords: count, maxBytes: 1 << 26 })
    if (records.length > 0) await spool.outbox.done(JOURNAL, records.at(-1).seq)
    return records.map(eventOf)
  },
  async dump() {
    const metas = await everyMeta({})
    const contents = {}
    for (const { id } of metas) {
      contents[id] = await unlessMissing(async () => contentOf(await spool.swapIn(id)))
    }
    return {
      metas,
      byDue: (await everyMeta({ dueBefore: 253_402_300_799_999 })).map(({ id }) => id),
      contents,
      stats: await spool.stats(),
      events: spool.outbox.pending(JOURNAL, { maxRecords: 1e6, maxBytes: 1 << 28 }).map(eventOf),
      quarantine: (await spool.upkeep.quarantine.list({ limit: 1000 })).entries.map(
        ({ name, meta }) => ({ name, id: meta?.id }),
      ),
    }
  },
}

function eventOf({ payload }) {
  const { type, id } = JSON.parse(payload.toString())
  return `${type} ${id}`
}

for await (const line of createInterface(process.stdin)) {
  const { n, call, args, time } = JSON.parse(line)
  now = Math.max(now, time)
  const answer = (said) => writeSync(1, `${JSON.stringify({ n, ...said })}\n`)
  Promise.resolve()
    .then(() => calls[call](args))
    .then(
      (value) => answer({ value: value ?? null }),
      (error) => answer({ error: error.code ?? String(error.stack) }),
    )
}
