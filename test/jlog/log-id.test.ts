import fc from 'fast-check'
import { expect, test } from 'vitest'
import { compareLogIds, formatLogId, parseLogId } from '../../jlog/log-id.js'

const id = () => fc.record({ log: fc.nat(0xffffffff), marker: fc.nat(0xffffffff) })

test('prints as libjlog does, and reads what it printed', () => {
  expect(formatLogId({ log: 0, marker: 1 })).toBe('00000000:00000001')
  expect(formatLogId({ log: 0xffffffff, marker: 0xabcdef })).toBe('ffffffff:00abcdef')
  fc.assert(
    fc.property(id(), (one) => {
      expect(parseLogId(formatLogId(one))).toEqual(one)
    }),
  )
  expect(parseLogId('1:A')).toEqual({ log: 1, marker: 10 })
})

test('the printed form sorts as the ids do', () => {
  fc.assert(
    fc.property(id(), id(), (a, b) => {
      const text = formatLogId(a) < formatLogId(b) ? -1 : formatLogId(a) === formatLogId(b) ? 0 : 1
      expect(Math.sign(compareLogIds(a, b))).toBe(text)
    }),
  )
})

test.each([
  '',
  ':',
  '0',
  '0:',
  ':1',
  '0:1:2',
  ' 0:1',
  '0:1 ',
  '0x0:1',
  'g:1',
  '000000000:1',
  '-1:1',
  '0:1\n',
])('refuses %j', (text) => {
  expect(() => parseLogId(text)).toThrow(
    expect.objectContaining({ code: 'JLOG_ERR_ILLEGAL_LOGID' }),
  )
})
