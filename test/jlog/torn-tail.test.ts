/** Readers at the tail while a writer dies in the middle of an append, and the next one puts the torn bytes in quarantine. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  addSubscriber,
  createJournal,
  follow,
  type LogId,
  openReader,
  openWriter,
  type SkippedRange,
} from '../../jlog/index.js'
import { makeTemporary } from './journals.js'
import { labelOf, payloadOf } from './processes/common.mjs'
import { Fleet } from './processes/fleet.js'

const PROCESSES = join(import.meta.dirname, 'processes')
const MAGIC = 0x663a7318

// Processes are slow to start on a busy machine; nobody who is stuck is waited for that long.
vi.setConfig({ testTimeout: 180_000 })

let scratch: string
let dir: string

beforeEach(async () => {
  scratch = await makeTemporary()
  dir = join(scratch, 'journal')
})
afterEach(() => rm(scratch, { recursive: true, force: true }))

function record(payload: Buffer): Buffer {
  const header = Buffer.alloc(16)
  header.writeUInt32LE(MAGIC, 0)
  header.writeUInt32LE(1, 4)
  header.writeUInt32LE(payload.length, 12)
  return Buffer.concat([header, payload])
}

/** A process that dies with so many bytes of a record written. */
async function tear(torn: Buffer, bytes: number): Promise<void> {
  const args = [join(PROCESSES, 'torn-writer.mjs'), dir, torn.toString('hex'), String(bytes)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  await once(child, 'exit')
  expect(child.signalCode).toBe('SIGKILL')
}

function labelsIn(said: string): string[] {
  const lines = said.split('\n').filter((line) => line.startsWith('r '))
  return lines.map((line) => line.split(' ').slice(3).join(' '))
}

test('go on behind it, and never get a torn record', async () => {
  await createJournal(dir, { unitLimit: 6000, subscribers: ['s', '~keeper'] })
  const finish = join(scratch, 'finish')
  const fleet = new Fleet(scratch, () => 0)
  const node = (script: string, ...args: string[]) => [
    process.execPath,
    join(PROCESSES, script),
    ...args,
  ]
  const roles = {
    follower: node('follower.mjs', dir, finish, 'begin'),
    subscriber: node('subscriber.mjs', dir, 's', finish, '1'),
  }
  for (const [name, command] of Object.entries(roles))
    fleet.start({ name, mortal: false, command: () => command })
  const until = async (label: string) => {
    const all = () => Object.keys(roles).every((name) => fleet.said(name).join('').includes(label))
    await expect.poll(all, { timeout: 60_000, interval: 2 }).toBe(true)
  }
  try {
    const written: string[] = []
    let last: LogId = { log: 0, marker: 0 }
    // Longer than what follows and shorter, cut in the header, behind it, and one byte before the end.
    const torn = [record(Buffer.alloc(20, 0x74)), record(Buffer.alloc(3000, 0x74))]
    const cuts = (bytes: number) => [1, 15, 16, 17, bytes >> 1, bytes - 1]
    let n = 0
    for (const bytes of torn) {
      for (const cut of cuts(bytes.length)) {
        await tear(bytes, cut)
        const writer = await openWriter(dir)
        for (let i = 0; i < 1 + (n % 3); i++) {
          last = await writer.append(payloadOf('w', n))
          written.push(`w ${n++}`)
        }
        await writer.close()
        // The readers are at the tail again when the next one dies.
        await until(`w ${n - 1}\n`)
      }
    }
    // Whole when it is there: it is looked at all the while.
    await writeFile(`${finish}.new`, `${last.log} ${last.marker}`)
    await rename(`${finish}.new`, finish)
    await fleet.ended(Object.keys(roles), 60_000)
    for (const name of Object.keys(roles)) expect(labelsIn(fleet.said(name)[0]!)).toEqual(written)
    expect(fleet.failures).toEqual([])
    const kept = (await readdir(dir)).filter((name) => name.includes('.torn-'))
    const bytesKept = kept.reduce((sum, name) => sum + statSync(join(dir, name)).size, 0)
    expect(bytesKept).toBe(torn.flatMap(({ length }) => cuts(length)).reduce((a, b) => a + b))
    expect(kept.every((name) => readFileSync(join(dir, name)).length > 0)).toBe(true)
  } finally {
    await fleet.end()
  }
})

describe('a torn record whose payload holds records', () => {
  /** It cannot be told from damage, so the writer leaves it where it is, and goes on in the next segment. */
  async function prepare(): Promise<{ before: string[]; after: string }> {
    await createJournal(dir, { subscribers: ['~keeper'] })
    const writer = await openWriter(dir)
    for (let n = 0; n < 3; n++) await writer.append(payloadOf('w', n))
    await writer.close()
    const inner = record(Buffer.from(payloadOf('inner', 0)))
    await tear(record(Buffer.concat([inner, inner, inner, inner])), 16 + 3 * inner.length)
    return { before: ['w 0', 'w 1', 'w 2'], after: payloadOf('w', 3) }
  }

  const append = async (payload: string) => {
    const writer = await openWriter(dir)
    await writer.append(payload)
    await writer.close()
  }

  test('is passed over by a follower that is to skip damage, and named', async () => {
    const { before, after } = await prepare()
    const skipped: SkippedRange[] = []
    const tail = follow(dir, {
      from: 'begin',
      onDamage: 'skip',
      onSkipped: (range) => skipped.push(range),
    })
    const seen: string[] = []
    for await (const batch of tail) {
      for (const { payload } of batch) seen.push(labelOf(payload))
      if (seen.length === 3) await append(after)
      if (seen.at(-1) === 'w 3') break
    }
    expect(seen.slice(0, 3)).toEqual(before)
    expect(seen.filter((label) => label.startsWith('w'))).toEqual([...before, 'w 3'])
    expect(skipped).toMatchObject([{ segment: 0 }])
  })

  test('is damage to a follower that is not', async () => {
    const { after } = await prepare()
    const tail = follow(dir, { from: 'begin' })
    expect((await tail.next()).value.length).toBe(3)
    await append(after)
    await expect(tail.next()).rejects.toMatchObject({ code: 'JLOG_ERR_FILE_CORRUPT', segment: 0 })
  })

  test('is repaired by a subscriber', async () => {
    const { before, after } = await prepare()
    await addSubscriber(dir, 's')
    await append(after)
    const reader = await openReader(dir, 's')
    const seen: string[] = []
    for (let next = await reader.readInterval(); next; next = await reader.readInterval()) {
      for (const { payload } of await reader.readBatch()) seen.push(labelOf(payload))
      await reader.checkpoint(next.last)
    }
    await reader.close()
    expect(seen.slice(0, 3)).toEqual(before)
    expect(seen.at(-1)).toBe('w 3')
    expect((await readdir(dir)).some((name) => name.includes('.torn-'))).toBe(true)
  })
})
