import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, expect, it } from 'vitest'
import { openSpool, SpaceWatch } from '../../spool/index.js'
import { Readiness, type ReadinessLimits } from '../../src/readiness.js'
import { temporaryDirectory } from '../support/service.js'

const NEVER = Number.POSITIVE_INFINITY
const NO_LIMITS = { commitDelay: NEVER, eventLoopDelay: NEVER, memory: NEVER, inFlight: NEVER }

const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const close of undo.splice(0).reverse()) await close()
})

async function start(limits: Partial<ReadinessLimits>) {
  const data = await temporaryDirectory()
  const spool = await openSpool({
    path: join(data, 'spool'),
    events: { format: 'json', journalOf: () => 'mainlog' },
  })
  undo.push(() => spool.close())
  const log: { level: number; msg: string; reasons?: string[] }[] = []
  const logger = pino({}, { write: (line: string) => void log.push(JSON.parse(line)) })
  const readiness = new Readiness(
    {
      spool,
      space: new SpaceWatch(data, { low: 0, high: 0 }),
    },
    { ...NO_LIMITS, backlog: NEVER, ...limits },
    logger,
  )
  undo.push(() => readiness.stop())
  readiness.start()
  const codes = () => readiness.reasons.map(({ code }) => code)
  return { spool, readiness, log, codes }
}

function block(milliseconds: number): void {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

it('finds the event loop late when it is late again and again, not when it is once', async () => {
  const { codes, readiness } = await start({ eventLoopDelay: 400 })
  block(700)
  await delay(1)
  expect(codes()).toEqual([])
  await delay(300)
  for (let i = 0; i < 3; i++) {
    block(700)
    await delay(1)
  }
  expect(codes()).toEqual(['event_loop_late'])
  expect(readiness.reasons[0]!.detail).toMatch(/^the process is \d\.\d s late with its work/)
  await expect.poll(codes, { timeout: 20_000 }).toEqual([])
})

it('finds that too many log records wait for a journal, until they are well below', async () => {
  const { spool, codes, log } = await start({ backlog: 10 })
  const store = () =>
    spool.swapOut({ mailfrom: '', rcptto: ['a@example.net'], body: Buffer.from('x') })
  for (let i = 0; i < 10; i++) await store()
  await delay(150)
  expect(codes()).toEqual([])
  await store()
  await expect.poll(codes).toEqual(['log_backlog'])
  const waiting = spool.outbox.pending('mainlog', { maxRecords: 100, maxBytes: 1e6 })
  await spool.outbox.done('mainlog', waiting[0]!.seq)
  await delay(150)
  expect(codes()).toEqual(['log_backlog'])
  await spool.outbox.done('mainlog', waiting[1]!.seq)
  await expect.poll(codes).toEqual([])
  expect(log.map(({ msg, reasons }) => [msg, reasons])).toEqual([
    ['no messages are taken', ['log_backlog']],
    ['messages are taken again', undefined],
  ])
})

it('says that the service is stopping', async () => {
  const { readiness, codes } = await start({})
  expect(codes()).toEqual([])
  readiness.stopping()
  expect(codes()).toEqual(['stopping'])
})
