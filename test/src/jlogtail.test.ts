/** `jlogtail` as a process: what is appended from now on, a clean end, and nothing left behind. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  createJournal,
  type JlogError,
  lastStorageLog,
  openWriter,
  readRecords,
} from '../../jlog/index.js'
import { followOn } from '../../src/commands/jlog/follow-on.js'

const PROGRAM = fileURLToPath(new URL('../../dist/src/jlogtail.js', import.meta.url))
const FIXTURES = fileURLToPath(new URL('../fixtures/jlog/', import.meta.url))

let root: string
let made = 0
const running = new Set<ChildProcessWithoutNullStreams>()
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'bobbin-jlogtail-'))
})
afterEach(() => {
  for (const child of running) child.kill('SIGKILL')
  running.clear()
})
afterAll(() => rm(root, { recursive: true }))

async function newJournal(unitLimit = 4096): Promise<string> {
  const dir = join(root, String(made++))
  await createJournal(dir, { unitLimit })
  return dir
}

interface Tail {
  readonly child: ChildProcessWithoutNullStreams
  readonly lines: AsyncIterator<string>
  readonly input: Interface
  readonly stderr: () => string
}

function start(...args: string[]): Tail {
  const child = spawn(process.execPath, [PROGRAM, ...args])
  running.add(child)
  let stderr = ''
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString()
  })
  const input = createInterface({ input: child.stdout })
  return { child, input, lines: input[Symbol.asyncIterator](), stderr: () => stderr }
}

async function next(tail: Tail): Promise<string> {
  const { value, done } = await tail.lines.next()
  if (done) throw new Error(`jlogtail ended: ${tail.stderr()}`)
  return value
}

/** Appends until the tail, which begins at the end, prints: then it stands. @returns the writer, and what to wait past */
async function startRunning(dir: string) {
  const tail = start(dir)
  const writer = await openWriter(dir)
  const first = next(tail)
  let beats = 0
  let seen = false
  void first.then(() => {
    seen = true
  })
  while (!seen) {
    await writer.append(`beat ${beats++}`)
    await Promise.race([first, new Promise((resolve) => setTimeout(resolve, 20))])
  }
  return { tail, writer, first: await first }
}

/** Skips the beats that came before. */
async function nextAfterBeats(tail: Tail): Promise<string> {
  for (;;) {
    const line = await next(tail)
    if (!line.startsWith('beat ')) return line
  }
}

describe('as a process', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)(
    'prints records as they come, over rolls, until %s',
    async (signal) => {
      const dir = await newJournal(512)
      const before = await openWriter(dir)
      await before.append('was there before')
      await before.close()
      const { tail, writer, first } = await startRunning(dir)
      expect(first).toMatch(/^beat /)
      await writer.appendBatch(['one\n', '', Buffer.from('tür\0x'), 'two\nlines'])
      expect(await nextAfterBeats(tail)).toBe('one')
      expect(await next(tail)).toBe('... empty message ...')
      expect(await next(tail)).toBe('tür\0x')
      expect(await next(tail)).toBe('two')
      expect(await next(tail)).toBe('lines')
      for (let n = 0; n < 100; n++) await writer.append(`record ${n} ${'.'.repeat(40)}`)
      for (let n = 0; n < 100; n++) expect(await next(tail)).toMatch(new RegExp(`^record ${n} `))
      expect(await lastStorageLog(dir)).toBeGreaterThan(5)
      await writer.close()

      const ended = once(tail.child, 'close')
      tail.child.kill(signal)
      expect(await ended).toEqual([0, null])
      expect(tail.stderr()).toBe('')
      expect((await readdir(dir)).filter((name) => /^(cp\.|new-)|\.idx$/.test(name))).toEqual([])
    },
  )

  test('a reader that goes away is a clean end', async () => {
    const dir = await newJournal()
    const { tail, writer } = await startRunning(dir)
    tail.input.close()
    tail.child.stdout.destroy()
    const ended = once(tail.child, 'close')
    let over = false
    void ended.then(() => {
      over = true
    })
    while (!over) {
      await writer.append('nobody reads this')
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 20))])
    }
    expect(await ended).toEqual([0, null])
    expect(tail.stderr()).toBe('')
    await writer.close()
  })

  test('wrong usage, and what is no journal, exit 1 with one line', async () => {
    for (const args of [[], ['a', 'b'], [join(root, 'no')], [root]]) {
      const tail = start(...args)
      const [code] = await once(tail.child, 'close')
      expect([args.length, code]).toEqual([args.length, 1])
      expect(tail.stderr()).toMatch(
        args.length === 1 ? /^jlogtail: .*\[JLOG_ERR_.*\]\n$/ : /^usage: .*\n$/,
      )
    }
  })
})

describe('through damage', () => {
  /** Follows until `count` records have come. */
  async function follow(dir: string, count: number) {
    const stop = new AbortController()
    const ids: string[] = []
    const damage: string[] = []
    const onDamage = (error: JlogError) => damage.push(error.message)
    for await (const batch of followOn(dir, 'begin', { signal: stop.signal, onDamage })) {
      for (const { id } of batch) ids.push(`${id.log}:${id.marker}`)
      if (ids.length >= count) stop.abort()
    }
    return { ids, damage }
  }

  async function readable(dir: string): Promise<string[]> {
    const ids: string[] = []
    for await (const batch of readRecords(dir, { onDamage: 'skip' })) {
      for (const { id } of batch) ids.push(`${id.log}:${id.marker}`)
    }
    return ids
  }

  test.each(['bad-bad-magic', 'bad-zero-page', 'bad-torn-closed', 'bad-mlen-huge'])(
    '%s: all that can be read, once, in order, and what comes after',
    async (name) => {
      const dir = join(root, String(made++))
      await cp(join(FIXTURES, name), dir, { recursive: true })
      const expected = await readable(dir)
      const followed = follow(dir, expected.length + 1)
      const writer = await openWriter(dir)
      await writer.append('and one more')
      await writer.close()
      const { ids, damage } = await followed
      expect(ids).toEqual([...expected, '8:8'])
      expect(damage).toHaveLength(1)
      expect(damage[0]).toMatch(/0000000\d at byte \d+/)
    },
  )
})
