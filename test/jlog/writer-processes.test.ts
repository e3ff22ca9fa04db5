/** Writers in processes of their own: racing, killed, out of room, with syncs that fail. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createJournal } from '../../jlog/create.js'
import { openWriter } from '../../jlog/writer.js'
import { inSegments, makeTemporary, recordsOnDisk } from './journals.js'

const CHILD = join(import.meta.dirname, 'append-child.mjs')

interface Outcome {
  readonly acknowledged: number
  readonly failure: string | null
  readonly refused: string | null
  readonly closed: true | string
}

let scratch: string
let dir: string

beforeEach(async () => {
  scratch = await makeTemporary()
  dir = join(scratch, 'journal')
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

/** A child writer, what it acknowledged (record number to id), and how it ended. */
class Writer {
  readonly process: ChildProcess
  readonly acknowledged = new Map<number, { log: number; marker: number }>()
  outcome: Outcome | null = null
  readonly ended: Promise<void>
  readonly first: Promise<unknown>

  constructor(
    directory: string,
    options: {
      prefix?: string
      count?: number
      inFlight?: number
      bytes?: number
      direct?: boolean
      under?: string[]
    },
  ) {
    const { prefix = 'r', count = 1e9, inFlight = 64, bytes = 40, direct = true } = options
    const command = [...(options.under ?? []), process.execPath, CHILD, directory, prefix]
    command.push(...[count, inFlight, bytes, direct].map(String))
    this.process = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface({ input: this.process.stdout! })
    this.first = once(lines, 'line')
    lines.on('line', (line) => {
      if (line.startsWith('{')) this.outcome = JSON.parse(line) as Outcome
      // A line that a kill has cut is no acknowledgement that anybody received.
      const match = /^(\d+) (\d+) (\d+)$/.exec(line)
      if (match) {
        this.acknowledged.set(Number(match[1]), { log: Number(match[2]), marker: Number(match[3]) })
      }
    })
    this.ended = once(lines, 'close').then(() => undefined)
  }
}

/** Every record of `prefix` in the journal, by its number; fails when one is there twice or out of order. */
async function recordsOf(prefix: string): Promise<Map<number, { log: number; marker: number }>> {
  const found = new Map<number, { log: number; marker: number }>()
  let last = -1
  for (const { payload, log, marker } of await recordsOnDisk(dir)) {
    const [name, number] = payload.toString().split(' ')
    if (name !== prefix) continue
    expect(Number(number)).toBeGreaterThan(last)
    last = Number(number)
    found.set(last, { log, marker })
  }
  return found
}

test('several processes and several writers of one process: each record once, with its id', async () => {
  await createJournal(dir, { unitLimit: 16 * 1024 })
  const children = ['a', 'b', 'c'].map((prefix, i) => {
    return new Writer(dir, { prefix, count: 3000, inFlight: [1, 40, 400][i]!, direct: i !== 1 })
  })
  const own = ['d', 'e'].map(async (prefix) => {
    const writer = await openWriter(dir)
    const ids = await Promise.all(
      Array.from({ length: 2000 }, (_, n) => writer.append(`${prefix} ${n} ${'.'.repeat(n % 50)}`)),
    )
    await writer.close()
    return { prefix, ids }
  })
  for (const { prefix, ids } of await Promise.all(own)) {
    expect([...(await recordsOf(prefix)).values()]).toEqual(ids)
  }
  await Promise.all(children.map((child) => child.ended))
  for (const [i, child] of children.entries()) {
    expect(child.outcome).toMatchObject({ acknowledged: 3000, failure: null, closed: true })
    expect(await recordsOf('abc'[i]!)).toEqual(child.acknowledged)
  }
  expect((await recordsOnDisk(dir)).length).toBe(13_000)
  expect((await readdir(dir)).filter((name) => name.includes('torn'))).toEqual([])
})

