/**
 * A big segment with damage in its middle and at its end: bounded memory, progress, nothing lost. 1 GiB by default;
 * `TEST_BIG_SEGMENT_GIB=10` makes it 10 (it takes twice that on the disk).
 */
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  openSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, expect, it } from 'vitest'
import { encode, MAGICS } from './damage-model.js'
import { removeTemporaryDirectories, temporaryDirectory } from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

const GIB = 1024 ** 3
const SIZE = Number(process.env.TEST_BIG_SEGMENT_GIB ?? 1) * GIB
const MOST_MEMORY_MIB = 200
const BUILT = fileURLToPath(new URL('../../dist/jlog/repair.js', import.meta.url))

function whyNot(dir: string): string {
  if (!existsSync(BUILT)) return 'run `npm run build` first'
  const { bavail, bsize } = statfsSync(dir)
  return bavail * bsize < 2.2 * SIZE ? `needs ${2.2 * SIZE} free bytes in ${dir}` : ''
}

it(`a damaged segment of ${SIZE / GIB} GiB is repaired in bounded memory`, {
  timeout: 1_200_000,
}, (test) => {
  const dir = temporaryDirectory()
  const why = whyNot(dir)
  if (why !== '') return test.skip(why)
  const record = encode(MAGICS.plain, 1_700_000_000, 5, Buffer.alloc(240, 'x'))
  const chunk = Buffer.concat(Array.from({ length: 4096 }, () => record))
  const file = openSync(join(dir, '00000000'), 'w')
  const chunks = Math.ceil(SIZE / chunk.length)
  for (let i = 0; i < chunks; i++) writeSync(file, chunk)
  // A header in the middle, and half a record at the end.
  writeSync(file, Buffer.alloc(4, 0xee), 0, 4, Math.floor(chunks / 2) * chunk.length)
  writeSync(file, record, 0, 100, chunks * chunk.length)
  closeSync(file)
  writeFileSync(join(dir, '00000001'), record)
  const code = `import { repairJournal } from ${JSON.stringify(pathToFileURL(BUILT).href)}
let calls = 0, last = 0
const report = await repairJournal(${JSON.stringify(dir)}, { onProgress: ({ bytes }) => { calls++; last = Math.max(last, bytes) } })
console.log(JSON.stringify({ calls, last, records: report.records, cut: report.segments[0].cutBytes, memory: process.resourceUsage().maxRSS }))`
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' })
  expect(run.stderr).toBe('')
  const result = JSON.parse(run.stdout) as Record<
    'calls' | 'last' | 'records' | 'cut' | 'memory',
    number
  >
  expect(result.records).toBe(chunks * 4096 - 1 + 1)
  expect(result.cut).toBe(record.length + 100)
  expect(result.last).toBe(chunks * chunk.length + 100)
  expect(result.calls).toBeGreaterThan(SIZE / (100 * 1024 * 1024))
  expect(result.memory / 1024).toBeLessThan(MOST_MEMORY_MIB)
  expect(statSync(join(dir, '00000000')).size).toBe(chunks * chunk.length - record.length)
  console.log(
    `peak memory ${Math.round(result.memory / 1024)} MiB, ${result.calls} calls of onProgress`,
  )
  rmSync(dir, { recursive: true })
})

// Were it quadratic, 100 MiB would take days, and the timeout would say so.
it('hostile bytes are scanned in bounded time and memory', { timeout: 600_000 }, (test) => {
  const dir = temporaryDirectory()
  const why = whyNot(dir)
  if (why !== '') return test.skip(why)
  const magic = MAGICS.plain
  let state = 12345
  const random = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return state >>> 5
  }
  const pattern = (bytes: number, kind: string) => {
    const out = Buffer.alloc(bytes)
    if (kind === 'magics') for (let i = 0; i + 4 <= bytes; i += 4) out.writeUInt32LE(magic, i)
    else {
      // Records that confirm headers that claim up to 15 MiB each.
      for (let i = 0; i + 32 <= bytes; i += 32) {
        out.writeUInt32LE(magic, i)
        out.writeUInt32LE(magic, i + 16)
        out.writeUInt32LE((random() % (15 << 20)) | 1, i + 28)
      }
    }
    return out
  }
  const seconds = (bytes: number, kind: string) => {
    const journal = join(dir, `${kind}-${bytes}`)
    spawnSync('mkdir', [journal])
    writeFileSync(join(journal, '00000000'), pattern(bytes, kind))
    const code = `import { repairJournal } from ${JSON.stringify(pathToFileURL(BUILT).href)}
const start = performance.now()
await repairJournal(${JSON.stringify(journal)}, { dryRun: true })
console.log(JSON.stringify([(performance.now() - start) / 1000, process.resourceUsage().maxRSS / 1024]))`
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      encoding: 'utf8',
    })
    const [time, memory] = JSON.parse(run.stdout) as [number, number]
    expect(memory).toBeLessThan(MOST_MEMORY_MIB)
    return time
  }
  for (const kind of ['magics', 'claims']) {
    const [small, large] = [seconds(25 << 20, kind), seconds(100 << 20, kind)]
    console.log(`${kind}: 25 MiB ${small.toFixed(1)} s, 100 MiB ${large.toFixed(1)} s`)
  }
})
