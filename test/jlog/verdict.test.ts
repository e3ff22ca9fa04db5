/** The judge of the multi-process runs must see what is wrong, or those runs prove nothing. */
import { expect, test } from 'vitest'
import { Verdict } from './processes/verdict.js'

/** `w 0` to `w 4` in segment 0, `w 5` to `w 9` in segment 1. */
const ids = Array.from({ length: 10 }, (_, n) => ({ log: n < 5 ? 0 : 1, marker: (n % 5) + 1 }))
const acks = lines(ids.map(({ log, marker }, n) => `${n} ${log} ${marker}      `))
const seen = (from: number, to: number) =>
  ids.slice(from, to).map(({ log, marker }, i) => `r ${log} ${marker} w ${from + i}`)
const at = (kind: string, n: number) => `${kind} ${ids[n]!.log} ${ids[n]!.marker}`

function lines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join('')
}

function judge(said: {
  writer?: string
  subscriber?: readonly string[]
  follower?: readonly string[]
  overtaken?: boolean
}): readonly string[] {
  const verdict = new Verdict()
  verdict.addWriter('w', said.writer ?? acks)
  verdict.addReader('s', said.subscriber ?? [lines(seen(0, 10))])
  verdict.addReader('f', said.follower ?? [lines(seen(0, 10))])
  verdict.judgeRecords()
  verdict.judgeSubscriber('s')
  verdict.judgeFollower('f', said.overtaken ?? false)
  return verdict.problems
}

test('nothing is wrong with what may be', () => {
  expect(judge({})).toEqual([])
  // Not every record was acknowledged, and a line was cut by a kill.
  expect(judge({ writer: `${acks.slice(0, 40)}7 0` })).toEqual([])
  const first = [...seen(0, 7), at('try', 3), at('done', 3), at('try', 6)]
  expect(judge({ subscriber: [lines(first), lines(seen(4, 10))] })).toEqual([])
  expect(judge({ subscriber: [lines(first), lines(seen(7, 10))] })).toEqual([])
  expect(judge({ follower: [lines(seen(0, 3)), lines(seen(3, 10))] })).toEqual([])
  expect(judge({ follower: [lines(seen(0, 3)), lines(seen(5, 10))], overtaken: true })).toEqual([])
})

test.each([
  ['an acknowledged record that nobody saw', { writer: `${acks}10 1 6\n` }],
  ['one that is elsewhere', { writer: acks.replace('3 0 4', '3 0 9') }],
  ['two at one id', { writer: acks.replace('3 0 4', '3 0 3') }],
  ['a torn one', { subscriber: [lines(seen(0, 10)).replace('w 4', 'torn')] }],
  ['a gap in a subscription', { subscriber: [lines([...seen(0, 3), ...seen(4, 10)])] }],
  ['a repeat in a subscription', { subscriber: [lines([...seen(0, 3), ...seen(2, 10)])] }],
  ['a skipped end of a segment', { subscriber: [lines([...seen(0, 4), ...seen(5, 10)])] }],
  ['a subscription that stops short', { subscriber: [lines(seen(0, 9))] }],
  [
    'a repeat before the checkpoint',
    { subscriber: [lines([...seen(0, 5), at('done', 4)]), lines(seen(3, 10))] },
  ],
  [
    'a skip behind the checkpoint',
    { subscriber: [lines([...seen(0, 5), at('done', 4)]), lines(seen(6, 10))] },
  ],
  ['a follower that skips', { follower: [lines(seen(0, 3)), lines(seen(5, 10))] }],
  [
    'a follower that leaves a segment',
    { follower: [lines([...seen(0, 3), ...seen(5, 10)])], overtaken: true },
  ],
])('%s', (_what, said) => {
  expect(judge(said)).not.toEqual([])
})

test('a writer with a gap, and one out of order', () => {
  for (const order of [
    [0, 2],
    [1, 0],
  ]) {
    const verdict = new Verdict()
    order.forEach((n, i) => {
      verdict.addRecord({ log: 0, marker: i + 1 }, `w ${n}`)
    })
    verdict.judgeRecords()
    expect(verdict.problems).not.toEqual([])
  }
})
