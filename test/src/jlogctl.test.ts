/**
 * `jlogctl` against what libjlog 2.6.0's prints: every transcript, on a copy of its journal. Where ours differs on purpose, the
 * difference is written down for that run, with its reason, and nothing else may differ.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chown, cp, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { createJournal, type LogId, openWriter, readRecords, SAFETY } from '../../jlog/index.js'
import type { Output } from '../../src/jlogctl/output.js'
import { jlogctl } from '../../src/jlogctl/run.js'
import { USAGE } from '../../src/jlogctl/usage.js'

const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url))
const PROGRAM = fileURLToPath(new URL('../../dist/src/jlogctl.js', import.meta.url))

interface Transcript {
  readonly fixture: string | null
  readonly argv: readonly string[]
  readonly exit: number
  readonly stdout: string
  readonly stderr_lines: number
  readonly prints_usage: boolean
  readonly files_after: Readonly<Record<string, number>> | null
}

interface Run {
  readonly exit: number
  readonly stdout: string
  readonly stderr: string
  readonly files: Record<string, number> | null
}

const transcripts = JSON.parse(
  readFileSync(join(FIXTURES, 'jlogctl/transcripts.json'), 'utf8'),
) as Transcript[]

/** How one run differs from libjlog's, and why. What is not named must be the same. */
interface Difference {
  readonly why: string
  readonly exit?: number
  readonly stderrLines?: number
  readonly stdout?: (libjlog: string) => string
  /** Sizes that differ; null for a file that is not there. */
  readonly files?: Readonly<Record<string, number | null>>
}

const FAILED = (why: string): Difference => ({ why: `what failed exits 1: ${why}`, exit: 1 })

const aside = (files: Difference['files'], why = 'what repair cuts goes into a file beside') => ({
  why,
  files: files!,
})

/** libjlog maps the five bytes that are left and takes the rest for zeros; ours takes such a checkpoint for the beginning. */
const CHECKPOINT_OF_WRONG_SIZE: Difference = {
  why: 'a checkpoint of the wrong size keeps everything, and is told',
  stdout: (text) => text.replaceAll(/(\t0000000[0-3] .*\]) 1 pending/g, '$1 2 pending'),
  stderrLines: 1,
}

/** libjlog takes random bytes for settings, and makes the segment that they name. */
const METASTORE_OF_RANDOM_BYTES: Difference = {
  why: 'a damaged metastore is not believed, and is told',
  stdout: (text) => text.replace(/\td684a67b .*\n/, ''),
  stderrLines: 1,
  files: { d684a67b: null },
}

const REALLY_SETS = 'subscriber -a NAME -C ID really sets the checkpoint'

