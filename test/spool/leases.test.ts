// Claims: nothing twice while a lease holds, everything back when it ends, also over restarts and kills.
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { ClaimOptions, Spool } from '../../spool/index.js'
import { Store } from '../../spool/store.js'
import {
  bytes,
  codeOf,
  expectSound,
  message,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

afterEach(() => {
  vi.useRealTimers()
})

async function store(spool: Spool, count: number, more = {}): Promise<string[]> {
  const ids: string[] = []
  for (let i = 0; i < count; i++) ids.push(...(await spool.swapOut(message('x', more))).ids)
  return ids
}

const idsOf = (claim: { messages: { id: string }[] }) => claim.messages.map(({ id }) => id)

describe('a claim', () => {
  test('gives what is due, first due first, once', async () => {
    const spool = await temporarySpool()
    const late = await store(spool, 1, { nextAttempt: Date.now() - 1000 })
    const early = await store(spool, 1, { nextAttempt: Date.now() - 5000 })
    await store(spool, 1, { nextAttempt: Date.now() + 60_000 })
    const claim = await spool.claim({ leaseSeconds: 60 })
    expect(idsOf(claim)).toEqual([...early, ...late])
    expect(claim.messages[0]).toMatchObject({ state: 'leased', version: 2 })
    expect(await spool.meta(early[0]!)).toMatchObject({ state: 'leased' })
    expect(await spool.claim()).toMatchObject({ lease: null, messages: [] })
  })

  test('takes no more than its limit', async () => {
    const spool = await temporarySpool()
    const ids = await store(spool, 5)
    expect(idsOf(await spool.claim({ limit: 2 }))).toEqual(ids.slice(0, 2))
    expect(idsOf(await spool.claim({ limit: 2 }))).toEqual(ids.slice(2, 4))
    expect(idsOf(await spool.claim({ limit: 2 }))).toEqual(ids.slice(4))
  })

  test.each<[ClaimOptions, number[]]>([
    [{ domain: 'A.example' }, [0, 1]],
    [{ binding: 'x' }, [0, 2]],
    [{ domain: 'a.example', binding: 'x' }, [0]],
    [{ domain: 'b.example', binding: 'y' }, []],
    [{ domain: 'a.exampl' }, []],
    [{ domain: '.example' }, []],
    [{ binding: '' }, []],
  ])('of %j', async (filter, expected) => {
    for (const indexed of [false, true]) {
      const path = join(await temporaryDirectory(), 'spool')
      const spool = await temporarySpool({ path })
      const ids = [
        ...(await store(spool, 1, { rcptto: ['u@a.example'], binding: 'x' })),
        ...(await store(spool, 1, { rcptto: ['u@A.example'], binding: 'y' })),
        ...(await store(spool, 1, { rcptto: ['u@b.example'], binding: 'x' })),
      ]
      if (indexed) await spool.indexQueue()
      expect(idsOf(await spool.claim(filter))).toEqual(expected.map((i) => ids[i]))
      expect(idsOf(await spool.claim(filter))).toEqual([])
      await expectSound(spool, path)
    }
  })

  test('of an empty binding hides nothing from one of any binding at the same time', async () => {
    const spool = await temporarySpool()
    const [first] = await store(spool, 1)
    const [last] = await store(spool, 1, { binding: '' })
    const claims = [spool.claim({ binding: '', domain: 'example.com' })]
    claims.push(spool.claim({ domain: 'example.com' }))
    expect((await Promise.all(claims)).map(idsOf)).toEqual([[last], [first]])
  })

  test('of several front ends at once gives no message twice', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const ids = await store(spool, 300, { rcptto: ['u@a.example'] })
    const taken: string[] = []
    const frontEnd = async (options: ClaimOptions) => {
      for (;;) {
        const claim = await spool.claim(options)
        if (claim.messages.length === 0) return
        taken.push(...idsOf(claim))
        await Promise.all(
          idsOf(claim).map((id) => spool.dispose(id, { type: 'delivery', lease: claim.lease! })),
        )
      }
    }
    await Promise.all([
      frontEnd({ limit: 7 }),
      frontEnd({ limit: 13, domain: 'a.example' }),
      frontEnd({ limit: 5, binding: 'default' }),
    ])
    expect(taken.toSorted()).toEqual(ids.toSorted())
    expect((await spool.stats()).messages).toBe(0)
    await expectSound(spool, path)
  })

  test.each([
    { limit: 0 },
    { limit: 1001 },
    { leaseSeconds: 0 },
    { leaseSeconds: 1e9 },
    { binding: '\0' },
  ])('refuses %j', async (wrong) => {
    const spool = await temporarySpool()
    expect(await codeOf(spool.claim(wrong))).toBe('SPOOL_ERR_INVALID')
  })
})

