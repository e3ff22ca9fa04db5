// Deferred spooling: messages in memory work as stored ones do; what is answered as durable is, what is not is
// spooled by failures, by pressure, by a change that has to be durable, and by a close; each event is there once.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import {
  type DispositionType,
  type NewMessage,
  openSpool,
  type Spool,
  type SpoolOptions,
} from '../../spool/index.js'
import {
  bodyOf,
  bytes,
  codeOf,
  EVENTS,
  expectSound,
  message,
  pieces,
  temporaryDirectory,
  temporarySpool,
  text,
} from './support.js'

const SCRIPT = join(import.meta.dirname, 'child-deferred.mjs')

async function unsafeSpool(
  options: Partial<SpoolOptions> = {},
): Promise<{ spool: Spool; path: string }> {
  const path = join(await temporaryDirectory(), 'spool')
  return { path, spool: await temporarySpool({ path, unsafeSpooling: true, ...options }) }
}

function deferred(body: Uint8Array | string, more: Partial<NewMessage> = {}): NewMessage {
  return message(body, { durability: 'deferred', ...more })
}

async function held(spool: Spool, ...bodies: string[]): Promise<string[]> {
  const ids: string[] = []
  for (const body of bodies) {
    const answer = await spool.swapOut(deferred(body))
    expect(answer.result).toBe('deferred')
    ids.push(answer.ids[0] as string)
  }
  return ids
}

/** What would be there if the process were killed now. */
async function onDisk(path: string): Promise<string[]> {
  const reader = await openSpool({ path, readOnly: true })
  try {
    return (await reader.list({ limit: 1000 })).messages.map(({ id }) => id)
  } finally {
    await reader.close()
  }
}

function logged(spool: Spool): { type: string; id: string }[] {
  const records = spool.outbox.pending('mainlog', { maxRecords: 10_000, maxBytes: 1 << 24 })
  return records.map(({ payload }) => JSON.parse(payload.toString()))
}

describe('switched off', () => {
  test('deferring is refused, and nothing is stored', async () => {
    const spool = await temporarySpool()
    expect(await codeOf(spool.swapOut(deferred('x')))).toBe('SPOOL_ERR_UNSAFE')
    const both = [message('x'), deferred('y')]
    expect(await codeOf(spool.swapOutMulti(both))).toBe('SPOOL_ERR_UNSAFE')
    expect(await spool.stats()).toMatchObject({ messages: 0, unspooled: 0, outbox: { records: 0 } })
    const odd = message('x', { durability: 'perhaps' as 'durable' })
    expect(await codeOf(spool.swapOut(odd))).toBe('SPOOL_ERR_INVALID')
  })

  test.each([{ suppressRetries: 0 }, { maxResidentMessages: 1.5 }, { maxResidentBytes: -1 }])(
    'a setting that is none is refused: %j',
    async (options) => {
      expect(await codeOf(unsafeSpool(options))).toBe('SPOOL_ERR_INVALID')
    },
  )
})

