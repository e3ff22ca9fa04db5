/**
 * Every tool on damaged and on hostile journals, in processes with a time limit and little memory: each run ends, with an exit status
 * of its own and at most lines of text; never with a stack trace, a hang, or memory that grows with what a damaged length says.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'

const CHILD = fileURLToPath(new URL('./jlog-hostile-child.mjs', import.meta.url))
const FIXTURES = fileURLToPath(new URL('../fixtures/jlog/', import.meta.url))
const RUNS_A_JOURNAL = 23
/** The slow tests take more. */
const EFFORT = Number(process.env.TEST_EFFORT ?? 1)
/** For what hangs: half a minute is what all of it has taken on a busy machine. */
const TIME_LIMIT_MS = EFFORT > 1 ? 300_000 : 60_000
const MOST_RESIDENT_BYTES = 400 * 1024 * 1024

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'bobbin-hostile-journals-'))
})
afterAll(() => rm(root, { recursive: true }))

interface Run {
  readonly journal: string
  readonly tool: string
  readonly args: readonly string[]
  readonly code?: unknown
  readonly resident: number
  readonly errors: string
}

async function runAll(journals: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, ['--max-old-space-size=96', CHILD, ...journals], {
    timeout: TIME_LIMIT_MS,
    killSignal: 'SIGKILL',
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (bytes: Buffer) => {
    stdout += bytes.toString()
  })
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString()
  })
  const [code] = (await once(child, 'close')) as [number | null]
  expect(stderr).toBe('')
  const told = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Run)
  expect({ code, stderr, last: told.at(-1) }).toMatchObject({ code: 0, stderr: '' })
  const runs = told.filter(({ code: ended }) => ended !== undefined)
  expect(runs).toHaveLength(journals.length * RUNS_A_JOURNAL)
  for (const { tool, args, code: ended, resident, errors } of runs) {
    const what = `${tool} ${args.join(' ')}: ${String(ended)} ${errors}`
    expect(tool === 'jlogctl' ? [0, 1, 255] : [0, 1], what).toContain(ended)
    expect(errors, what).not.toMatch(/\n\s+at |undefined|\[object|TypeError|RangeError/)
    expect(resident, what).toBeLessThan(MOST_RESIDENT_BYTES)
  }
}

test(EFFORT > 1 ? 'all damaged fixtures' : 'a fifth of the damaged fixtures', {
  timeout: TIME_LIMIT_MS * 2,
}, async () => {
  const names = (await readdir(FIXTURES)).filter((name) => name.startsWith('bad-'))
  expect(names.length).toBeGreaterThan(20)
  const some = names.filter((_, i) => EFFORT > 1 || i % 5 === 0)
  await runAll(some.map((name) => join(FIXTURES, name)))
})

/** Numbers that are the same in every run (mulberry32). */
function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const SOURCES = ['plain', 'segments', 'lz4', 'precommit-pending', 'safe', 'bad-meta-legacy']

/** One journal with a few faults in whatever files it has. */
async function fuzzed(seed: number): Promise<string> {
  const random = numbers(seed)
  const dir = join(root, `fuzzed-${seed}`)
  await cp(join(FIXTURES, SOURCES[seed % SOURCES.length]!), dir, { recursive: true })
  for (let faults = 1 + random(6); faults > 0; faults--) {
    const names = (await readdir(dir)).sort()
    const path = join(dir, names[random(names.length)]!)
    const bytes = readFileSync(path)
    const at = random(bytes.length + 1)
    switch (random(8)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << random(8)
        await writeFile(path, bytes)
        break
      case 1:
        bytes.fill(random(2) * 255, at, Math.min(bytes.length, at + random(200)))
        await writeFile(path, bytes)
        break
      case 2:
        await truncate(path, at)
        break
      case 3: {
        const inserted = Buffer.from(Array.from({ length: random(300) }, () => random(256)))
        await writeFile(path, Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at)]))
        break
      }
      case 4:
        await rm(path)
        break
      case 5:
        await rename(path, join(dir, names[random(names.length)]!))
        break
      case 6:
        await cp(path, join(dir, `${random(0xffffffff).toString(16).padStart(8, '0')}`))
        break
      default:
        for (let word = at - (at % 4); word + 4 <= bytes.length && word < at + 12; word += 4) {
          bytes.writeUInt32LE(0xffffffff - random(3) * 16, word)
        }
        await writeFile(path, bytes)
    }
  }
  return dir
}