describe('a lease', () => {
  test('is given back, extended, and lost at its end', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const [id] = await store(spool, 1)
    const first = await spool.claim({ leaseSeconds: 60 })
    await spool.releaseClaim(first.lease!)
    expect(await spool.meta(id!)).toMatchObject({ state: 'queued' })
    expect(await codeOf(spool.releaseClaim(first.lease!))).toBe('SPOOL_ERR_NOT_FOUND')
    expect(await codeOf(spool.extendClaim(first.lease!))).toBe('SPOOL_ERR_NOT_FOUND')
    expect(await codeOf(spool.dispose(id!, { type: 'delivery', lease: first.lease! }))).toBe(
      'SPOOL_ERR_LEASE',
    )
    const second = await spool.claim({ leaseSeconds: 60 })
    const extended = await spool.extendClaim(second.lease!, 600)
    expect(extended.ids).toEqual([id])
    expect(extended.until).toBeGreaterThan(second.until)
    const real = Date.now
    vi.spyOn(Date, 'now').mockImplementation(() => real() + 90_000)
    onTestFinished(() => vi.mocked(Date.now).mockRestore())
    await spool.expire()
    expect(idsOf(await spool.claim())).toEqual([])
    await spool.extendClaim(second.lease!, 0.05)
    const third = await vi.waitUntil(
      async () => {
        const claim = await spool.claim()
        return claim.lease === null ? undefined : claim
      },
      { timeout: 5000, interval: 20 },
    )
    expect(idsOf(third)).toEqual([id])
    expect(await codeOf(spool.dispose(id!, { type: 'delivery', lease: second.lease! }))).toBe(
      'SPOOL_ERR_LEASE',
    )
    await expectSound(spool, path)
  })

  test('that ends gives its messages back by itself, and leaves nothing of the claim', async () => {
    const spool = await temporarySpool()
    const [id] = await store(spool, 1)
    const { lease } = await spool.claim({ leaseSeconds: 0.05 })
    await vi.waitUntil(async () => (await spool.meta(id!)).state === 'queued', { timeout: 5000 })
    expect(await codeOf(spool.extendClaim(lease!))).toBe('SPOOL_ERR_NOT_FOUND')
  })

  test('that ends with many others holds nobody up until all are given back', async () => {
    const spool = await temporarySpool({ events: undefined })
    const rcptto = Array.from({ length: 4000 }, (_, i) => `u${i}@example.net`)
    await spool.swapOut(message('x', { rcptto }))
    const leases: string[] = []
    for (let i = 0; i < 4; i++) leases.push((await spool.claim({ limit: 1000 })).lease!)
    await Promise.all(leases.map((lease) => spool.extendClaim(lease, 0.1)))
    const seen: number[] = []
    while (seen.at(-1) !== 0) {
      await spool.swapOut(message('of another'))
      seen.push((await spool.stats()).leased)
    }
    // A claim at a time, for each is over what one commit gives back.
    expect(seen.filter((leased) => leased > 0 && leased < 4000)).not.toEqual([])
  })

  test('holds over a restart, and ends over one', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    let spool = await temporarySpool({ path })
    const [held, ended] = await store(spool, 2)
    const long = await spool.claim({ limit: 1, leaseSeconds: 60 })
    await spool.claim({ limit: 1, leaseSeconds: 0.01 })
    await spool.close()
    await new Promise((resolve) => setTimeout(resolve, 20))
    spool = await temporarySpool({ path })
    expect(idsOf(await spool.claim())).toEqual([ended])
    await spool.dispose(held!, { type: 'delivery', lease: long.lease! })
    await expectSound(spool, path)
  })

  test('survives a change of the meta that was not forced, and the change survives it', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const [id] = await store(spool, 1)
    const claiming = spool.claim()
    const unforced = spool.swapOutMeta(id!, { context: { mess: { a: '1' } } }, { force: false })
    await Promise.all([claiming, unforced])
    await spool.swapOutMeta(id!, { context: { mess: { b: '2' } } }, { force: false })
    expect(await spool.meta(id!)).toMatchObject({
      state: 'leased',
      context: { mess: { a: '1', b: '2' } },
    })
    expect(idsOf(await spool.claim())).toEqual([])
    await expectSound(spool, path)
  })

  test('holds a message that is to be removed until it lets go', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const [one, two, three] = await store(spool, 3)
    const claim = await spool.claim({ limit: 2 })
    expect(await spool.unlinkOnFree(one!)).toBe('marked')
    expect(await spool.unlinkOnFree(three!)).toBe('removed')
    expect(await spool.meta(one!)).toMatchObject({ state: 'leased' })
    await spool.releaseClaim(claim.lease!)
    expect(await codeOf(spool.meta(one!))).toBe('SPOOL_ERR_NOT_FOUND')
    expect(await spool.meta(two!)).toMatchObject({ state: 'queued' })
    await expectSound(spool, path)
  })

  test('is neither lost nor lengthened when the clock steps back', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const [id, other] = await store(spool, 2)
    const claim = await spool.claim({ limit: 1, leaseSeconds: 60 })
    const hour = 3_600_000
    const real = Date.now
    vi.spyOn(Date, 'now').mockImplementation(() => real() - hour)
    try {
      // Due before the step, due after it; leased before, leased after.
      expect(idsOf(await spool.claim({ leaseSeconds: 60 }))).toEqual([other])
      await spool.extendClaim(claim.lease!, 0.3)
      const again = await vi.waitUntil(
        async () => {
          const next = await spool.claim()
          return next.lease === null ? undefined : next
        },
        { timeout: 5000, interval: 20 },
      )
      expect(idsOf(again)).toEqual([id])
      expect((await spool.stats()).messages).toBe(2)
      await spool.close()
      const reopened = await temporarySpool({ path })
      expect(idsOf(await reopened.claim())).toEqual([])
      await reopened.dispose(id!, { type: 'delivery', lease: again.lease! })
    } finally {
      vi.mocked(Date.now).mockRestore()
    }
  })
})

