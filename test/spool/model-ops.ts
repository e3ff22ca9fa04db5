/**
 * The operations of the model test, as plain data, so that fast-check can leave out and shrink any of them.
 * Which message one is about is a number: the model says which that is of those it has.
 */
import fc from 'fast-check'
import type { DispositionType } from '../../spool/index.js'

export interface Content {
  readonly kind: 'text' | 'bytes'
  readonly size: number
  readonly seed: number
}

export interface NewOne {
  readonly content: Content
  readonly via: 'bytes' | 'staged' | 'stream'
  readonly recipients: number
  readonly domain: number
  readonly binding: number
  /** Seconds from now; null: not scheduled; undefined: now. */
  readonly due: number | null | undefined
  readonly retention: number | undefined
  readonly context: Record<string, string>
  readonly deferred: boolean
}

/** Of a condition on the version. */
export type IfVersion = 'right' | 'wrong' | 'none'

export interface Patch {
  readonly due?: number | null | undefined
  readonly retries?: number
  readonly retention?: number | null
  readonly binding?: number
  readonly context?: Record<string, string | null> | null
}

export type Op =
  | { op: 'store'; one: NewOne; key: number | undefined }
  | { op: 'multi'; ones: NewOne[]; shared: Content | undefined; bad: boolean }
  | { op: 'refs'; pick: number; one: NewOne }
  | { op: 'copy'; pick: number; share: boolean }
  | { op: 'read'; pick: number; from: number; to: number }
  | { op: 'parts'; pick: number }
  | { op: 'readRemoved'; pick: number }
  | { op: 'update'; pick: number; patch: Patch; force: boolean; ifVersion: IfVersion }
  | {
      op: 'context'
      pick: number
      name: 'conn' | 'mess'
      how: 'set' | 'replace' | 'delete' | 'clean'
      key: string
      value: string
      force: boolean
    }
  | {
      op: 'replace'
      pick: number
      content: Content
      via: NewOne['via']
      ifVersion: IfVersion
    }
  | { op: 'drop'; pick: number }
  | { op: 'remove'; pick: number }
  | { op: 'unlink'; pick: number }
  | { op: 'claim'; limit: number; seconds: number; domain: number | null; binding: number | null }
  | { op: 'extend'; pick: number; seconds: number }
  | { op: 'release'; pick: number }
  | {
      op: 'dispose'
      pick: number
      type: DispositionType
      lease: 'right' | 'wrong' | 'none'
      due: number | undefined
    }
  | { op: 'log' }
  | { op: 'advance'; seconds: number; tick: boolean }
  | { op: 'take'; pick: number }
  | { op: 'takeBack'; pick: number }
  | { op: 'purge'; pick: number }
  | { op: 'relay'; count: number }
  | { op: 'index' }
  | { op: 'repair' }
  | { op: 'dump' }
  | { op: 'reopen'; how: 'close' | 'compact' | 'kill'; compress: boolean }
  /** Several at once, on different messages; killed after so many answers, or not. */
  | { op: 'together'; ops: Op[]; killAfter: number | null; compress: boolean }

const size = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 3000 }) },
  { weight: 3, arbitrary: fc.integer({ min: 15_990, max: 48_010 }) },
  { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 200_000 }) },
)
const content: fc.Arbitrary<Content> = fc.record({
  kind: fc.constantFrom('text', 'bytes'),
  size,
  seed: fc.integer({ min: 1, max: 1000 }),
})
const pick = fc.nat({ max: 9999 })
const via = fc.constantFrom<NewOne['via']>('bytes', 'staged', 'stream')
const place = fc.integer({ min: 0, max: 2 })
const contextKey = fc.constantFrom('a', 'b', 'ä', '__proto__', 'x y')
const due = fc.oneof(
  { weight: 4, arbitrary: fc.constant(undefined) },
  { weight: 4, arbitrary: fc.integer({ min: -500, max: 2000 }) },
  { weight: 1, arbitrary: fc.constant(null) },
)
const retention = fc.oneof(
  { weight: 5, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 4000 }) },
)
const one: fc.Arbitrary<NewOne> = fc.record({
  content,
  via,
  recipients: fc.constantFrom(1, 1, 1, 2, 3),
  domain: place,
  binding: place,
  due,
  retention,
  context: fc.dictionary(contextKey, fc.string({ maxLength: 9, unit: 'binary' }), {
    maxKeys: 2,
    noNullPrototype: true,
  }),
  deferred: fc.boolean(),
})
const ifVersion = fc.constantFrom<IfVersion>('none', 'none', 'none', 'right', 'wrong')
const patch: fc.Arbitrary<Patch> = fc.record(
  {
    due: fc.option(fc.integer({ min: -500, max: 2000 })),
    retries: fc.nat({ max: 5 }),
    retention: fc.option(fc.nat({ max: 4000 })),
    binding: place,
    context: fc.option(
      fc.dictionary(contextKey, fc.option(fc.string({ maxLength: 5 })), {
        maxKeys: 2,
        noNullPrototype: true,
      }),
      { freq: 4 },
    ),
  },
  { requiredKeys: [] },
)