const DIFFERENCES: Readonly<Record<string, Difference>> = {
  'segments: subscriber -j j -a new -C 00000003:00000002': {
    why: REALLY_SETS,
    stdout: (text) => text.replace('00000000:00000000', '00000003:00000002'),
    stderrLines: 0,
  },
  'segments: subscriber -j j -p nobody': FAILED('no such subscriber'),
  'segments: subscriber -j j -a a': FAILED('it exists'),
  'segments: subscriber -j j -u nobody -C 00000006:00000003': FAILED('no such subscriber'),
  'segments: subscriber -j j -e nobody': FAILED('no such subscriber'),
  'segments: -l nodir': FAILED('no such directory'),
  '-: -l j': FAILED('no such directory'),
  'segments: data -j nodir': FAILED('no such directory'),
  'bad-meta-gone: data -j j -d': FAILED('it does not open'),
  'bad-meta-gone: data -j j -r': FAILED('it does not open'),
  'bad-torn-tail: data -j j -r': aside({ '00000008.torn-0': 17 }),
  'bad-torn-tail: repair -j j -f': aside({ '00000008.torn-0': 17 }),
  'bad-torn-closed: data -j j -r': aside({ '00000003.torn-0': 17 }),
  'bad-torn-closed: repair -j j -f': aside({ '00000003.torn-0': 17 }),
  'bad-torn-closed: -r j': aside({ '00000003.torn-0': 17 }),
  'bad-bad-magic: data -j j -r': aside(
    { '00000005': 922, '00000005.torn-0': 128 },
    'the good record before the damage is kept',
  ),
  'bad-bad-magic: repair -j j -f': aside(
    { '00000005': 922, '00000005.torn-0': 128 },
    'the good record before the damage is kept',
  ),
  'bad-mlen-huge: data -j j -r': aside({ '00000006.torn-0': 85 }),
  'bad-mlen-huge: repair -j j -f': aside({ '00000006.torn-0': 85 }),
  'bad-zero-page: data -j j -r': aside({ '00000007.torn-0': 278 }),
  'bad-zero-page: repair -j j -f': aside({ '00000007.torn-0': 278 }),
  'bad-cp-short: data -j j -d': CHECKPOINT_OF_WRONG_SIZE,
  'bad-cp-short: data -j j -r': CHECKPOINT_OF_WRONG_SIZE,
  'bad-cp-short: repair -j j': aside({ 'torn-cp.62-0': 5 }),
  // Repaired to the beginning, where libjlog's skips to the end of the earliest segment: both are in segment 0.
  'bad-cp-short: repair -j j -f': aside({ 'torn-cp.62-0': 5 }),
  'bad-meta-garbage: data -j j -d': METASTORE_OF_RANDOM_BYTES,
  'bad-meta-garbage: data -j j -r': METASTORE_OF_RANDOM_BYTES,
  'bad-meta-garbage: repair -j j': aside({ 'metastore.torn-0': 16 }),
  'bad-meta-garbage: repair -j j -f': aside({ 'metastore.torn-0': 16 }),
}

const root = await mkdtemp(join(tmpdir(), 'bobbin-jlogctl-'))
afterAll(() => rm(root, { recursive: true }))

/** What a run prints. */
class Captured implements Output {
  stdout = ''
  stderr = ''
  readonly out = async (text: string | Uint8Array) => {
    this.stdout += Buffer.from(text).toString()
  }
  readonly err = async (text: string) => {
    this.stderr += text
  }
}

let made = 0
async function prepare(fixture: string | null): Promise<string> {
  const cwd = join(root, String(made++))
  await mkdir(cwd)
  if (fixture !== null)
    await cp(join(FIXTURES, 'jlog', fixture), join(cwd, 'j'), { recursive: true })
  return cwd
}

async function filesIn(dir: string): Promise<Record<string, number> | null> {
  if (!existsSync(dir)) return null
  const files: Record<string, number> = {}
  for (const name of (await readdir(dir)).sort()) files[name] = (await stat(join(dir, name))).size
  return files
}

/** In this process; `j` and `nodir` stand for directories under `cwd`. */
async function runHere({ fixture, argv }: Pick<Transcript, 'fixture' | 'argv'>): Promise<Run> {
  const cwd = await prepare(fixture)
  const paths = new Set(['j', 'nodir', 'no/such/j'])
  const io = new Captured()
  const exit = await jlogctl(
    argv.map((word) => (paths.has(word) ? join(cwd, word) : word)),
    io,
  )
  const stdout = io.stdout.replaceAll(`${cwd}/`, '')
  return { exit, stdout, stderr: io.stderr, files: await filesIn(join(cwd, 'j')) }
}

/** As a process of its own. */
async function runProgram({ fixture, argv }: Pick<Transcript, 'fixture' | 'argv'>): Promise<Run> {
  const cwd = await prepare(fixture)
  const child = spawn(process.execPath, [PROGRAM, ...argv], { cwd, timeout: 20_000 })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (bytes: Buffer) => {
    stdout += bytes.toString()
  })
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString()
  })
  const [exit] = (await once(child, 'close')) as [number]
  return { exit, stdout, stderr, files: await filesIn(join(cwd, 'j')) }
}