test('killed at any moment: what was acknowledged is there, once, at its id', async () => {
  await createJournal(dir, { unitLimit: 32 * 1024, safety: 2 })
  let acknowledged = 0
  for (let round = 0; round < 12; round++) {
    const child = new Writer(dir, {
      prefix: `k${round}`,
      bytes: 30 + 60 * round,
      direct: round % 2 === 0,
    })
    await child.first
    await new Promise((resolve) => setTimeout(resolve, 5 + ((round * 37) % 90)))
    child.process.kill('SIGKILL')
    await child.ended
    const writer = await openWriter(dir)
    const end = await writer.append(`after ${round}`)
    await writer.close()
    const records = await recordsOnDisk(dir)
    expect(records.at(-1)).toMatchObject({ ...end, payload: Buffer.from(`after ${round}`) })
    const found = await recordsOf(`k${round}`)
    for (const [n, id] of child.acknowledged) expect(found.get(n)).toEqual(id)
    acknowledged += child.acknowledged.size
  }
  // One in each round at least, however slow the disk is.
  expect(acknowledged).toBeGreaterThanOrEqual(12)
  expect([...(await recordsOf('after')).keys()].length).toBe(12)
})

describe.each([true, false])('out of room, direct: %s', (direct) => {
  // The second with groups of several writes each, the last of which fails.
  test.each([
    [300, 7],
    [3000, 600],
  ])(
    'at a limit of %i blocks for a file, %i in flight: nothing half written stays, the next writer goes on',
    async (blocks, inFlight) => {
      await createJournal(dir, { unitLimit: 1 << 30, safety: 2 })
      const limited = ['sh', '-c', `ulimit -f ${blocks} && exec "$@"`, 'sh']
      const child = new Writer(dir, { bytes: 1500, inFlight, direct, under: limited })
      await child.ended
      expect(child.outcome).toMatchObject({
        failure: 'JLOG_ERR_FILE_WRITE',
        refused: 'JLOG_ERR_FILE_WRITE',
        closed: true,
      })
      expect(child.acknowledged.size).toBeGreaterThan(10)
      expect(await recordsOf('r')).toEqual(child.acknowledged)
      // Readers may have seen what was cut off: nothing else gets the ids.
      const last = Math.max(...[...child.acknowledged.values()].map(({ log }) => log))
      const writer = await openWriter(dir)
      expect(await writer.append('after')).toEqual({ log: last + 1, marker: 1 })
      await writer.close()
      expect((await recordsOnDisk(dir)).length).toBe(child.acknowledged.size + 1)
      expect((await readdir(dir)).filter((name) => name.includes('torn'))).toEqual([])
    },
  )

  test('on a full disk: nothing half written stays, and with room it goes on', async (context) => {
    const disk = join(scratch, 'disk')
    await mkdir(disk)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'none', disk], { stdio: 'ignore' })
    } catch {
      context.skip('a small tmpfs cannot be mounted here (needs root)')
    }
    try {
      dir = join(disk, 'journal')
      // Direct writers of journals of safety 1 make the next segment at once, too.
      await createJournal(dir, { unitLimit: 100_000, safety: direct ? 1 : 2 })
      await writeFile(join(disk, 'filler'), Buffer.alloc(1_000_000))
      const child = new Writer(dir, { bytes: 3000, inFlight: 9, direct })
      await child.ended
      expect(child.outcome?.closed).toBe(true)
      expect(child.acknowledged.size).toBeGreaterThan(100)
      const found = await recordsOf('r')
      for (const [n, id] of child.acknowledged) expect(found.get(n)).toEqual(id)
      await rm(join(disk, 'filler'))
      const again = new Writer(dir, { prefix: 's', bytes: 3000, count: 100 })
      await again.ended
      expect(again.outcome).toMatchObject({ acknowledged: 100, failure: null, closed: true })
      expect(await recordsOf('s')).toEqual(again.acknowledged)
    } finally {
      execFileSync('umount', [disk])
    }
  })
})

