/** A subscriber is added while others read and clean: at the moment before its checkpoint appears, what it was to begin with is removed. */
import { expect, it, vi } from 'vitest'

const before = vi.hoisted(() => ({ link: async () => {} }))
vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof import('node:fs/promises')>()
  const link = async (from: string, to: string) => {
    await before.link()
    return fs.link(from, to)
  }
  return { ...fs, link, default: { ...fs, link } }
})

import {
  addSubscriber,
  firstId,
  getCheckpoint,
  lastId,
  openReader,
  openWriter,
  setCheckpoint,
  type Whence,
} from '../../jlog/index.js'
import { temporaryJournals } from './reading.js'

const journal = temporaryJournals()

it.each<[string, Whence]>([
  ['begin', 'begin'],
  ['end', 'end'],
  ['copy', { copy: 'other' }],
])('%s: nothing is missing after the checkpoint that is told', async (_, whence) => {
  const dir = await journal({ unitLimit: 100, subscribers: ['other'] })
  const writer = await openWriter(dir)
  for (let i = 0; i < 10; i++) await writer.append(`record ${i}`)
  before.link = async () => {
    before.link = async () => {}
    for (let i = 10; i < 40; i++) await writer.append(`record ${i}`)
    await setCheckpoint(dir, 'other', { log: (await lastId(dir)).log - 1, marker: 1 })
  }
  const told = await addSubscriber(dir, 'new', whence)
  expect(told.log).toBeGreaterThanOrEqual((await firstId(dir)).log)
  expect(told.log).toBeGreaterThan(3)
  expect(await getCheckpoint(dir, 'new')).toEqual(told)
  await writer.append('last')
  const reader = await openReader(dir, 'new')
  const first = (await reader.readInterval())!.first
  expect(first.log - told.log).toBeLessThanOrEqual(1)
  await reader.close()
  await writer.close()
})

it('a copy of one that stands before the earliest segment stands there, too', async () => {
  const dir = await journal({ unitLimit: 100, subscribers: ['other'] })
  const writer = await openWriter(dir)
  for (let i = 0; i < 40; i++) await writer.append(`record ${i}`)
  await setCheckpoint(dir, 'other', { log: 4, marker: 1 })
  await setCheckpoint(dir, 'other', { log: 1, marker: 1 })
  expect(await addSubscriber(dir, 'new', { copy: 'other' })).toEqual({ log: 1, marker: 1 })
  await writer.close()
})