/** Lists are sorted by name; libjlog prints them in the order of the directory. A segment's index line stays with it. */
function sorted(stdout: string): string {
  const entries = stdout.match(/^\t(?!\t)[^\n]* (?:@|\[)[^\n]*\n(?:\t\t[^\n]*\n)*/gm) ?? []
  if (entries.length < 2) return stdout
  const at = stdout.indexOf(entries[0]!)
  const name = (entry: string) => Buffer.from(entry.trim()).toString('hex')
  const inOrder = [...entries].sort((a, b) => (name(a) < name(b) ? -1 : 1))
  return stdout.slice(0, at) + inOrder.join('') + stdout.slice(at + entries.join('').length)
}

function titleOf({ fixture, argv }: Transcript): string {
  return `${fixture ?? '-'}: ${argv.join(' ')}`
}

function expected(transcript: Transcript) {
  const difference: Partial<Difference> = DIFFERENCES[titleOf(transcript)] ?? {}
  const stdout = sorted(transcript.stdout)
  const files: Record<string, number> | null =
    transcript.files_after === null ? null : { ...transcript.files_after }
  for (const [name, size] of Object.entries(difference.files ?? {})) {
    if (size === null) delete files![name]
    else files![name] = size
  }
  return {
    exit: difference.exit ?? transcript.exit,
    stdout: transcript.prints_usage ? null : (difference.stdout?.(stdout) ?? stdout),
    stderrLines: difference.stderrLines ?? transcript.stderr_lines,
    files,
  }
}

function compare(run: Run, transcript: Transcript): void {
  const { exit, stdout, stderrLines, files } = expected(transcript)
  if (stdout === null) expect(run.stdout.startsWith(USAGE)).toBe(true)
  else expect(run.stdout).toBe(stdout)
  expect(run.exit).toBe(exit)
  expect(run.files).toEqual(files)
  expect(run.stderr.split('\n').length - 1, run.stderr).toBe(stderrLines)
}

describe('all transcripts', () => {
  for (const transcript of transcripts) {
    test(titleOf(transcript), async () => {
      compare(await runHere(transcript), transcript)
    })
  }

  test('every difference is one of a transcript', () => {
    const titles = transcripts.map(titleOf)
    expect(transcripts).toHaveLength(167)
    expect(Object.keys(DIFFERENCES).filter((title) => !titles.includes(title))).toEqual([])
  })
})

describe('as a process', () => {
  const PROCESSES = [
    'plain: subscriber -j j',
    'plain: data -j j -d -v',
    'segments: data -j j -i',
    'precommit-pending: meta -j j',
    'segments: subscriber -j j -p b',
    'segments: subscriber -j j -a a',
    'segments: subscriber -j j -a new -C 00000003:00000002',
    'segments: subscriber -j j -u b -C 00000006:00000003',
    'segments: alter -j j -p 8192',
    '-: create -j j -s 1024 -p 4096',
    'plain: create -j j',
    'bad-bad-magic: repair -j j -f',
    'bad-cp-old: -R j',
    'segments: -i j',
    'segments: -l nodir',
    'segments: ',
    'segments: help',
    'segments: data -j j -z',
  ]
  for (const title of PROCESSES) {
    test.concurrent(title, async () => {
      const transcript = transcripts.find((one) => titleOf(one) === title)!
      compare(await runProgram(transcript), transcript)
    })
  }
})

describe('beyond the transcripts', () => {
  test('the checkpoint that -a -C sets is the one that is read from', async () => {
    const io = new Captured()
    const run = (...argv: string[]) => jlogctl(argv, io)
    const j = join(await prepare('segments'), 'j')
    expect(await run('subscriber', '-j', j, '-a', 'new', '-C', '00000003:00000002')).toBe(0)
    expect(await run('subscriber', '-j', j, '-p', 'new')).toBe(0)
    expect(io.stderr).toBe('')
    expect(io.stdout).toContain('next interval: [00000003:00000003, 00000003:0000000c]')
  })

  test.each([SAFETY.almostSafe, SAFETY.safe])(
    'looking at a journal whose writer has records pending (safety %i): each record once, ids as told',
    async (safety) => {
      const j = join(await prepare(null), 'j')
      await createJournal(j, { preCommit: 4096, safety })
      const writer = await openWriter(j)
      const ids = [await writer.append('one'), await writer.append('two')]
      const io = new Captured()
      expect(await jlogctl(['data', '-j', j], io)).toBe(0)
      expect(io.stdout).toContain('[       38 bytes]')
      expect(await writer.end()).toEqual(ids[1])
      ids.push(await writer.append('three'))
      expect(await jlogctl(['data', '-j', j], io)).toBe(0)
      await writer.sync()
      ids.push(...(await Promise.all([writer.append('four'), writer.append('five')])))
      await writer.flush()
      ids.push(await writer.append('six'))
      expect(await jlogctl(['data', '-j', j], io)).toBe(0)
      await writer.close()
      const read: [string, LogId][] = []
      for await (const batch of readRecords(j)) {
        for (const { payload, id } of batch) read.push([payload.toString(), id])
      }
      expect(read).toEqual(
        ['one', 'two', 'three', 'four', 'five', 'six'].map((text, n) => [text, ids[n]]),
      )
    },
  )

  test('options as getopt takes them: together, attached, after operands', async () => {
    const { exit, stdout } = await runHere({ fixture: 'segments', argv: ['j', '-i'] })
    expect([exit, stdout.startsWith(USAGE)]).toEqual([255, true])
    const together = await runHere({ fixture: 'bad-torn-tail', argv: ['-vid', 'j'] })
    expect(together.exit).toBe(0)
    expect(together.stdout).toContain('\t\t idx: none\n')
    expect(together.stderr).toContain('00000008: 17 bytes at 372')
    const after = await runHere({ fixture: 'segments', argv: ['-s', 'j', '-l'] })
    expect(after.stdout).toContain('\t00000008 [      481 bytes] 2 pending readers\n')
    const dashed = await runHere({ fixture: 'segments', argv: ['-a', '-x', 'j'] })
    expect(dashed).toMatchObject({
      exit: 0,
      stdout: "j\nAdded subscriber '-x' -> 00000000:00000000\n",
    })
  })

  test('clean keeps what a subscriber needs; without subscribers, the segment being written', async () => {
    const read = await runHere({
      fixture: 'segments',
      argv: ['subscriber', '-j', 'j', '-e', 'a'],
    })
    expect(read.files).toHaveProperty('00000000')
    const cwd = await prepare('segments')
    const j = join(cwd, 'j')
    const silent = new Captured()
    await jlogctl(['subscriber', '-j', j, '-e', 'a'], silent)
    expect(await jlogctl(['clean', '-j', j], silent)).toBe(0)
    expect(Object.keys((await filesIn(j))!)).not.toContain('00000003')
    expect(Object.keys((await filesIn(j))!)).toContain('00000004')
    await jlogctl(['subscriber', '-j', j, '-e', 'b'], silent)
    expect(await jlogctl(['clean', '-j', j], silent)).toBe(0)
    expect(await filesIn(j)).toEqual({ '00000008': 481, metastore: 16, pre_commit: 4 })
  })

  test('a journal with compression, which libjlog makes a plain one', async () => {
    const made = await runHere({ fixture: null, argv: ['create', '-j', 'j', '-c', 'on'] })
    expect(made).toMatchObject({ exit: 0, stderr: '', files: { '00000000': 0, metastore: 16 } })
  })

  test('a segment size of 0, at which libjlog makes segments for ever, is refused', async () => {
    const made = await runHere({ fixture: null, argv: ['create', '-j', 'j', '-s', '0'] })
    expect(made).toMatchObject({ exit: 255, files: null })
    const altered = await runHere({ fixture: 'plain', argv: ['alter', '-j', 'j', '-s', '0'] })
    expect(altered.exit).toBe(255)
    expect(altered.stderr).toMatch(/not a segment size/)
  })

  test.skipIf(process.getuid?.() !== 0)(
    'files of another owner are told (needs root)',
    async () => {
      const cwd = await prepare('segments')
      await chown(join(cwd, 'j', 'cp.61'), 4711, 4711)
      const io = new Captured()
      expect(await jlogctl(['data', '-j', join(cwd, 'j')], io)).toBe(0)
      expect(io.stderr).toMatch(/cp\.61 belongs to 4711:4711/)
    },
  )
})
