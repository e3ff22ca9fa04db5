// The disk fails under the spool: nothing is acknowledged any more, the spool says why, reads go on.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openSpool } from '../../spool/index.js'
import { LoopMount, powerCutProblem } from '../faults/loop-mount.js'
import { bodyOf, bytes, codeOf, message, temporaryDirectory } from './support.js'

test('a disk that fails makes the spool read-only, and says so', async ({ skip }) => {
  const directory = await temporaryDirectory()
  const problem = await powerCutProblem('ext4', directory)
  if (problem !== null) skip(`a failing disk: ${problem}`)
  const disk = await LoopMount.make({
    type: 'ext4',
    directory: join(directory, 'ext4'),
    bytes: 64 * 1024 * 1024,
  })
  try {
    const path = join(disk.path, 'spool')
    const spool = await openSpool({ path })
    const { ids } = await spool.swapOut(message('before'))
    expect(spool.readOnly).toBeNull()
    await disk.cutPower()
    const outcomes = await Promise.all(
      [1, 2, 3].map(() => codeOf(spool.swapOut(message(bytes(400_000))))),
    )
    for (const code of outcomes) expect(code).toMatch(/^SPOOL_ERR_(WRITE|READ_ONLY)$/)
    expect(outcomes).toContain('SPOOL_ERR_WRITE')
    await expect(spool.swapOut(message('after'))).rejects.toMatchObject({
      code: 'SPOOL_ERR_READ_ONLY',
      message: expect.stringContaining('Input/output error'),
    })
    expect(await codeOf(spool.swapRemove(ids[0] as string))).toBe('SPOOL_ERR_READ_ONLY')
    expect(await codeOf(spool.outbox.done('x', 1))).toBe('SPOOL_ERR_READ_ONLY')
    expect(spool.readOnly).toContain('no writes')
    expect(await spool.stats()).toMatchObject({ messages: 1, readOnly: spool.readOnly })
    expect((await bodyOf(spool, ids[0] as string)).toString()).toBe('before')
    expect((await spool.list()).messages.map(({ id }) => id)).toEqual(ids)
    await spool.close()
    await disk.remount()
    const again = await openSpool({ path })
    expect((await bodyOf(again, ids[0] as string)).toString()).toBe('before')
    await again.swapOut(message('and on it goes'))
    await again.close()
  } finally {
    await disk.destroy()
  }
})
