/** Whatever lies in a journal's directory, reading it ends, with records or with an error that says where. */
import { readdirSync, readlinkSync } from 'node:fs'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  checkSanity,
  describeJournal,
  follow,
  JlogError,
  openReader,
  readRecords,
} from '../../jlog/index.js'

const FIXTURES = fileURLToPath(new URL('../fixtures/jlog', import.meta.url))
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'jlog-hostile-'))
})
afterAll(() => rm(root, { recursive: true }))

const damage = fc.record({
  file: fc.nat(),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  how: fc.oneof(
    fc.record({
      kind: fc.constant('write' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }),
    }),
    fc.record({
      kind: fc.constant('insert' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }),
    }),
    fc.record({ kind: fc.constant('cut' as const) }),
    fc.record({ kind: fc.constant('zero' as const) }),
    fc.record({ kind: fc.constant('remove' as const) }),
    fc.record({
      kind: fc.constant('word' as const),
      value: fc.constantFrom(0xffffffff, 0xfffffff0, 0x7fffffff, 0x663a7318, 0),
    }),
  ),
})

async function apply(
  dir: string,
  { file, at, how }: typeof damage extends fc.Arbitrary<infer D> ? D : never,
): Promise<void> {
  const names = (await readdir(dir)).sort()
  const path = join(dir, names[file % names.length]!)
  if (how.kind === 'remove') return rm(path)
  const bytes = await readFile(path)
  const place = Math.floor(at * bytes.length)
  if (how.kind === 'cut') return writeFile(path, bytes.subarray(0, place))
  if (how.kind === 'zero')
    return writeFile(path, bytes.fill(0, place, Math.min(place + 200, bytes.length)))
  if (how.kind === 'insert')
    return writeFile(
      path,
      Buffer.concat([bytes.subarray(0, place), how.bytes, bytes.subarray(place)]),
    )
  const patch = how.kind === 'write' ? Buffer.from(how.bytes) : Buffer.alloc(4)
  if (how.kind === 'word') patch.writeUInt32LE(how.value)
  patch.copy(bytes, place)
  return writeFile(path, bytes)
}

/** @returns how many records; a JlogError is an answer, anything else is not */
async function answer(read: () => Promise<number>): Promise<number | string> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof JlogError) return error.code
    throw error
  }
}

async function drain(dir: string, options: Parameters<typeof readRecords>[1]): Promise<number> {
  let count = 0
  for await (const batch of readRecords(dir, options)) {
    for (let i = 0; i < batch.length; i++) await answer(async () => batch.payload(i).length)
    count += batch.length
  }
  return count
}

async function consume(dir: string, subscriber: string): Promise<number> {
  const reader = await openReader(dir, subscriber)
  let count = 0
  try {
    for (
      let interval = await reader.readInterval();
      interval !== null;
      interval = await reader.readInterval()
    ) {
      for (let batch = await reader.readBatch(); batch.length > 0; batch = await reader.readBatch())
        count += batch.length
      await reader.checkpoint(interval.last)
    }
    return count
  } finally {
    await reader.close()
  }
}

async function followToSilence(dir: string): Promise<number> {
  const tail = follow(dir, { from: 'begin' })
  let count = 0
  for (;;) {
    const next = tail.next()
    const quiet = new Promise<null>((resolve) => setTimeout(() => resolve(null), 15))
    const result = await Promise.race([next, quiet])
    if (result === null || result.done) {
      await tail.return?.()
      await next.catch(() => undefined)
      return count
    }
    count += result.value.length
  }
}

function descriptorsIn(dir: string): string[] {
  const paths = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return '' // The one that listed them.
    }
  })
  return paths.filter((path) => path.startsWith(dir))
}

it.each(['segments', 'lz4', 'bad-meta-legacy', 'precommit-pending'])(
  '%s under any damage',
  async (name) => {
    const subscriber = {
      segments: 'a',
      lz4: 'z',
      'bad-meta-legacy': 'a',
      'precommit-pending': 'p',
    }[name]!
    let made = 0
    await fc.assert(
      fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 5 }), async (damages) => {
        const dir = join(root, `${name}-${made++}`)
        await cp(join(FIXTURES, name), dir, { recursive: true })
        for (const each of damages) await apply(dir, each)
        await answer(() => drain(dir, {}))
        const kept = await answer(() => drain(dir, { onDamage: 'skip' }))
        await answer(() => describeJournal(dir).then(({ records }) => records))
        await answer(() => checkSanity(dir).then(({ problems }) => problems.length))
        await answer(() => followToSilence(dir))
        const read = await answer(() => consume(dir, subscriber))
        if (typeof read === 'number') expect(await consume(dir, subscriber)).toBe(0)
        // Skipping never fails for the damage of a segment.
        expect(kept).not.toBe('JLOG_ERR_FILE_CORRUPT')
        expect(descriptorsIn(dir)).toEqual([])
        await rm(dir, { recursive: true })
      }),
      { numRuns: 25 },
    )
  },
)
