import { copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createJournal } from '../../jlog/create.js'
import { openWriter } from '../../jlog/writer.js'
import { fixture, makeTemporary, manifest, recordsOnDisk } from './journals.js'

let scratch: string
let dir: string

beforeEach(async () => {
  scratch = await makeTemporary()
  dir = join(scratch, 'journal')
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

const segment = () => readFile(join(dir, '00000000'))
const preCommit = () => readFile(join(dir, 'pre_commit'))
const texts = async () => (await recordsOnDisk(dir)).map((record) => record.payload.toString())

async function copyJournal(name: string): Promise<void> {
  await mkdir(dir, { recursive: true })
  for (const file of await readdir(fixture(name))) {
    await copyFile(join(fixture(name), file), join(dir, file))
  }
}

/** Bytes of a record with this text, in a plain journal. */
function record(text: string, sec = 1, usec = 2): Buffer {
  const header = Buffer.from(new Uint32Array([0x663a7318, sec, usec, text.length]).buffer)
  return Buffer.concat([header, Buffer.from(text)])
}

/** A buffer file of `capacity` with these bytes pending. */
function buffered(capacity: number, pending: Buffer, count = pending.length): Buffer {
  const file = Buffer.alloc(4 + capacity)
  file.writeUInt32LE(count, 0)
  pending.copy(file, 4)
  return file
}

test('writes what libjlog writes with a buffer of 4096 bytes', async () => {
  const name = 'precommit-flushed'
  const { meta } = manifest[name]!
  await createJournal(dir, { unitLimit: meta.unit_limit, preCommit: 4096 })
  const writer = await openWriter(dir)
  for (const { sec, usec, payload } of await recordsOnDisk(fixture(name))) {
    await writer.append(payload, { sec, usec })
  }
  await writer.close()
  expect(await segment()).toEqual(await readFile(join(fixture(name), '00000000')))
  expect((await preCommit()).readUInt32LE(0)).toBe(0)
  expect((await preCommit()).length).toBe(4100)
})

test('leaves in segment and buffer what libjlog leaves', async () => {
  // The same records as in the fixture, of which libjlog has the last in its buffer still.
  const name = 'precommit-pending'
  await createJournal(dir, { unitLimit: manifest[name]!.meta.unit_limit, preCommit: 4096 })
  const all = await recordsOnDisk(fixture('precommit-flushed'))
  const writer = await openWriter(dir)
  for (const { sec, usec, payload } of all.slice(0, manifest[name]!.written.length)) {
    await writer.append(payload, { sec, usec })
  }
  expect(await segment()).toEqual(await readFile(join(fixture(name), '00000000')))
  const ours = await preCommit()
  const theirs = await readFile(join(fixture(name), 'pre_commit'))
  const used = 4 + theirs.readUInt32LE(0)
  expect(ours.subarray(0, used)).toEqual(theirs.subarray(0, used))
  await writer.close()
})

test("moves what libjlog's dead writer left to the segment, once", async () => {
  await copyJournal('precommit-pending')
  const { written } = manifest['precommit-pending']!
  const before = await segment()
  for (let n = 0; n < 2; n++) {
    await (await openWriter(dir)).close()
    const records = await recordsOnDisk(dir)
    expect(records.map((r) => [r.sec, r.usec, r.payload.length])).toEqual(
      written.map(([sec, usec, bytes]) => [sec, usec, bytes]),
    )
    expect((await segment()).subarray(0, before.length)).toEqual(before)
  }
})

test('a move that died at any byte is finished, not made again', async () => {
  await copyJournal('precommit-pending')
  const before = await segment()
  const pending = await preCommit()
  const bytes = pending.subarray(4, 4 + pending.readUInt32LE(0))
  const whole = Buffer.concat([before, bytes])
  for (const moved of [0, 1, 15, 16, 17, 100, 200, 500, bytes.length - 1, bytes.length]) {
    await writeFile(join(dir, '00000000'), Buffer.concat([before, bytes.subarray(0, moved)]))
    await writeFile(join(dir, 'pre_commit'), pending)
    await (await openWriter(dir)).close()
    expect((await segment()).equals(whole), `after ${moved} bytes`).toBe(true)
    expect((await preCommit()).readUInt32LE(0)).toBe(0)
  }
})

test('a move that died after it filled the segment is not made again in the next', async () => {
  await createJournal(dir, { unitLimit: 100, preCommit: 500 })
  const pending = Buffer.concat([record('a'.repeat(50)), record('b'.repeat(50))])
  await writeFile(join(dir, '00000000'), pending)
  await writeFile(join(dir, 'pre_commit'), buffered(500, pending))
  const writer = await openWriter(dir)
  expect(await writer.append('c')).toEqual({ log: 1, marker: 1 })
  await writer.close()
  expect(await texts()).toEqual(['a'.repeat(50), 'b'.repeat(50), 'c'])
})

describe('a writer', () => {
  test('gives the ids that the records have once they are flushed', async () => {
    await createJournal(dir, { unitLimit: 600, preCommit: 256 })
    const writer = await openWriter(dir)
    const ids = []
    for (let i = 0; i < 80; i++) {
      if (i % 11 === 0) ids.push(await writer.append(`large ${i} ${'x'.repeat(300)}`))
      else if (i % 7 === 0) {
        const { first, last } = await writer.appendBatch([`b${i}`, `c${i} ${'y'.repeat(i * 2)}`])
        ids.push(first, last)
      } else ids.push(await writer.append(`small ${i}`))
      const end = await writer.end()
      if (end.marker > 0) expect(end).toEqual(ids.at(-1))
      else expect(end.log).toBe(ids.at(-1)!.log + 1)
    }
    await writer.close()
    const records = await recordsOnDisk(dir)
    expect(records.map(({ log, marker }) => ({ log, marker }))).toEqual(ids)
  })

  test('writes a record larger than the buffer after those that wait, over nothing', async () => {
    await copyJournal('precommit-flushed')
    const before = await texts()
    const writer = await openWriter(dir)
    await writer.append('known end')
    await writer.append('waits')
    await writer.append('x'.repeat(9000))
    await writer.append('after')
    expect((await texts()).slice(before.length)).toEqual(['known end', 'waits', 'x'.repeat(9000)])
    await writer.flush()
    expect((await texts()).at(-1)).toBe('after')
    await writer.close()
    expect((await texts()).length).toBe(before.length + 4)
  })

  test('keeps a batch in one segment', async () => {
    await createJournal(dir, { unitLimit: 100, preCommit: 200 })
    const writer = await openWriter(dir)
    await writer.append('one')
    const { first, last } = await writer.appendBatch(Array.from({ length: 50 }, (_, i) => `r${i}`))
    expect(last).toEqual({ log: first.log, marker: first.marker + 49 })
    await writer.close()
    expect((await texts()).length).toBe(51)
  })

  test('makes the buffer another size, or none, after moving what is in it', async () => {
    await copyJournal('precommit-pending')
    const n = manifest['precommit-pending']!.written.length
    await (await openWriter(dir, { preCommit: 1000 })).close()
    expect((await stat(join(dir, 'pre_commit'))).size).toBe(1004)
    const writer = await openWriter(dir, { preCommit: 0 })
    expect(await preCommit()).toEqual(Buffer.alloc(4))
    await writer.append('straight to the segment')
    expect((await texts()).length).toBe(n + 1)
    await writer.close()
  })

  test('never takes an equal older record for one that was moved', async () => {
    await createJournal(dir, { preCommit: 4096 })
    const time = { sec: 1, usec: 2 }
    const one = await openWriter(dir)
    await one.append('same', time)
    await one.flush()
    // Every one is the segment's last record again: none of them may wait in the buffer.
    for (let i = 0; i < 3; i++) await one.append('same', time)
    await one.append('other', time)
    await one.append('same', time)
    // As if it had been killed here: the disk is all that the next one has.
    const left = { segment: await segment(), buffer: await preCommit() }
    await one.close()
    await writeFile(join(dir, '00000000'), left.segment)
    await writeFile(join(dir, 'pre_commit'), left.buffer)
    await (await openWriter(dir)).close()
    expect(await texts()).toEqual(['same', 'same', 'same', 'same', 'other', 'same'])
  })

  test('puts bytes that are no records into quarantine', async () => {
    await createJournal(dir, { preCommit: 200 })
    const garbage = Buffer.from('these are no records at all')
    const pending = Buffer.concat([record('good'), garbage])
    await writeFile(join(dir, 'pre_commit'), buffered(200, pending))
    await (await openWriter(dir)).close()
    expect(await texts()).toEqual(['good'])
    expect(await readFile(join(dir, 'pre_commit.torn-0'))).toEqual(garbage)
  })

  test('takes no more than is in the file, whatever the count says', async () => {
    await createJournal(dir, { preCommit: 100 })
    await writeFile(join(dir, 'pre_commit'), buffered(100, record('good'), 0xffffffff))
    await (await openWriter(dir)).close()
    expect(await texts()).toEqual(['good'])
  })
})

test('any records, killed anywhere in a flush: each exactly once, in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(3), fc.nat(2), fc.nat(60)), { minLength: 1, maxLength: 40 }),
      fc.nat(),
      async (given, at) => {
        await rm(dir, { recursive: true, force: true })
        await createJournal(dir, { preCommit: 300 })
        const writer = await openWriter(dir)
        const states: { segment: Buffer; buffer: Buffer; written: number }[] = []
        for (const [sec, usec, length] of given) {
          await writer.append('p'.repeat(length), { sec, usec })
          states.push({
            segment: await segment(),
            buffer: await preCommit(),
            written: states.length + 1,
          })
        }
        await writer.close()
        const state = states[at % states.length]!
        const count = state.buffer.readUInt32LE(0)
        const moved = at % (count + 1)
        const torn = Buffer.concat([state.segment, state.buffer.subarray(4, 4 + moved)])
        await writeFile(join(dir, '00000000'), torn)
        await writeFile(join(dir, 'pre_commit'), state.buffer)
        await (await openWriter(dir)).close()
        const records = await recordsOnDisk(dir)
        expect(records.map((r) => [r.sec, r.usec, r.payload.length])).toEqual(
          given.slice(0, state.written),
        )
      },
    ),
    { numRuns: 60 },
  )
})