test('claims of every kind, beside stores, ends and restarts, agree with a simple model', async () => {
  const domains = ['a.example', 'b.example', 'c.example']
  const bindings = ['x', 'y']
  const filter = fc.record(
    { domain: fc.constantFrom(...domains), binding: fc.constantFrom(...bindings) },
    { requiredKeys: [] },
  )
  const step = fc.oneof(
    fc.record({
      do: fc.constant('store' as const),
      domain: fc.constantFrom(...domains),
      binding: fc.constantFrom(...bindings),
      due: fc.boolean(),
    }),
    fc.record({ do: fc.constant('claim' as const), filter, limit: fc.integer({ min: 1, max: 4 }) }),
    fc.record({
      do: fc.constantFrom(
        'release' as const,
        'deliver' as const,
        'defer' as const,
        'rebind' as const,
      ),
      pick: fc.nat(),
    }),
    fc.record({ do: fc.constantFrom('index' as const, 'restart' as const) }),
  )
  interface Model {
    domain: string
    binding: string
    due: boolean
    lease: string | null
  }
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
      const path = join(await temporaryDirectory(), 'spool')
      let spool = await temporarySpool({ path })
      const model = new Map<string, Model>()
      for (const each of steps) {
        if (each.do === 'store') {
          const { domain, binding, due } = each
          const { ids } = await spool.swapOut(
            message(bytes(10), {
              rcptto: [`u@${domain}`],
              binding,
              nextAttempt: Date.now() + (due ? 0 : 600_000),
            }),
          )
          model.set(ids[0]!, { domain, binding, due, lease: null })
        } else if (each.do === 'claim') {
          const wanted = [...model]
            .filter(
              ([, m]) =>
                m.due &&
                m.lease === null &&
                (each.filter.domain ?? m.domain) === m.domain &&
                (each.filter.binding ?? m.binding) === m.binding,
            )
            .map(([id]) => id)
          const claim = await spool.claim({ ...each.filter, limit: each.limit, leaseSeconds: 600 })
          expect(claim.messages.length).toBe(Math.min(each.limit, wanted.length))
          for (const id of idsOf(claim)) {
            expect(wanted).toContain(id)
            model.get(id)!.lease = claim.lease
          }
        } else if (!('pick' in each)) {
          if (each.do === 'restart') {
            await spool.close()
            spool = await temporarySpool({ path })
          } else await spool.indexQueue()
        } else {
          const [id, picked] = [...model][each.pick % Math.max(1, model.size)] ?? []
          if (id === undefined || picked === undefined) continue
          if (each.do === 'rebind') {
            picked.binding = picked.binding === 'x' ? 'y' : 'x'
            await spool.swapOutMeta(id, { binding: picked.binding })
          } else if (each.do === 'deliver') {
            await spool.dispose(id, { type: 'delivery', lease: picked.lease ?? undefined })
            model.delete(id)
          } else if (each.do === 'defer') {
            await spool.dispose(id, { type: 'transient_failure' })
            Object.assign(picked, { due: false, lease: null })
          } else if (picked.lease !== null) {
            const { lease } = picked
            await spool.releaseClaim(lease)
            for (const m of model.values()) if (m.lease === lease) m.lease = null
          }
        }
      }
      await expectSound(spool, path)
    }),
    { numRuns: 5 * Number(process.env.TEST_EFFORT ?? 1) },
  )
})