describe('a message in memory', () => {
  test('is read as any other, and nothing of it but its record of reception is on disk', async () => {
    const { spool, path } = await unsafeSpool()
    const body = Buffer.from('Subject: x\r\n\r\nHello')
    const { ids, result } = await spool.swapOut(deferred(body, { rcptto: ['a@b.example', 'c@d'] }))
    expect(result).toBe('deferred')
    expect(await onDisk(path)).toEqual([])
    expect(await spool.stats()).toMatchObject({ messages: 2, unspooled: 2, bodies: 1, due: 2 })
    for (const id of ids) {
      expect((await bodyOf(spool, id)).equals(body)).toBe(true)
      const range = await spool.swapIn(id, { start: 14, end: 19 })
      expect((await range.buffer()).toString()).toBe('Hello')
      expect((await (await spool.swapInHeaders(id)).buffer()).toString()).toBe('Subject: x\r\n')
      expect((await spool.swapInStructure(id)).root.type).toBe('text/plain')
      const { meta, body: read } = await spool.snapshot(id)
      expect(meta).toEqual(await spool.meta(id))
      expect((await read?.buffer())?.equals(body)).toBe(true)
      expect(await spool.context(id, 'conn').size()).toBe(0)
    }
    expect(logged(spool).map(({ type, id }) => [type, id])).toEqual(
      ids.map((id) => ['reception', id]),
    )
  })

  test('is copied as it came: the caller may use the buffer again', async () => {
    const { spool } = await unsafeSpool()
    const buffer = Buffer.from('as it was')
    const { ids } = await spool.swapOut(deferred(buffer))
    buffer.fill('x')
    expect((await bodyOf(spool, ids[0] as string)).toString()).toBe('as it was')
  })

  test.each(['delivery', 'transfer', 'permanent_failure'] as DispositionType[])(
    '%s logs and removes it, and it never was on disk',
    async (type) => {
      const { spool, path } = await unsafeSpool()
      const [id] = await held(spool, 'x')
      const { lease } = await spool.claim()
      const disposed = await spool.dispose(id as string, { type, lease: lease as string })
      expect(disposed).toMatchObject({ outcome: 'removed' })
      expect(await codeOf(spool.meta(id as string))).toBe('SPOOL_ERR_NOT_FOUND')
      expect(logged(spool).map(({ type }) => type)).toEqual(['reception', type])
      expect(await spool.stats()).toMatchObject({ messages: 0, bodies: 0, bytes: 0, due: 0 })
      await expectSound(spool, path)
    },
  )

  test('stays over an attempt and failures, up to so many retries', async () => {
    const { spool, path } = await unsafeSpool({ suppressRetries: 3 })
    const [id] = (await held(spool, 'x')) as [string]
    await spool.dispose(id, { type: 'attempt' })
    const results: string[] = []
    for (let n = 1; n <= 3; n++) {
      const { result, outcome } = await spool.dispose(id, { type: 'transient_failure' })
      expect(outcome).toBe('deferred')
      results.push(result)
      expect(await onDisk(path)).toEqual(n < 3 ? [] : [id])
    }
    expect(results).toEqual(['deferred', 'deferred', 'complete'])
    expect(await spool.meta(id)).toMatchObject({ retries: 3, state: 'deferred' })
    expect(await spool.stats()).toMatchObject({ messages: 1, unspooled: 0 })
    await expectSound(spool, path)
  })

  test('a change of its meta that is forced spools it, one that is not does not', async () => {
    const { spool, path } = await unsafeSpool()
    const [id] = (await held(spool, 'x')) as [string]
    const unforced = await spool.swapOutMeta(id, { binding: 'one' }, { force: false })
    expect(unforced).toMatchObject({ result: 'partial', meta: { binding: 'one', version: 2 } })
    await spool.context(id, 'mess').set('a', 'b', { force: false })
    expect((await spool.list({ binding: 'one' })).messages).toHaveLength(1)
    expect(await onDisk(path)).toEqual([])
    const forced = await spool.context(id, 'mess').set('c', 'd')
    expect(forced).toMatchObject({ result: 'complete', meta: { binding: 'one', version: 4 } })
    expect(await onDisk(path)).toEqual([id])
    expect(await spool.meta(id)).toMatchObject({ context: { mess: { a: 'b', c: 'd' } } })
    await expectSound(spool, path)
  })

  test('a claim of messages in both, of which one is spooled meanwhile, holds them all', async () => {
    const { spool } = await unsafeSpool()
    for (let turns = 0; turns < 24; turns += 2) {
      const [here] = (await held(spool, 'x')) as [string]
      const [there] = (await spool.swapOut(message('y'))).ids
      const claiming = spool.claim()
      for (let turn = 0; turn < turns; turn++) await Promise.resolve()
      const changing = spool.context(here, 'mess').set('a', 'b')
      const { lease, messages } = await claiming
      await changing
      expect(messages.map(({ id }) => id).toSorted()).toEqual([here, there].toSorted())
      expect((await spool.upkeep.check()).problems).toEqual([])
      expect((await spool.extendClaim(lease!)).ids.toSorted()).toEqual([here, there].toSorted())
      for (const id of [here, there]) expect(await spool.unlinkOnFree(id!)).toBe('marked')
      await spool.releaseClaim(lease!)
      expect((await spool.stats()).messages).toBe(0)
    }
  })

  test('a change that is not forced, while the message is being spooled, is kept', async () => {
    const { spool, path } = await unsafeSpool()
    const [id] = (await held(spool, 'x')) as [string]
    const context = spool.context(id, 'mess')
    const forced = context.set('forced', '1')
    const unforced: Promise<unknown>[] = []
    for (let isOver = false, n = 0; !isOver; n++) {
      if (n < 50) unforced.push(context.set(`unforced ${n}`, '2', { force: false }))
      isOver = await Promise.race([forced.then(() => true), setImmediate(false)])
    }
    await Promise.all(unforced)
    expect(await context.size()).toBe(unforced.length + 1)
    await expectSound(spool, path)
  })

  test('a version that does not stand is refused', async () => {
    const { spool } = await unsafeSpool()
    const [id] = (await held(spool, 'x')) as [string]
    const stale = spool.swapOutMeta(id, { retries: 1 }, { force: false, ifVersion: 7 })
    expect(await codeOf(stale)).toBe('SPOOL_ERR_VERSION')
  })

  test('is removed, also by retention, which is logged, and by the end of its lease', async () => {
    const { spool } = await unsafeSpool()
    const [first, second] = (await held(spool, 'x', 'y')) as [string, string]
    await spool.swapRemove(first)
    expect(await codeOf(spool.swapRemove(first))).toBe('SPOOL_ERR_NOT_FOUND')
    const { lease } = await spool.claim()
    expect(await spool.unlinkOnFree(second)).toBe('marked')
    await spool.releaseClaim(lease as string)
    const third = await spool.swapOut(deferred('z', { retention: 0 }))
    await spool.expire()
    expect(await codeOf(spool.meta(third.ids[0] as string))).toBe('SPOOL_ERR_NOT_FOUND')
    expect(logged(spool).at(-1)).toMatchObject({ type: 'expiration', id: third.ids[0] })
    expect(await spool.stats()).toMatchObject({ messages: 0, unspooled: 0, bodies: 0 })
  })

  test('keeps what is attached to it when it is spooled, and loses it when it goes', async () => {
    const { spool } = await unsafeSpool()
    const [id] = (await held(spool, 'x')) as [string]
    spool.blobjects(id).set('a', 1)
    await spool.swapOutMeta(id, { retries: 1 })
    expect(spool.blobjects(id).get('a')).toBe(1)
    await spool.swapRemove(id)
    expect(await codeOf((async () => spool.blobjects(id))())).toBe('SPOOL_ERR_NOT_FOUND')
  })
})

