// The retry schedule: always ahead, never past the expiration, and "expired" exactly when it should be.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  checkSchedule,
  DEFAULT_SCHEDULE,
  nextAttempt,
  type RetrySchedule,
} from '../../spool/schedule.js'

const MINUTE = 60_000
const created = 1_700_000_000_000

const seconds = fc.double({ min: 0.001, max: 1e6, noNaN: true })
const schedules: fc.Arbitrary<RetrySchedule> = fc.record({
  delays: fc.oneof(
    fc.array(seconds, { minLength: 1, maxLength: 8 }),
    fc
      .record({
        base: seconds,
        factor: fc.double({ min: 1, max: 10, noNaN: true }),
        max: seconds,
      })
      .map((backoff) => ({ ...backoff, max: Math.max(backoff.base, backoff.max) })),
  ),
  maxRetries: fc.option(fc.nat(50)),
  messageExpiration: fc.option(fc.nat(1_000_000)),
  neverRetry: fc.boolean(),
})

describe('the next attempt', () => {
  test('by default: 5 minutes, doubled up to 4 hours, for 5 days', () => {
    const minutes: number[] = []
    let now = created
    for (let failures = 1; ; failures++) {
      const next = nextAttempt({ created, failures }, now, DEFAULT_SCHEDULE)
      if (next.expired) {
        expect(next.why).toBe('message_expiration')
        break
      }
      minutes.push((next.at - now) / MINUTE)
      now = next.at
    }
    expect(minutes.slice(0, 8)).toEqual([5, 10, 20, 40, 80, 160, 240, 240])
    expect(now).toBe(created + 5 * 86_400_000)
  })

  test('from a list, whose last delay is repeated', () => {
    const schedule = { ...DEFAULT_SCHEDULE, delays: [60, 120] }
    const at = [1, 2, 3, 9].map((failures) => nextAttempt({ created, failures }, created, schedule))
    expect(at).toEqual([1, 2, 2, 2].map((m) => ({ expired: false, at: created + m * MINUTE })))
  })

  test('of any schedule is ahead and within the expiration, or there is none for a reason', () => {
    fc.assert(
      fc.property(
        schedules,
        fc.integer({ min: 1, max: 10_000 }),
        fc.integer({ min: -1_000_000_000, max: 2_000_000_000 }),
        (schedule, failures, age) => {
          const now = created + age
          const end =
            schedule.messageExpiration === null
              ? Number.POSITIVE_INFINITY
              : created + schedule.messageExpiration * 1000
          const next = nextAttempt({ created, failures }, now, checkSchedule(schedule))
          const reasons = {
            never_retry: schedule.neverRetry,
            max_retries: schedule.maxRetries !== null && failures > schedule.maxRetries,
            message_expiration: now >= end,
          }
          expect(next.expired).toBe(Object.values(reasons).includes(true))
          if (next.expired) expect(reasons[next.why]).toBe(true)
          else {
            expect(next.at).toBeGreaterThan(now)
            expect(next.at).toBeLessThanOrEqual(end)
          }
        },
      ),
      { numRuns: 500 },
    )
  })

  test('never comes sooner after more failures, when the delays grow', () => {
    fc.assert(
      fc.property(schedules, fc.integer({ min: 1, max: 500 }), (schedule, failures) => {
        const growing = Array.isArray(schedule.delays)
          ? { ...schedule, delays: schedule.delays.toSorted((a, b) => a - b) }
          : schedule
        const [sooner, later] = [failures, failures + 1].map((n) =>
          nextAttempt({ created, failures: n }, created, growing),
        )
        if (sooner?.expired) expect(later?.expired).toBe(true)
        else if (sooner && later && !later.expired) {
          expect(later.at).toBeGreaterThanOrEqual(sooner.at)
        }
      }),
    )
  })
})

test.each([
  { delays: [] },
  { delays: [0] },
  { delays: [60, Number.NaN] },
  { delays: { base: 0, factor: 2, max: 10 } },
  { delays: { base: 10, factor: 0.5, max: 10 } },
  { delays: { base: 10, factor: 2, max: 5 } },
  { maxRetries: -1 },
  { messageExpiration: -1 },
])('refuses %j', (wrong) => {
  expect(() => checkSchedule({ ...DEFAULT_SCHEDULE, ...wrong })).toThrow(/^retry\./)
})
