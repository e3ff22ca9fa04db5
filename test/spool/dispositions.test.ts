// What becomes of a message: log record and change together; the schedule's end; retention.
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { RetrySchedule, Spool } from '../../spool/index.js'
import { DEFAULT_SCHEDULE } from '../../spool/index.js'
import { codeOf, expectSound, message, temporaryDirectory, temporarySpool } from './support.js'

const HOUR = 3_600_000

function logged(spool: Spool): Record<string, unknown>[] {
  return spool.outbox
    .pending('mainlog', { maxRecords: 1000, maxBytes: 1 << 24 })
    .map(({ payload }) => JSON.parse(payload.toString()))
    .filter(({ type }) => type !== 'reception')
}

const store = async (spool: Spool, more = {}) =>
  (await spool.swapOut(message('x', more))).ids[0] as string

test.each<[string, Partial<RetrySchedule>, number, string]>([
  ['never_retry', { neverRetry: true }, 0, 'permanent_failure'],
  ['max_retries', { maxRetries: 0 }, 0, 'permanent_failure'],
  ['message_expiration', { messageExpiration: 7200 }, 3 * HOUR, 'expiration'],
])(
  '%s ends a message at a transient failure, and both are logged',
  async (_, rule, later, type) => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, retry: { ...DEFAULT_SCHEDULE, ...rule } })
    const id = await store(spool)
    const real = Date.now
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => real() + later)
    try {
      expect(await spool.dispose(id, { type: 'transient_failure', note: '451 no' })).toEqual({
        result: 'complete',
        outcome: 'expired',
        nextAttempt: null,
      })
    } finally {
      clock.mockRestore()
    }
    expect(await codeOf(spool.meta(id))).toBe('SPOOL_ERR_NOT_FOUND')
    expect(logged(spool)).toMatchObject([
      { type: 'transient_failure', id, note: '451 no' },
      { type, id, note: expect.stringMatching(/^554 5\.4\.7 .*: 451 no$/) },
    ])
    await expectSound(spool, path)
  },
)

test('asyncFail logs a permanent failure and removes, once', async () => {
  const spool = await temporarySpool()
  const id = await store(spool)
  await Promise.allSettled([spool.asyncFail(id, '550 no'), spool.asyncFail(id, '550 no')])
  expect(logged(spool)).toMatchObject([{ type: 'permanent_failure', id, note: '550 no' }])
})

test('a disposition that is refused logs nothing', async () => {
  const spool = await temporarySpool()
  const id = await store(spool)
  const lease = '019a0000-0000-7000-8000-000000000000'
  expect(await codeOf(spool.dispose(id, { type: 'delivery', lease }))).toBe('SPOOL_ERR_LEASE')
  expect(logged(spool)).toEqual([])
})

test('a message goes with its own retention, or with the spool’s, and is logged', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  let spool = await temporarySpool({ path, maxRetention: 2 * 3600 })
  const short = await store(spool, { retention: 3600 })
  const normal = await store(spool)
  const long = await store(spool, { retention: 10 * 3600 })
  const changed = await store(spool, { retention: 3600 })
  await spool.swapOutMeta(changed, { retention: 10 * 3600 })
  const real = Date.now
  const clock = vi.spyOn(Date, 'now')
  const left = async () => (await spool.list()).messages.map(({ id }) => id)
  try {
    clock.mockImplementation(() => real() + 1.5 * HOUR)
    await spool.expire()
    expect(await left()).toEqual([normal, long, changed])
    // Over a restart, too; a leased message waits until its lease ends.
    await spool.close()
    spool = await temporarySpool({ path, maxRetention: 2 * 3600 })
    clock.mockImplementation(() => real() + 3 * HOUR)
    const { lease } = await spool.claim({ limit: 1, leaseSeconds: 600 })
    await spool.expire()
    expect(await left()).toEqual([normal, long, changed])
    await spool.releaseClaim(lease!)
    await vi.waitUntil(async () => (await left()).length === 2, { timeout: 10_000, interval: 50 })
    expect(await left()).toEqual([long, changed])
    await spool.swapOutMeta(long, { retention: null })
    await vi.waitUntil(async () => (await left()).length === 1, { timeout: 10_000, interval: 50 })
  } finally {
    clock.mockRestore()
  }
  expect(logged(spool)).toMatchObject([
    { type: 'expiration', id: short },
    { type: 'expiration', id: normal },
    { type: 'expiration', id: long },
  ])
  await expectSound(spool, path)
})

test('whatever has expired goes at once, however much it is', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path, maxRetention: 3600, events: undefined })
  const rcptto = Array.from({ length: 2500 }, (_, i) => `u${i}@example.net`)
  await spool.swapOut(message('x', { rcptto }))
  await spool.swapOut(message('x', { rcptto, retention: 1800 }))
  const clock = later(2 * HOUR)
  try {
    await spool.expire()
    expect((await spool.stats()).messages).toBe(0)
  } finally {
    clock.mockRestore()
  }
  await expectSound(spool, path)
})

test('what has expired but is leased does not keep others from going', async () => {
  const spool = await temporarySpool()
  const rcptto = Array.from({ length: 2100 }, (_, i) => `u${i}@example.net`)
  await spool.swapOut(message('x', { rcptto, retention: 1800 }))
  for (let left = rcptto.length; left > 0; ) {
    left -= (await spool.claim({ limit: 1000, leaseSeconds: 12 * 3600 })).messages.length
  }
  const { ids } = await spool.swapOut(message('x', { retention: 1900 }))
  const clock = later(HOUR)
  try {
    await vi.waitUntil(
      async () => {
        await spool.expire()
        return (await spool.stats()).messages === rcptto.length
      },
      { timeout: 20_000, interval: 10 },
    )
    await expect(spool.meta(ids[0] as string)).rejects.toThrow('there is no message')
  } finally {
    clock.mockRestore()
  }
})

/** The clock, so many milliseconds on. */
function later(ms: number) {
  const real = Date.now
  return vi.spyOn(Date, 'now').mockImplementation(() => real() + ms)
}
