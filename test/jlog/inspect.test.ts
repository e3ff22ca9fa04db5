import { writeFileSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { inspectJournal, inspectSegment } from '../../jlog/inspect.js'
import { copyOfFixture, manifest, removeTemporaryDirectories, snapshot } from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

for (const name of Object.keys(manifest)) {
  it(`${name}: says whether it is sound, and touches nothing`, async () => {
    const dir = copyOfFixture(name)
    const before = snapshot(dir)
    const inspection = await inspectJournal(dir)
    expect(snapshot(dir)).toEqual(before)
    expect(JSON.parse(JSON.stringify(inspection))).toEqual(inspection)
    // These are sound as they are: readers skip what is missing, and resync an index; the last lost its records unseen.
    const harmless = ['bad-seg-missing', 'bad-seg-two-missing', 'bad-idx-trunc']
    const sound = [...harmless, 'bad-meta-legacy', 'bad-precommit-oversize']
    expect(inspection.sound).toBe(!name.startsWith('bad-') || sound.includes(name))
    if (name.startsWith('bad-')) expect(inspection.records).toBe(manifest[name]!.expected.length)
  })
}

it('names damage with its offset, and what is around it', async () => {
  const dir = copyOfFixture('bad-garbage-mid')
  const { segments } = await inspectJournal(dir)
  expect(segments.filter(({ sound }) => !sound)).toMatchObject([
    { file: '00000005', records: 10, damagedBytes: 196, uncertain: 1, index: 'absent' },
  ])
  expect(segments[5]!.damage).toEqual([
    {
      offset: 144,
      bytes: 196,
      reason: 'uncertain',
      record: { sec: 1700007072, usec: 21072, bytes: 116 },
    },
  ])
})

it('tells the index state of each segment', async () => {
  const dir = copyOfFixture('bad-idx-odd')
  const { segments } = await inspectJournal(dir)
  expect(segments.map(({ index }) => index)).toEqual([
    'sound',
    'unsound',
    'sound',
    'sound',
    'sound',
    'absent',
    'absent',
    'absent',
    'absent',
  ])
})

it('lists every record of a segment, and the damage between them', async () => {
  const dir = copyOfFixture('bad-bad-magic')
  const seen: string[] = []
  for await (const item of inspectSegment(dir, 5)) {
    seen.push(item.kind === 'record' ? `${item.id} ${item.offset} ${item.size}` : item.reason)
  }
  expect(seen).toEqual([
    '00000005:00000001 0 67',
    '00000005:00000002 83 45',
    '00000005:00000003 144 116',
    '00000005:00000004 276 2',
    '00000005:00000005 294 90',
    'bad-header',
    '00000005:00000006 528 87',
    '00000005:00000007 631 90',
    '00000005:00000008 737 93',
    '00000005:00000009 846 107',
    '00000005:0000000a 969 65',
  ])
})

it('gives the sizes of a compressed record on disk and in the hand', async () => {
  const dir = copyOfFixture('lz4')
  let stored = 0
  for await (const item of inspectSegment(dir, 0)) {
    if (item.kind === 'record') stored += item.storedSize + 20
  }
  const { segments } = await inspectJournal(dir)
  expect(stored).toBe(segments[0]!.bytes)
})

it('needs no right to write, and finds no journal where there is none', async () => {
  const dir = copyOfFixture('empty')
  expect((await inspectJournal(dir)).sound).toBe(true)
  writeFileSync(join(dir, 'file'), '')
  await expect(inspectJournal(join(dir, 'file'))).rejects.toMatchObject({ code: 'JLOG_ERR_NOTDIR' })
})

it('takes an index that goes meanwhile for one that is not there', async () => {
  const dir = copyOfFixture('segments')
  const index = join(dir, '00000000.idx')
  const aside = join(dir, 'aside')
  let looking = true
  const coming = (async () => {
    while (looking) {
      await rename(index, aside)
      await rename(aside, index)
    }
  })()
  try {
    for (let looks = 0; looks < 60; looks++) {
      const { segments } = await inspectJournal(dir)
      expect(segments.length).toBeGreaterThan(1)
    }
  } finally {
    looking = false
    await coming
  }
})
