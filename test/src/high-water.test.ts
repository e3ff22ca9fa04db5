import fc from 'fast-check'
import { expect, it } from 'vitest'
import { HighWater } from '../../src/high-water.js'

it('rises at once or after so many looks, and falls when it has been low for a while', () => {
  const water = new HighWater({ high: 100, low: 50, hold: 1000 })
  expect(water.look(100, 0)).toBe(false)
  expect(water.look(101, 1)).toBe(true)
  expect(water.look(50, 1000)).toBe(true)
  expect(water.look(51, 1999)).toBe(true)
  expect(water.look(0, 2000)).toBe(true)
  expect(water.look(0, 2999)).toBe(true)
  expect(water.look(0, 3000)).toBe(false)
  const patient = new HighWater({ high: 100, low: 50, hold: 0, looks: 2 })
  expect([101, 1, 101, 101, 60, 50].map((level, at) => patient.look(level, at))).toEqual([
    ...[false, false, false, true, true],
    false,
  ])
})

it('never flaps: between a rise and the next one lies the whole time that it has to be low', () => {
  const looks = fc.array(
    fc.record({ level: fc.integer({ min: 0, max: 200 }), after: fc.integer({ min: 1, max: 400 }) }),
    { maxLength: 200 },
  )
  fc.assert(
    fc.property(looks, fc.integer({ min: 1, max: 3 }), (series, needed) => {
      const water = new HighWater({ high: 100, low: 50, hold: 1000, looks: needed })
      let now = 0
      let run = 0
      let lowFor: number | null = null
      let before = false
      for (const { level, after } of series) {
        now += after
        run = level > 100 ? run + 1 : 0
        if (level > 50) lowFor = null
        else lowFor ??= now
        const isHigh = water.look(level, now)
        if (isHigh && !before) expect(run).toBeGreaterThanOrEqual(needed)
        if (!isHigh && run >= needed) expect.unreachable('over the mark, and not high')
        if (before && !isHigh) expect(now - lowFor!).toBeGreaterThanOrEqual(1000)
        before = isHigh
      }
    }),
  )
})