describe.each([true, false])('calls that fail, direct: %s', (direct) => {
  // The system call is made to fail from its nth time on; whatever comes after must not be believed.
  test.for([
    ['fdatasync', 'error=EIO:when=12+', 'EIO from a sync, and from every later one'],
    [
      'fdatasync',
      'error=EIO:when=12',
      'EIO from one sync only: the next would succeed, and prove nothing',
    ],
    ['pwrite64', 'error=EIO:when=20+', 'EIO from writes'],
    ['pwrite64', 'error=ENOSPC:when=20', 'ENOSPC from one write'],
  ])('%s %s', async ([call, inject], context) => {
    if (!straceWorks()) context.skip('strace is needed to make system calls fail')
    await createJournal(dir, { unitLimit: 1 << 30, safety: 2 })
    const under = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`]
    under.push('-e', `inject=${call}:${inject}`)
    const child = new Writer(dir, { count: 5000, inFlight: 5, direct, under })
    await child.ended
    expect(child.outcome).toMatchObject({
      failure: 'JLOG_ERR_FILE_WRITE',
      refused: 'JLOG_ERR_FILE_WRITE',
      closed: true,
    })
    // strace counts each thread's calls by itself: up to four times as many succeed.
    expect(child.acknowledged.size).toBeLessThan(500)
    const found = await recordsOf('r')
    for (const [n, id] of child.acknowledged) expect(found.get(n)).toEqual(id)
    const writer = await openWriter(dir)
    await writer.append('after')
    await writer.close()
    expect((await recordsOnDisk(dir)).at(-1)!.payload.toString()).toBe('after')
  })
})

test('appends made at once share writes and syncs, and syncs are for safety 2', async (context) => {
  if (!straceWorks()) context.skip('strace is needed to count system calls')
  const calls = async (safety: 1 | 2) => {
    dir = join(scratch, `safety-${safety}`)
    await createJournal(dir, { unitLimit: 1 << 30, safety })
    const log = join(scratch, 'calls')
    const under = ['strace', '-f', '-qq', '-o', log, '-e', 'trace=fdatasync,pwrite64,pwritev']
    const child = new Writer(dir, { count: 2000, inFlight: 500, under })
    await child.ended
    expect(child.outcome).toMatchObject({ acknowledged: 2000, failure: null, closed: true })
    const lines = (await readFile(log, 'utf8')).split('\n')
    const of = (name: string) => lines.filter((line) => line.includes(`${name}(`)).length
    return { syncs: of('fdatasync'), writes: of('pwrite') }
  }
  const safe = await calls(2)
  expect(safe.syncs).toBeGreaterThanOrEqual(4)
  expect(safe.syncs).toBeLessThan(100)
  expect(safe.writes).toBeLessThan(200)
  // Those of opening and closing only.
  expect((await calls(1)).syncs).toBeLessThan(6)
})

test('once a writer is closed, every segment that it finished is on the disk, and found there', async (context) => {
  if (!straceWorks()) context.skip('strace is needed to see system calls')
  await createJournal(dir, { unitLimit: 16 * 1024, safety: 1 })
  const log = join(scratch, 'calls')
  const under = [
    'strace',
    '-f',
    '-y',
    '-qq',
    '-o',
    log,
    '-e',
    'trace=openat,fdatasync,fsync,pwrite64',
  ]
  const child = new Writer(dir, { count: 3000, inFlight: 200, bytes: 300, under })
  await child.ended
  expect(child.outcome).toMatchObject({ acknowledged: 3000, failure: null, closed: true })
  const calls = (await readFile(log, 'utf8')).split('\n')
  const lastOf = (...parts: string[]) =>
    calls.findLastIndex((call) => parts.every((part) => call.includes(part)))
  const segments = inSegments(await readdir(dir))
  expect(segments.length).toBeGreaterThan(30)
  for (const name of segments) {
    const written = lastOf('pwrite64(', `/${name}>`)
    expect(lastOf('fdatasync(', `/${name}>`), name).toBeGreaterThanOrEqual(written)
  }
  expect(lastOf('fsync(', `${dir}>`)).toBeGreaterThan(lastOf('openat(', 'O_CREAT', `${dir}/`))
})

function straceWorks(): boolean {
  try {
    execFileSync('strace', ['-qq', '-o', '/dev/null', 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test('the child writes with what was built', () => {
  expect(existsSync(join(import.meta.dirname, '../../dist/jlog/index.js'))).toBe(true)
})