/** Operations on one message, or that make some: what several at once may be. */
const single: [number, fc.Arbitrary<Op>][] = [
  [
    28,
    fc.record({
      op: fc.constant('store'),
      one,
      key: fc.option(fc.nat({ max: 5 }), { freq: 6, nil: undefined }),
    }),
  ],
  [
    3,
    fc.record({
      op: fc.constant('multi'),
      ones: fc.array(one, { minLength: 1, maxLength: 4 }),
      shared: fc.option(content, { nil: undefined }),
      bad: fc.constantFrom(false, false, false, true),
    }),
  ],
  [4, fc.record({ op: fc.constant('refs'), pick, one })],
  [6, fc.record({ op: fc.constant('copy'), pick, share: fc.boolean() })],
  [12, fc.record({ op: fc.constant('update'), pick, patch, force: fc.boolean(), ifVersion })],
  [
    7,
    fc.record({
      op: fc.constant('context'),
      pick,
      name: fc.constantFrom('conn', 'mess'),
      how: fc.constantFrom('set', 'set', 'replace', 'delete', 'clean'),
      key: contextKey,
      value: fc.string({ maxLength: 9 }),
      force: fc.boolean(),
    }),
  ],
  [5, fc.record({ op: fc.constant('replace'), pick, content, via, ifVersion })],
  [2, fc.record({ op: fc.constant('drop'), pick })],
  [3, fc.record({ op: fc.constant('remove'), pick })],
  [3, fc.record({ op: fc.constant('unlink'), pick })],
  [
    14,
    fc.record({
      op: fc.constant('dispose'),
      pick,
      type: fc.constantFrom(
        'attempt',
        'delivery',
        'transfer',
        'transient_failure',
        'transient_failure',
        'permanent_failure',
        'rejection',
      ),
      lease: fc.constantFrom('right', 'none', 'none', 'wrong'),
      due: fc.option(fc.integer({ min: 0, max: 3000 }), { nil: undefined }),
    }),
  ],
]

const others: [number, fc.Arbitrary<Op>][] = [
  [6, fc.record({ op: fc.constant('read'), pick, from: pick, to: pick })],
  [2, fc.record({ op: fc.constant('parts'), pick })],
  [1, fc.record({ op: fc.constant('readRemoved'), pick })],
  [
    9,
    fc.record({
      op: fc.constant('claim'),
      limit: fc.integer({ min: 1, max: 8 }),
      seconds: fc.integer({ min: 1, max: 2000 }),
      domain: fc.oneof(place, fc.constant(null)),
      binding: fc.oneof(place, fc.constant(null)),
    }),
  ],
  [3, fc.record({ op: fc.constant('extend'), pick, seconds: fc.integer({ min: 1, max: 2000 }) })],
  [4, fc.record({ op: fc.constant('release'), pick })],
  [1, fc.record({ op: fc.constant('log') })],
  [
    5,
    fc.record({
      op: fc.constant('advance'),
      seconds: fc.integer({ min: 1, max: 1500 }),
      tick: fc.boolean(),
    }),
  ],
  [1, fc.record({ op: fc.constant('take'), pick })],
  [1, fc.record({ op: fc.constant('takeBack'), pick })],
  [1, fc.record({ op: fc.constant('purge'), pick })],
  [2, fc.record({ op: fc.constant('relay'), count: fc.integer({ min: 1, max: 30 }) })],
  [1, fc.record({ op: fc.constant('index') })],
  [1, fc.record({ op: fc.constant('repair') })],
  [2, fc.record({ op: fc.constant('dump') })],
  [
    1,
    fc.record({
      op: fc.constant('reopen'),
      how: fc.constantFrom('close', 'compact', 'kill'),
      compress: fc.boolean(),
    }),
  ],
]

function oneOf(list: [number, fc.Arbitrary<Op>][]): fc.Arbitrary<Op> {
  return fc.oneof(...list.map(([weight, arbitrary]) => ({ weight, arbitrary })))
}

const together = fc.record({
  op: fc.constant('together'),
  ops: fc.array(oneOf(single), { minLength: 2, maxLength: 12 }),
  killAfter: fc.option(fc.nat({ max: 8 }), { freq: 1 }),
  compress: fc.boolean(),
}) as fc.Arbitrary<Op>

export const op: fc.Arbitrary<Op> = oneOf([...single, ...others, [3, together]])