describe('what is stored at once all the same', () => {
  test('a large body, shared content, messages of which one is durable, and a keyed one', async () => {
    const { spool, path } = await unsafeSpool({ largeMessageThreshold: 50_000 })
    const [id] = (await held(spool, 'content')) as [string]
    const large = await spool.swapOut(deferred(bytes(60_000)))
    const staged = await spool.stageBody(pieces(bytes(60_000), 9000))
    const streamed = await spool.swapOut(deferred('', { body: staged }))
    const sharing = await spool.swapOut(deferred('', { body: { refs: id } }))
    const mixed = await spool.swapOutMulti([deferred('a'), message('b')])
    const keyed = await spool.swapOut(deferred('k'), { idempotencyKey: 'key' })
    const all = [large, streamed, sharing, ...mixed, keyed]
    expect(all.map(({ result }) => result)).toEqual(all.map(() => 'complete'))
    expect((await spool.stats()).unspooled).toBe(0)
    expect(await onDisk(path)).toEqual([id, ...all.flatMap(({ ids }) => ids)].sort())
    const again = await spool.swapOut(deferred('k'), { idempotencyKey: 'key' })
    expect(again).toMatchObject({ replayed: true, ids: keyed.ids })
    await expectSound(spool, path)
  })

  test('a copy; and a message whose content is replaced or dropped is spooled first', async () => {
    const { spool, path } = await unsafeSpool()
    const [a, b, c] = (await held(spool, 'a', 'b', 'c')) as [string, string, string]
    const copies = [await spool.copy(a), await spool.copy(a, { share: true })]
    await spool.swapOutContent(b, Buffer.from('another'))
    await spool.swapRemoveContent(c)
    expect((await spool.stats()).unspooled).toBe(0)
    for (const { ids } of copies) expect(`${await bodyOf(spool, ids[0] as string)}`).toBe('a')
    expect(`${await bodyOf(spool, b)}`).toBe('another')
    expect(await codeOf(spool.swapIn(c))).toBe('SPOOL_ERR_NOT_FOUND')
    await expectSound(spool, path)
  })

  test('several that may all be deferred are, with a staged body that they share', async () => {
    const { spool, path } = await unsafeSpool({ compression: 'deflate' })
    const body = await spool.stageBody(text(20_000))
    const [one, two] = await spool.swapOutMulti([deferred('', { body }), deferred('', { body })])
    expect([one?.result, two?.result]).toEqual(['deferred', 'deferred'])
    expect(await spool.stats()).toMatchObject({ unspooled: 2, bodies: 1, bytes: 20_000 })
    // Spooling one of them takes the other along, for they share the body.
    await spool.swapOutMeta(one?.ids[0] as string, { retries: 1 })
    expect(await spool.stats()).toMatchObject({ unspooled: 0, bodies: 1, bytes: 20_000 })
    await spool.swapRemove(one?.ids[0] as string)
    expect((await bodyOf(spool, two?.ids[0] as string)).equals(text(20_000))).toBe(true)
    await expectSound(spool, path)
  })
})

