// A disk filled to the last byte: SPOOL_ERR_FULL, nothing of it stored, reads go on, and writing goes on by
// itself once there is room.
import { execFile } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { openSpool, type Spool } from '../../spool/index.js'
import { type FileSystem, LoopMount, loopMountProblem } from '../faults/loop-mount.js'
import {
  bodyOf,
  bytes,
  codeOf,
  EVENTS,
  expectSound,
  message,
  temporaryDirectory,
} from './support.js'

const run = promisify(execFile)

/** A tmpfs of so many bytes; null where it cannot be had. */
async function mountTmpfs(path: string, size: number): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'not root'
  await mkdir(path, { recursive: true })
  return run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path]).then(
    () => null,
    (error: { stderr?: string }) => `no tmpfs: ${error.stderr ?? ''}`,
  )
}

async function fillAndHeal(directory: string): Promise<void> {
  const path = join(directory, 'spool')
  let spool = await openSpool({ path, largeMessageThreshold: 100_000 })
  try {
    spool = await fillThenHeal(directory, path, spool)
  } finally {
    await spool.close()
  }
}

async function fillThenHeal(directory: string, path: string, first: Spool): Promise<Spool> {
  let spool = first
  const ballast = join(directory, 'ballast')
  await writeFile(ballast, bytes(8 * 1024 * 1024))
  const stored: string[] = []
  let refused = 0
  for (let i = 0; refused < 5; i++) {
    const size = i % 3 === 0 ? 500_000 : 20_000
    try {
      stored.push(...(await spool.swapOut(message(bytes(size, i)))).ids)
    } catch (error) {
      expect(error).toMatchObject({ code: 'SPOOL_ERR_FULL' })
      refused++
    }
  }
  expect(stored.length).toBeGreaterThan(3)
  const large = spool.stageBody(bytes(2_000_000))
  expect(await codeOf(large)).toBe('SPOOL_ERR_FULL')
  expect(spool.readOnly).toBeNull()
  expect((await spool.stats()).messages).toBe(stored.length)
  for (const id of stored) expect((await bodyOf(spool, id)).length).toBeGreaterThan(0)
  await rm(ballast)
  const { ids } = await spool.swapOut(message(bytes(500_000)))
  stored.push(...ids)
  for (const id of stored.slice(0, 3)) await spool.swapRemove(id)
  await spool.close()
  spool = await openSpool({ path })
  await spool.swapOut(message('after the sweep'))
  expect((await spool.stats()).messages).toBe(stored.length - 3 + 1)
  for (const id of stored.slice(3)) expect((await bodyOf(spool, id)).length).toBeGreaterThan(0)
  await expectSound(spool, path)
  return spool
}

test('a full tmpfs', async ({ skip }) => {
  const directory = join(await temporaryDirectory(), 'disk')
  const problem = await mountTmpfs(directory, 24 * 1024 * 1024)
  if (problem !== null) skip(problem)
  try {
    await fillAndHeal(directory)
  } finally {
    await run('umount', [directory])
  }
})

test('a commit that failed is not taken for done when a call comes after it that writes nothing', async ({
  skip,
}) => {
  const directory = join(await temporaryDirectory(), 'disk')
  const problem = await mountTmpfs(directory, 12 * 1024 * 1024)
  if (problem !== null) skip(problem)
  const ballast = join(directory, 'ballast')
  let spool: Spool | undefined
  try {
    const path = join(directory, 'spool')
    spool = await openSpool({ path, events: EVENTS, largeMessageThreshold: 8_000_000 })
    const id = (await spool.swapOut(message('x'))).ids[0] as string
    await spool.indexQueue()
    await writeFile(ballast, bytes(8 * 1024 * 1024))
    await spool.swapOutMeta(id, { context: { conn: { a: 'b' } } }, { force: false })
    // One transaction: the removal, its record and what was not forced go with what there is no room for.
    const failed = await Promise.allSettled([
      spool.dispose(id, { type: 'delivery' }),
      spool.swapOut(message(bytes(7_000_000))),
    ])
    expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect(await codeOf(spool.swapRemove('0190a5c0-0000-7000-8000-000000000000'))).toBe(
      'SPOOL_ERR_NOT_FOUND',
    )
    await rm(ballast)
    expect((await spool.meta(id)).context.conn).toEqual({ a: 'b' })
    expect(spool.outbox.backlog()).toMatchObject([{ journal: 'mainlog', records: 1 }])
    expect((await spool.claim({ domain: 'example.com' })).messages).toHaveLength(1)
    await spool.log({ type: 'heartbeat' })
    const waiting = spool.outbox.pending('mainlog', { maxRecords: 10, maxBytes: 1e6 })
    expect(waiting.map(({ seq }) => seq)).toEqual([1, 2])
    expect((await spool.upkeep.check()).problems).toEqual([])
  } finally {
    await rm(ballast, { force: true })
    await spool?.close()
    await run('umount', [directory])
  }
})

test.each(['ext4'] satisfies FileSystem[])('a full %s', async (type) => {
  const directory = await temporaryDirectory()
  const problem = await loopMountProblem(type, directory)
  if (problem !== null) {
    console.log(`skipped, a full ${type}: ${problem}`)
    return
  }
  const disk = await LoopMount.make({
    type,
    directory: join(directory, type),
    bytes: 32 * 1024 * 1024,
  })
  try {
    await fillAndHeal(disk.path)
  } finally {
    await disk.destroy()
  }
})
