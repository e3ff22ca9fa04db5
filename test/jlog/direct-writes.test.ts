/** When writes are made at once, and when they are left to other threads. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { DirectWrites } from '../../jlog/direct-writes.js'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

test('quick ones go on, after one that had to wait there are none for a second', () => {
  const direct = new DirectWrites(true)
  expect(direct.allowed).toBe(true)
  expect(direct.run(() => vi.advanceTimersByTime(9) && 'done')).toBe('done')
  expect(direct.allowed).toBe(true)
  direct.run(() => vi.advanceTimersByTime(11))
  expect(direct.allowed).toBe(false)
  vi.advanceTimersByTime(999)
  expect(direct.allowed).toBe(false)
  vi.advanceTimersByTime(1)
  expect(direct.allowed).toBe(true)
})

test('one that waits and fails counts, too', () => {
  const direct = new DirectWrites(true)
  const fail = () => {
    vi.advanceTimersByTime(50)
    throw new Error('no room')
  }
  expect(() => direct.run(fail)).toThrow('no room')
  expect(direct.allowed).toBe(false)
})

test('never, when it is not wanted', () => {
  expect(new DirectWrites(false).allowed).toBe(false)
})