describe('claims', () => {
  test('take what is due in both, first due first, under one token', async () => {
    const { spool, path } = await unsafeSpool()
    const now = Date.now()
    const ids: string[] = []
    for (let n = 0; n < 10; n++) {
      const durability = n % 3 === 0 ? 'durable' : 'deferred'
      const made = message(`${n}`, { nextAttempt: now - 1000 + n, durability })
      ids.push(...(await spool.swapOut(made)).ids)
    }
    const first = await spool.claim({ limit: 4 })
    expect(first.messages.map(({ id }) => id)).toEqual(ids.slice(0, 4))
    const second = await spool.claim({ limit: 100, domain: 'example.com' })
    expect(second.messages.map(({ id }) => id)).toEqual(ids.slice(4))
    expect(await spool.claim()).toMatchObject({ lease: null, messages: [] })
    const lease = first.lease as string
    expect((await spool.extendClaim(lease, 600)).ids.sort()).toEqual(ids.slice(0, 4))
    const wrong = spool.dispose(ids[5] as string, { type: 'delivery', lease })
    expect(await codeOf(wrong)).toBe('SPOOL_ERR_LEASE')
    for (const id of ids.slice(0, 2)) await spool.dispose(id, { type: 'delivery', lease })
    await spool.releaseClaim(lease)
    expect(await codeOf(spool.releaseClaim(lease))).toBe('SPOOL_ERR_NOT_FOUND')
    const third = await spool.claim()
    expect(third.messages.map(({ id }) => id)).toEqual(ids.slice(2, 4))
    await expectSound(spool, path)
  })

  test('hold over the spooling of their messages, and over a restart', async () => {
    const { spool, path } = await unsafeSpool()
    const [a, b, c] = (await held(spool, 'a', 'b', 'c')) as [string, string, string]
    const { lease } = await spool.claim()
    await spool.swapOutMeta(b, { binding: 'x' })
    expect(await codeOf(spool.dispose(b, { type: 'attempt', lease: lease as string }))).toBe(
      undefined,
    )
    expect((await spool.extendClaim(lease as string, 900)).ids.sort()).toEqual([a, b, c])
    await spool.close()
    expect(await onDisk(path)).toEqual([a, b, c])
    const again = await temporarySpool({ path, unsafeSpooling: true })
    expect(await again.claim()).toMatchObject({ messages: [] })
    expect((await again.extendClaim(lease as string, 900)).ids.sort()).toEqual([a, b, c])
    await again.dispose(a, { type: 'delivery', lease: lease as string })
    await again.releaseClaim(lease as string)
    expect((await again.claim()).messages.map(({ id }) => id)).toEqual([b, c])
    await expectSound(again, path)
  })
})

describe('pressure', () => {
  test('by count: the oldest are spooled, in order, and there are never more in memory', async () => {
    const { spool, path } = await unsafeSpool({ maxResidentMessages: 8 })
    const ids: string[] = []
    for (let n = 0; n < 50; n++) {
      ids.push(...(await spool.swapOut(deferred(`${n}`))).ids)
      const { unspooled: inMemory } = await spool.stats()
      expect(inMemory).toBeLessThanOrEqual(8)
      expect(await onDisk(path)).toEqual(ids.slice(0, ids.length - inMemory))
    }
    expect((await spool.stats()).unspooled).toBeGreaterThan(4)
    await expectSound(spool, path)
  })

  test('by bytes, with many at once; what is larger than all of it is stored', async () => {
    const { spool, path } = await unsafeSpool({ maxResidentBytes: 200_000 })
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) => spool.swapOut(deferred(bytes(10_000, n)))),
    )
    expect(answers.every(({ result }) => result === 'deferred')).toBe(true)
    expect((await spool.swapOut(deferred(bytes(200_000)))).result).toBe('complete')
    const { unspooled: inMemory, messages } = await spool.stats()
    expect(messages).toBe(201)
    expect(inMemory).toBeLessThan(20)
    for (const [n, { ids }] of answers.entries()) {
      expect((await bodyOf(spool, ids[0] as string)).equals(bytes(10_000, n))).toBe(true)
    }
    await expectSound(spool, path)
  })
})