test('what waits for the index by domain is bounded in bytes, too, however long the names are', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path, events: undefined })
  for (let at = 0; at < 20_000; at += 1000) {
    const rcptto = Array.from({ length: 1000 }, (_, i) => `u@${'x'.repeat(1000)}.d${at + i}`)
    await spool.swapOut(message('x', { rcptto }))
  }
  await spool.close()
  const store = await Store.open({ path, readOnly: true, mode: 0, mapSize: undefined })
  let waiting = 0
  for (const { value } of store.db('lanelog').getRange({})) waiting += value.length
  await store.close()
  // 20 MB were to be indexed: what waits at most, and what a commit or two add to it meanwhile.
  expect(waiting).toBeLessThan(12 * 1024 * 1024)
  const again = await temporarySpool({ path })
  const { messages } = await again.claim({ domain: `${'x'.repeat(1000)}.d7` })
  expect(messages).toHaveLength(1)
})

test('a domain with very many bindings: every one has its turn, and claims stay small', async () => {
  const spool = await temporarySpool({ events: undefined })
  const COUNT = 700
  for (let i = 0; i < COUNT; i++) void spool.swapOut(message('x', { binding: `b${i}` }))
  await spool.indexQueue()
  // What is given back is due again, and before all others: they must not be kept from their turn by it.
  const seen = new Set<string>()
  for (let round = 0; round < 6; round++) {
    const { messages, lease } = await spool.claim({ domain: 'example.com', limit: 250 })
    expect(messages).toHaveLength(250)
    for (const { binding } of messages) seen.add(binding)
    await spool.releaseClaim(lease as string)
    await spool.indexQueue()
  }
  expect(seen.size).toBeGreaterThan(COUNT * 0.9)
  const taken: string[] = []
  while (taken.length < COUNT) {
    const claim = await spool.claim({ domain: 'example.com', limit: 60 })
    expect(claim.lease).not.toBeNull()
    taken.push(...idsOf(claim))
  }
  expect(new Set(taken).size).toBe(COUNT)
  expect((await spool.claim({ domain: 'example.com' })).lease).toBeNull()
})
