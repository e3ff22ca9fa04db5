import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Commit, openSpool } from '../../spool/index.js'
import { bytes, message, temporaryDirectory } from './support.js'

test('an observer is told of each commit, and sums are of what is committed', async () => {
  const commits: Commit[] = []
  const failed: string[] = []
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await openSpool({
    path,
    observer: {
      committed: (commit) => commits.push(commit),
      commitFailed: (code) => failed.push(code),
    },
  })
  expect(spool.waiting).toEqual({ bytes: 0, milliseconds: 0 })
  const storing = [1, 2, 3].map((n) => spool.swapOut(message(bytes(1000 * n))))
  expect(spool.waiting.bytes).toBeGreaterThan(6000)
  const [first] = await Promise.all(storing)
  const ids = first!.ids
  expect(spool.waiting).toEqual({ bytes: 0, milliseconds: 0 })
  expect(commits.reduce((sum, { operations }) => sum + operations, 0)).toBe(3)
  await expect(spool.dispose(ids[0]!, { type: 'delivery', lease: ids[0]! })).rejects.toThrow(
    'lease',
  )
  await spool.dispose(ids[0]!, { type: 'transient_failure' })
  await spool.dispose(ids[0]!, { type: 'delivery' })
  expect(commits.flatMap(({ events }) => events)).toEqual(['transient_failure', 'delivery'])
  expect(commits.every(({ milliseconds }) => milliseconds > 0)).toBe(true)
  expect(spool.activity).toEqual({
    messagesStored: 3,
    messagesRemoved: 1,
    bytesStored: 6000,
    bytesRemoved: 1000,
    reads: 0,
    bytesRead: 0,
  })
  expect(failed).toEqual([])
  await spool.close()
})

test('what is due is counted up to a limit', async () => {
  const spool = await openSpool({ path: join(await temporaryDirectory(), 'spool') })
  expect(spool.due(10)).toEqual({ count: 0, oldest: null })
  const before = Date.now()
  for (const nextAttempt of [before - 5000, before - 1000, before, before + 60_000, null]) {
    await spool.swapOut({ ...message('x'), nextAttempt })
  }
  expect(spool.due(10)).toEqual({ count: 3, oldest: before - 5000 })
  expect(spool.due(2)).toEqual({ count: 2, oldest: before - 5000 })
  await spool.claim({ limit: 1 })
  expect(spool.due(10)).toEqual({ count: 2, oldest: before - 1000 })
  expect(await spool.stats()).toMatchObject({ leased: 1, deferred: 0, claims: 1 })
  await spool.close()
})