test('journals with random faults', { timeout: TIME_LIMIT_MS * 2 }, async () => {
  const journals: string[] = []
  for (let seed = 1; seed <= 2 * EFFORT; seed++) journals.push(await fuzzed(seed))
  await runAll(journals)
})

/** What no program writes by accident. */
const HOSTILE: Readonly<Record<string, (dir: string) => Promise<unknown>>> = {
  'a megabyte of zeros as metastore': (dir) =>
    writeFile(join(dir, 'metastore'), Buffer.alloc(1 << 20)),
  'the last segment number there is': (dir) =>
    writeFile(join(dir, 'metastore'), Buffer.from('ffffffff000400000100000018733a66', 'hex')),
  'a segment limit of one byte': (dir) =>
    writeFile(join(dir, 'metastore'), Buffer.from('08000000010000000100000018733a66', 'hex')),
  'a pre-commit buffer that says it is full': (dir) =>
    writeFile(join(dir, 'pre_commit'), Buffer.concat([Buffer.alloc(4, 0xff), Buffer.alloc(4096)])),
  'a pre-commit buffer of 300 MiB': async (dir) => {
    await writeFile(join(dir, 'pre_commit'), Buffer.alloc(4, 0x7f))
    await truncate(join(dir, 'pre_commit'), 300 * 2 ** 20)
  },
  'an index of 512 MiB': (dir) => truncate(join(dir, '00000001.idx'), 2 ** 29),
  'a segment that ends in 32 MiB of zeros': (dir) => truncate(join(dir, '00000003'), 32 * 2 ** 20),
  'a checkpoint of 64 MiB': (dir) => truncate(join(dir, 'cp.61'), 2 ** 26),
  'a checkpoint at the end of all numbers': (dir) =>
    writeFile(join(dir, 'cp.61'), Buffer.alloc(8, 0xff)),
  'a directory as segment': async (dir) => {
    await rm(join(dir, '00000002'))
    await mkdir(join(dir, '00000002'))
  },
  'a directory as checkpoint': (dir) => mkdir(join(dir, 'cp.aa')),
  'a directory as index': (dir) => mkdir(join(dir, '00000007.idx')),
  'a directory as metastore': async (dir) => {
    await rm(join(dir, 'metastore'))
    await mkdir(join(dir, 'metastore'))
  },
  'links that lead in a circle': async (dir) => {
    await rm(join(dir, '00000004'))
    await symlink('00000004', join(dir, '00000004'))
    await symlink('cp.ab', join(dir, 'cp.ab'))
  },
  'a link to nowhere as segment': (dir) => symlink('/nonexistent/x', join(dir, '00000009')),
  'a pipe as segment': async (dir) => {
    await rm(join(dir, '00000003'))
    execFileSync('mkfifo', [join(dir, '00000003')])
  },
  'a pipe as checkpoint': async (dir) => execFileSync('mkfifo', [join(dir, 'cp.aa')]),
  'a pipe as index': async (dir) => execFileSync('mkfifo', [join(dir, '00000008.idx')]),
  'a pipe as metastore': async (dir) => {
    await rm(join(dir, 'metastore'))
    execFileSync('mkfifo', [join(dir, 'metastore')])
  },
  'a plan of a repair that is none': async (dir) => {
    await writeFile(
      join(dir, '00000002.repair'),
      '{"version":1,"log":2,"mode":"replace","size":-1}',
    )
    await writeFile(join(dir, '00000003.repair'), 'null')
    await writeFile(join(dir, '00000003.repair-new'), 'x')
  },
  'checksums of random bytes': (dir) =>
    writeFile(join(dir, '00000002.sum'), Buffer.alloc(5000, 0x5a)),
}

test(EFFORT > 1
  ? 'all journals that somebody made to do harm'
  : 'a fifth of the journals that somebody made to do harm', {
  timeout: TIME_LIMIT_MS * 2,
}, async () => {
  const journals: string[] = []
  const some = Object.entries(HOSTILE).filter((_, i) => EFFORT > 1 || i % 5 === 0)
  for (const [name, harm] of some) {
    const dir = join(root, name.replaceAll(' ', '-'))
    await cp(join(FIXTURES, 'segments'), dir, { recursive: true })
    await harm(dir)
    journals.push(dir)
  }
  expect((await stat(journals[0]!)).isDirectory()).toBe(true)
  await runAll(journals)
})
