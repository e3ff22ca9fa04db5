import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import {
  addSubscriber,
  createJournal,
  formatLogId,
  JournalSet,
  listSubscribers,
  openReader,
  readRecords,
  SAFETY,
} from '../../jlog/index.js'
import { openSpool, type Spool } from '../../spool/index.js'
import { RELAY_SUBSCRIBER, Relay } from '../../src/relay.js'
import { temporaryDirectory } from '../support/service.js'

const JOURNAL = 'mainlog'
const log = pino({ level: 'silent' })
const body = Buffer.from('body')

let dir: string
let spool: Spool
let journals: JournalSet

beforeEach(async () => {
  dir = await temporaryDirectory()
  journals = await JournalSet.open(join(dir, 'journals'))
  await journals.create(JOURNAL, { safety: SAFETY.safe, unitLimit: 2000 })
  spool = await open()
})

afterEach(async () => {
  await spool.close()
  await journals.close()
})

const open = () =>
  openSpool({ path: join(dir, 'spool'), events: { format: 'json', journalOf: () => JOURNAL } })

const inject = async (count: number) => {
  const rcptto = Array.from({ length: count }, (_, i) => `r${i}@example.net`)
  return (await spool.swapOut({ mailfrom: '', rcptto, body })).ids
}

const path = () => join(dir, 'journals', JOURNAL)

async function logged(): Promise<string[]> {
  const lines: string[] = []
  for await (const batch of readRecords(path())) {
    for (const { payload } of batch) lines.push(payload.toString())
  }
  return lines
}

const idsOf = (lines: string[]) =>
  lines
    .filter((line) => line.startsWith('{'))
    .map((line) => (JSON.parse(line) as { id: string }).id)

/** What a process leaves that died after it had noted a batch and appended `appended` of its records. */
async function dieAfter(appended: number, foreign: boolean): Promise<void> {
  const records = spool.outbox.pending(JOURNAL, { maxRecords: 100, maxBytes: 1_000_000 })
  await journals.withWriter(JOURNAL, async (writer) => {
    const after = formatLogId(await writer.end())
    await spool.outbox.note(JOURNAL, { after, upTo: records.at(-1)!.seq })
    for (const record of records.slice(0, appended)) {
      await writer.appendBatch(foreign ? ['from someone else', record] : [record])
    }
  })
  await journals.close()
  await spool.close()
  journals = await JournalSet.open(join(dir, 'journals'))
  spool = await open()
}

it('relays in commit order, and forgets what it has relayed', async () => {
  const relay = new Relay(spool.outbox, journals, log)
  relay.start()
  const ids = [...(await inject(3)), ...(await inject(2)), ...(await inject(40))]
  await relay.stop()
  expect(idsOf(await logged())).toEqual(ids)
  expect(spool.outbox.size().records).toBe(0)
  expect(spool.outbox.journals()).toEqual([])
})

it.each([0, 1, 3, 5])(
  'appends what is missing of a batch of 5 of which %i were appended',
  async (appended) => {
    const before = await inject(2)
    const first = new Relay(spool.outbox, journals, log)
    first.start()
    await first.stop()
    const ids = await inject(5)
    await dieAfter(appended, false)
    const relay = new Relay(spool.outbox, journals, log)
    relay.start()
    const later = await inject(1)
    await relay.stop()
    expect(idsOf(await logged())).toEqual([...before, ...ids, ...later])
    expect(spool.outbox.size().records).toBe(0)
  },
)

it('finds its records between those of others', async () => {
  const ids = await inject(5)
  await dieAfter(3, true)
  const relay = new Relay(spool.outbox, journals, log)
  relay.start()
  await relay.stop()
  const lines = await logged()
  expect(idsOf(lines)).toEqual(ids)
  expect(lines).toHaveLength(8)
})

it('goes on behind a record that was torn off in the middle', async () => {
  const ids = await inject(3)
  await dieAfter(2, false)
  const [, , third] = spool.outbox.pending(JOURNAL, { maxRecords: 3, maxBytes: 1_000_000 })
  const header = Buffer.alloc(16)
  header.writeUInt32LE(0x663a7318, 0)
  header.writeUInt32LE(third!.payload.length, 12)
  await appendFile(
    join(path(), '00000000'),
    Buffer.concat([header, third!.payload.subarray(0, 20)]),
  )
  const relay = new Relay(spool.outbox, journals, log)
  relay.start()
  await relay.stop()
  expect(idsOf(await logged())).toEqual(ids)
})

it('is not misled by a subscriber that has read and let go of the batch already', async () => {
  await addSubscriber(path(), 'reader')
  const warmUp = new Relay(spool.outbox, journals, log)
  warmUp.start()
  await inject(1)
  await warmUp.stop()
  // Enough to finish the segment, so that a subscriber that has read it all would have it deleted.
  const ids = await inject(12)
  await dieAfter(12, false)
  const reader = await openReader(path(), 'reader')
  for (
    let interval = await reader.readInterval();
    interval !== null;
    interval = await reader.readInterval()
  ) {
    await reader.checkpoint(interval.last)
  }
  await reader.close()
  const relay = new Relay(spool.outbox, journals, log)
  relay.start()
  const [last] = await inject(1)
  await relay.stop()
  expect(idsOf(await logged()).filter((id) => ids.includes(id))).toEqual(ids)
  expect(idsOf(await logged()).at(-1)).toBe(last)
})

it('keeps a checkpoint of its own where it writes', async () => {
  for (let i = 0; i < 5; i++) {
    const relay = new Relay(spool.outbox, journals, log)
    relay.start()
    await inject(12)
    await relay.stop()
  }
  const [own] = (await listSubscribers(path())).filter(({ name }) => name === RELAY_SUBSCRIBER)
  expect(own!.checkpoint.log).toBeGreaterThan(0)
  // Nobody else reads: nothing is deleted.
  expect(idsOf(await logged())).toHaveLength(60)
})

it('waits for a journal that takes nothing, and goes on when it does', async () => {
  await journals.delete(JOURNAL)
  const relay = new Relay(spool.outbox, journals, log)
  relay.start()
  const ids = await inject(3)
  await expect.poll(() => relay.failures()).toHaveLength(1)
  expect(relay.failures()[0]).toMatchObject({ journal: JOURNAL, error: { code: 'JLOG_ERR_OPEN' } })
  expect(spool.outbox.size().records).toBe(3)
  await createJournal(path(), { safety: SAFETY.safe })
  await expect.poll(() => spool.outbox.size().records, { timeout: 5000 }).toBe(0)
  expect(relay.failures()).toEqual([])
  await relay.stop()
  expect(idsOf(await logged())).toEqual(ids)
})
