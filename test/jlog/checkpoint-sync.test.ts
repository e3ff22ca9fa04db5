/** A disk that fails to sync a checkpoint: the system's call fails, nothing of the journal is replaced. */
import { afterEach, expect, it, vi } from 'vitest'

const disk = vi.hoisted(() => ({ fails: false }))
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>()
  const fdatasync = (fd: number, done: (error: NodeJS.ErrnoException | null) => void) => {
    if (disk.fails) done(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
    else fs.fdatasync(fd, done)
  }
  return { ...fs, fdatasync, default: { ...fs, fdatasync } }
})

import { getCheckpoint, openReader, openWriter, setCheckpoint } from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const journal = temporaryJournals()
afterEach(() => {
  disk.fails = false
})

it('leaves the checkpoint where it was: what was not taken as read is read again', async () => {
  const dir = await journal({ safety: 2, subscribers: ['s'] })
  const writer = await openWriter(dir)
  for (const text of ['one', 'two', 'three']) await writer.append(text)
  await writer.close()
  const reader = await openReader(dir, 's')
  const interval = await reader.readInterval()
  disk.fails = true
  await expect(reader.checkpoint(interval!.last)).rejects.toMatchObject({
    code: 'JLOG_ERR_CHECKPOINT',
  })
  await expect(setCheckpoint(dir, 's', { log: 0, marker: 2 })).rejects.toMatchObject({
    code: 'JLOG_ERR_CHECKPOINT',
  })
  expect(await reader.readInterval()).toEqual(interval)
  disk.fails = false
  await reader.checkpoint(interval!.last)
  expect(await getCheckpoint(dir, 's')).toEqual(interval!.last)
  await reader.close()
})
