// What compression costs and saves: the same messages into a spool without it and one with it, in turns.
// Lines of words as mail has them, and an attachment in base64, which is worth little.
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSpool } from '../dist/spool/index.js'

const IN_FLIGHT = Number(process.env.IN_FLIGHT ?? 256)
const ROUNDS = Number(process.env.ROUNDS ?? 5)
const MiB = 1024 * 1024
const BYTES = Number(process.env.BYTES ?? 64 * MiB)

const WORDS =
  `the of and to a in is your that it for on with as be this was are have order from at by not
  we you account please delivery if or which can invoice our has more will been would their number`
    .split(/\s+/)
    .map((word, i) => (i % 7 === 0 ? `${word},` : word))

/** About 4.5 bits of its own for each word. */
function words(size) {
  const dice = randomBytes(size)
  const lines = []
  for (let at = 0, length = 0; length < size; ) {
    let line = ''
    while (line.length < 68) {
      const word = WORDS[dice[at++] % WORDS.length]
      line += dice[at++] < 24 ? `${word}${dice[at++]} ` : `${word} `
    }
    lines.push(`${line}\r\n`)
    length += line.length + 2
  }
  return Buffer.from(lines.join('')).subarray(0, size)
}

function attachment(size) {
  const encoded = randomBytes(Math.ceil(size * 0.75)).toString('base64')
  return Buffer.from(encoded.replace(/.{76}/g, '$&\r\n')).subarray(0, size)
}

const CASES = [
  ['text', 10 * 1024, words],
  ['text', 100 * 1024, words],
  ['text', MiB, words],
  ['base64', 100 * 1024, attachment],
]

const directory = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'bobbin-bench-'))
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

/** Operations a second. */
async function rate(count, operation) {
  let started = 0
  const begin = process.hrtime.bigint()
  await Promise.all(
    Array.from({ length: Math.min(IN_FLIGHT, count) }, async () => {
      while (started < count) await operation(started++)
    }),
  )
  return (count * 1e9) / Number(process.hrtime.bigint() - begin)
}

async function round(name, compression, bodies) {
  const path = join(directory, name)
  const spool = await openSpool({ path, compression })
  const size = bodies[0].length
  const count = Math.round(BYTES / size)
  const ids = []
  const out = await rate(count, async (i) => {
    const message = { mailfrom: 'a@example.org', rcptto: ['b@example.com'] }
    const { ids: made } = await spool.swapOut({ ...message, body: bodies[i % bodies.length] })
    ids.push(made[0])
  })
  const read = await rate(count, async (i) => {
    const body = await spool.swapIn(ids[i])
    for await (const _ of body.stream);
  })
  await spool.close()
  const { blocks } = await stat(join(path, 'data.mdb'))
  await rm(path, { recursive: true })
  return { out, read, bytes: (blocks * 512) / count / size }
}

for (const [kind, size, make] of CASES) {
  const bodies = Array.from({ length: 16 }, () => make(size))
  const rounds = { none: [], deflate: [] }
  for (let i = 0; i < ROUNDS; i++) {
    for (const compression of ['none', 'deflate']) {
      rounds[compression].push(await round(`${compression}-${i}`, compression, bodies))
    }
  }
  const of = (compression, what) => median(rounds[compression].map((round) => round[what]))
  const both = (what, digits) =>
    Object.fromEntries(['none', 'deflate'].map((c) => [c, Number(of(c, what).toFixed(digits))]))
  console.log(
    JSON.stringify({
      bench: 'spool-compress',
      kind,
      size,
      swapOut: both('out', 0),
      swapIn: both('read', 0),
      fileBytesAByte: both('bytes', 2),
      swapOutRatio: Number((of('deflate', 'out') / of('none', 'out')).toFixed(2)),
      swapInRatio: Number((of('deflate', 'read') / of('none', 'read')).toFixed(2)),
      spaceRatio: Number((of('deflate', 'bytes') / of('none', 'bytes')).toFixed(2)),
    }),
  )
}
await rm(directory, { recursive: true, force: true })