test('lists show both, each once, page by page, in order', async () => {
  const { spool } = await unsafeSpool()
  const now = Date.now()
  const ids: string[] = []
  for (let n = 0; n < 40; n++) {
    const durability = n % 5 < 2 ? 'durable' : 'deferred'
    const made = message('x', { nextAttempt: now + ((n * 17) % 40), durability })
    ids.push(...(await spool.swapOut(made)).ids)
  }
  const byDue = [...ids.keys()].sort((a, b) => ((a * 17) % 40) - ((b * 17) % 40))
  for (const [query, expected] of [
    [{}, ids],
    [{ domain: 'example.com' }, byDue.map((n) => ids[n])],
  ] as const) {
    for (const limit of [1, 7, 40, 1000]) {
      const found: string[] = []
      let cursor: string | null | undefined
      do {
        const page = await spool.list({ ...query, limit, ...(cursor ? { cursor } : {}) })
        expect(page.messages.length).toBeLessThanOrEqual(limit)
        found.push(...page.messages.map(({ id }) => id))
        cursor = page.cursor
      } while (cursor !== null)
      expect(found).toEqual(expected)
    }
  }
})

test('work on messages that are spooled under its hands is done there', async () => {
  const { spool, path } = await unsafeSpool({ maxResidentMessages: 50 })
  const outcomes = new Map<string, string>()
  await Promise.all(
    Array.from({ length: 16 }, async (_, worker) => {
      for (let n = 0; n < 40; n++) {
        const { ids } = await spool.swapOut(deferred(bytes(500 + worker)))
        const id = ids[0] as string
        const all = [
          spool.swapOutMeta(id, { binding: `b${n}` }, { force: n % 2 === 0 }),
          spool.context(id, 'mess').set('k', `${n}`, { force: n % 3 === 0 }),
          bodyOf(spool, id),
          spool.meta(id),
        ]
        await Promise.all(all)
        const { outcome } = await spool.dispose(id, {
          type: n % 2 === 0 ? 'delivery' : 'transient_failure',
        })
        outcomes.set(id, outcome)
      }
    }),
  )
  const kept = [...outcomes].filter(([, outcome]) => outcome === 'deferred').map(([id]) => id)
  expect(await onDisk(path)).toEqual(kept.sort())
  for (const id of kept) {
    expect(await spool.meta(id)).toMatchObject({ retries: 1, version: 4, context: { conn: {} } })
  }
  const types = new Map<string, number>()
  for (const { type } of logged(spool)) types.set(type, (types.get(type) ?? 0) + 1)
  expect(Object.fromEntries(types)).toEqual({
    reception: 640,
    delivery: 320,
    transient_failure: 320,
  })
  await expectSound(spool, path)
})

test('after a kill what was complete is there, what was deferred is not, and every event is', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const child = spawn(process.execPath, [SCRIPT, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const answers: { n: number; result: string; ids: string[] }[] = []
  let delivered = ''
  for await (const line of createInterface(child.stdout)) {
    const said = JSON.parse(line)
    if (said.delivered === undefined) answers.push(said)
    else {
      delivered = said.delivered
      child.kill('SIGKILL')
    }
  }
  expect((await exited)[1]).toBe('SIGKILL')
  const spool = await temporarySpool({ path, events: EVENTS })
  const there = new Set((await spool.list({ limit: 1000 })).messages.map(({ id }) => id))
  expect(there.has(delivered)).toBe(false)
  const lost = answers.filter(({ ids }) => !there.has(ids[0] as string) && ids[0] !== delivered)
  expect(lost.every(({ result }) => result === 'deferred')).toBe(true)
  expect(lost.length).toBeGreaterThan(0)
  expect(lost.length).toBeLessThanOrEqual(20)
  for (const { n, ids } of answers) {
    if (!there.has(ids[0] as string)) continue
    expect(`${await bodyOf(spool, ids[0] as string)}`).toBe(`body ${n}`)
  }
  expect(logged(spool).map(({ type, id }) => `${type} ${id}`)).toEqual([
    ...answers.map(({ ids }) => `reception ${ids[0]}`),
    `delivery ${delivered}`,
  ])
  await expectSound(spool, path)
})
