// Messages in and out: byte for byte, counted bodies, meta and its versions, removal, restarts.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkSpool, openSpool, type Spool, SpoolError } from '../../spool/index.js'
import {
  bodyOf,
  bytes,
  codeOf,
  expectSound,
  message,
  pieces,
  sha256,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

const CHUNK = 16_000
const LARGE = 40_000

describe('a body', () => {
  const edges = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, LARGE - 1, LARGE, LARGE + 1]
  const slabs = [16 * CHUNK - 1, 16 * CHUNK, 16 * CHUNK + 1, 32 * CHUNK]

  test.each([...edges, ...slabs])('of %i bytes comes out as it went in', async (size) => {
    const spool = await temporarySpool({ largeMessageThreshold: LARGE })
    const body = bytes(size)
    for (const given of [body, await spool.stageBody(pieces(body, 7919))]) {
      const stored = await spool.swapOut({ ...message(body), body: given })
      expect(stored).toMatchObject({ result: 'complete', size, sha256: sha256(body) })
      const back = await spool.swapIn(stored.ids[0] as string)
      expect(back).toMatchObject({ size, sha256: sha256(body), start: 0, end: size })
      const parts: Uint8Array[] = []
      for await (const part of back.stream) parts.push(part)
      expect(Buffer.concat(parts).equals(body)).toBe(true)
    }
  })

  test('of any content and in any pieces comes out as it went in', async () => {
    const spool = await temporarySpool({ largeMessageThreshold: 5000 })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 9000 }), { maxLength: 8 }),
        async (parts) => {
          const body = Buffer.concat(parts)
          const source = (async function* () {
            yield* parts
          })()
          const staged = await spool.stageBody(source)
          const { ids } = await spool.swapOut({ ...message(''), body: staged })
          expect((await bodyOf(spool, ids[0] as string)).equals(body)).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
  })

  test.each(['a\nb\n.\n\n', 'NUL \0 and \u00e9 and \ud83d\ude00\r\n\r\n', 'no header', '\r\n'])(
    'of mail keeps its line ends and bytes: %j',
    async (text) => {
      const spool = await temporarySpool()
      const { ids } = await spool.swapOut(message(text))
      expect((await bodyOf(spool, ids[0] as string)).toString()).toBe(text)
    },
  )

  test('is read in ranges, across chunks and slabs', async () => {
    const spool = await temporarySpool({ largeMessageThreshold: LARGE })
    const body = bytes(200_000)
    const { ids } = await spool.swapOut(message(body))
    await fc.assert(
      fc.asyncProperty(fc.nat(body.length), fc.nat(body.length), async (a, b) => {
        const range = { start: Math.min(a, b), end: Math.max(a, b) }
        const part = await (await spool.swapIn(ids[0] as string, range)).buffer()
        expect(part.equals(body.subarray(range.start, range.end))).toBe(true)
      }),
    )
    for (const range of [
      { start: 5, end: 4 },
      { start: -1, end: 4 },
      { start: 0, end: 200_001 },
      { start: 0.5, end: 1 },
    ]) {
      expect(await codeOf(spool.swapIn(ids[0] as string, range))).toBe('SPOOL_ERR_INVALID')
    }
  })
})

describe('recipients', () => {
  test('are a message each, in order, and share one body that goes with the last', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const body = bytes(50_000)
    const rcptto = ['a@one.example', 'b@two.example', 'c@one.example']
    const { ids } = await spool.swapOut(message(body, { rcptto }))
    expect(new Set(ids).size).toBe(3)
    expect(ids.toSorted()).toEqual(ids)
    expect(await Promise.all(ids.map(async (id) => (await spool.meta(id)).rcptto))).toEqual(rcptto)
    expect(await spool.stats()).toMatchObject({ messages: 3, bodies: 1, bytes: 50_000, due: 3 })
    for (const [i, id] of ids.entries()) {
      expect((await bodyOf(spool, id)).equals(body)).toBe(true)
      await spool.swapRemove(id)
      const left = 2 - i
      expect(await spool.stats()).toMatchObject({
        messages: left,
        bodies: left > 0 ? 1 : 0,
        bytes: left > 0 ? 50_000 : 0,
        due: left,
      })
      expect(await codeOf(spool.swapIn(id))).toBe('SPOOL_ERR_NOT_FOUND')
      expect(await codeOf(spool.meta(id))).toBe('SPOOL_ERR_NOT_FOUND')
      expect(await codeOf(spool.swapRemove(id))).toBe('SPOOL_ERR_NOT_FOUND')
    }
    await expectSound(spool, path)
  })

  test('removed all at once leave nothing', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const rcptto = Array.from({ length: 20 }, (_, i) => `r${i}@example.com`)
    const small = await spool.swapOut(message(bytes(100), { rcptto }))
    const large = await spool.swapOut(message(bytes(500_000), { rcptto }))
    await Promise.all([...small.ids, ...large.ids].map((id) => spool.swapRemove(id)))
    expect(await spool.stats()).toMatchObject({ messages: 0, bodies: 0, bytes: 0, due: 0 })
    await expectSound(spool, path)
  })
})

describe('several messages in one transaction', () => {
  test('are all stored, and may share a staged body', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const shared = await spool.stageBody(Buffer.from('shared'))
    const results = await spool.swapOutMulti([
      message('one'),
      { ...message(''), body: shared },
      { ...message('', { rcptto: ['x@example.com', 'y@example.com'] }), body: shared },
    ])
    expect(results.map(({ ids }) => ids.length)).toEqual([1, 1, 2])
    expect(await spool.stats()).toMatchObject({ messages: 4, bodies: 2, bytes: 9 })
    expect((await bodyOf(spool, results[2]?.ids[1] as string)).toString()).toBe('shared')
    await expectSound(spool, path)
  })

  test('are none stored when one is refused, and staged bodies stay the caller’s', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const staged = await spool.stageBody(bytes(LARGE * 2))
    const refused = spool.swapOutMulti([
      { ...message(''), body: staged },
      message(bytes(LARGE * 3)),
      message('bad', { rcptto: ['a\nb@example.com'] }),
    ])
    expect(await codeOf(refused)).toBe('SPOOL_ERR_INVALID')
    expect(await spool.stats()).toMatchObject({ messages: 0, bodies: 0, outbox: { records: 0 } })
    await spool.swapOut({ ...message(''), body: staged })
    expect(await codeOf(spool.swapOut({ ...message(''), body: staged }))).toBe('SPOOL_ERR_INVALID')
    expect(await spool.swapOutMulti([])).toEqual([])
    await expectSound(spool, path)
  })
})

describe('meta', () => {
  test('is what was given, and outlives a restart', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const given = {
      mailfrom: '',
      rcptto: ['jos\u00e9@ex\u00e4mple.org'],
      context: { conn: { z: '1', a: 'line\nbreak' }, mess: JSON.parse('{"__proto__":"x","":""}') },
      batchId: 'batch',
      connectionId: 'connection',
      protocol: 'esmtp',
      bindingGroup: 'group',
      binding: 'ip-1',
      nextAttempt: new Date(1_800_000_000_000),
      retention: 3600,
      peer: '192.0.2.7',
    }
    expect(await codeOf(spool.swapOut(message('x', given)))).toBe('SPOOL_ERR_INVALID')
    delete given.context.mess['']
    const { ids } = await spool.swapOut(message('x', given))
    const meta = await spool.meta(ids[0] as string)
    expect(meta).toMatchObject({
      ...given,
      rcptto: given.rcptto[0],
      nextAttempt: 1_800_000_000_000,
      state: 'queued',
      retries: 0,
      version: 1,
      size: 1,
      sha256: sha256(Buffer.from('x')),
    })
    expect(Object.keys(meta.context.conn)).toEqual(['a', 'z'])
    expect(Object.hasOwn(meta.context.mess, '__proto__')).toBe(true)
    expect(Math.abs(meta.created - Date.now())).toBeLessThan(60_000)
    await spool.close()
    const again = await temporarySpool({ path })
    expect(await again.refetchMeta(ids[0] as string)).toEqual(meta)
    expect((await bodyOf(again, ids[0] as string)).toString()).toBe('x')
  })

  test('changes by patch, one version at a time', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const context = { conn: { keep: '1', drop: '2' }, mess: { gone: '3' } }
    const { ids } = await spool.swapOut(message('x', { context }))
    const id = ids[0] as string
    const { result, meta } = await spool.swapOutMeta(id, {
      retries: 1,
      nextAttempt: 5000,
      binding: 'other',
      context: { conn: { drop: null, add: '4' }, mess: null },
    })
    expect(result).toBe('complete')
    expect(meta).toMatchObject({ version: 2, retries: 1, nextAttempt: 5000, state: 'deferred' })
    expect(meta.context).toEqual({ conn: { add: '4', keep: '1' }, mess: {} })
    expect(await spool.meta(id)).toEqual(meta)
    const stale = spool.swapOutMeta(id, { retries: 9 }, { ifVersion: 1 })
    await expect(stale).rejects.toMatchObject({ code: 'SPOOL_ERR_VERSION', version: 2 })
    await spool.swapOutMeta(id, { nextAttempt: null }, { ifVersion: 2 })
    expect(await spool.stats()).toMatchObject({ due: 0 })
    expect((await bodyOf(spool, id)).toString()).toBe('x')
    await expectSound(spool, path)
  })

  test('written by many at once counts every write, and one wins of those with a version', async () => {
    const spool = await temporarySpool()
    const { ids } = await spool.swapOut(message('x'))
    const id = ids[0] as string
    const writes = Array.from({ length: 50 }, (_, i) =>
      spool.swapOutMeta(id, { context: { mess: { [`k${i}`]: 'v' } } }, { force: i % 3 !== 0 }),
    )
    await Promise.all(writes)
    const meta = await spool.meta(id)
    expect(meta.version).toBe(51)
    expect(Object.keys(meta.context.mess)).toHaveLength(50)
    const race = Array.from({ length: 10 }, () =>
      codeOf(spool.swapOutMeta(id, { retries: 1 }, { ifVersion: 51 })),
    )
    const codes = await Promise.all(race)
    expect(codes.filter((code) => code === undefined)).toHaveLength(1)
    expect(codes.filter((code) => code === 'SPOOL_ERR_VERSION')).toHaveLength(9)
  })

  test('not forced is visible at once and stored by a close', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const { ids } = await spool.swapOut(message('x'))
    const id = ids[0] as string
    const { result } = await spool.swapOutMeta(id, { nextAttempt: 7 }, { force: false })
    expect(result).toBe('partial')
    expect(await spool.meta(id)).toMatchObject({ nextAttempt: 7, version: 2 })
    expect((await spool.list({ dueBefore: 8 })).messages).toHaveLength(1)
    await spool.swapOutMeta(id, { retries: 3 }, { force: false })
    await spool.close()
    const again = await temporarySpool({ path })
    expect(await again.meta(id)).toMatchObject({ nextAttempt: 7, retries: 3, version: 3 })
    await expectSound(again, path)
  })

  test('not forced and the message removed leaves nothing', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const { ids } = await spool.swapOut(message('x'))
    await spool.swapOutMeta(ids[0] as string, { nextAttempt: 7 }, { force: false })
    await spool.swapRemove(ids[0] as string)
    expect(await codeOf(spool.meta(ids[0] as string))).toBe('SPOOL_ERR_NOT_FOUND')
    await expectSound(spool, path)
  })
})

describe('ids', () => {
  test('sort by time and never repeat, also over restarts and with a clock that stepped back', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const all: string[] = []
    const realNow = Date.now
    try {
      for (let restart = 0; restart < 3; restart++) {
        const spool = await temporarySpool({ path })
        for (let i = 0; i < 5; i++) {
          const rcptto = Array.from({ length: 1000 }, (_, n) => `r${n}@example.com`)
          all.push(...(await spool.swapOut(message('x', { rcptto }))).ids)
        }
        // What is removed must not be given out again either.
        if (restart === 1) await Promise.all(all.slice(5000).map((id) => spool.swapRemove(id)))
        await spool.close()
        Date.now = () => realNow() - 3_600_000
      }
    } finally {
      Date.now = realNow
    }
    expect(all.toSorted()).toEqual(all)
    expect(new Set(all).size).toBe(15_000)
    expect(all[0]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  test.each(['', 'x', '../../etc/passwd', '0'.repeat(36), `${'0'.repeat(35)}/`])(
    'that are none are refused: %j',
    async (id) => {
      const spool = await temporarySpool()
      for (const call of [
        spool.meta(id),
        spool.swapIn(id),
        spool.swapRemove(id),
        spool.swapOutMeta(id, {}),
      ]) {
        expect(await codeOf(call)).toBe('SPOOL_ERR_INVALID')
      }
    },
  )
})

describe('input', () => {
  const bad: [string, string, object][] = [
    ['mailfrom', 'mailfrom', { mailfrom: 'a\r\nb@example.org' }],
    ['a NUL', 'mailfrom', { mailfrom: 'a\0@example.org' }],
    ['no sender', 'mailfrom', { mailfrom: undefined }],
    ['a lone surrogate', 'mailfrom', { mailfrom: '\ud800@example.org' }],
    ['no recipients', 'rcptto', { rcptto: [] }],
    ['a recipient that is none', 'rcptto[1]', { rcptto: ['a@b', 5] }],
    ['an empty recipient', 'rcptto[0]', { rcptto: [''] }],
    ['a long recipient', 'rcptto[0]', { rcptto: ['a'.repeat(1025)] }],
    ['text for a body', 'body', { body: 'text' }],
    ['somebody’s own staged body', 'body', { body: { size: 1, sha256: '', discard() {} } }],
    ['a context of numbers', 'context.conn.a', { context: { conn: { a: 1 } } }],
    ['a context too large', 'context', { context: { mess: { a: 'x'.repeat(65_536) } } }],
    ['a time that is none', 'nextAttempt', { nextAttempt: Number.NaN }],
    ['a negative retention', 'retention', { retention: -1 }],
    ['a binding with a NUL', 'binding', { binding: 'a\0b' }],
  ]
  test.each(bad)('is refused, naming the field: %s', async (_, field, part) => {
    const spool = await temporarySpool()
    const refused = spool.swapOut({ ...message('x'), ...part } as never)
    await expect(refused).rejects.toBeInstanceOf(SpoolError)
    await expect(refused).rejects.toMatchObject({ code: 'SPOOL_ERR_INVALID', field })
    expect(await spool.stats()).toMatchObject({ messages: 0, bodies: 0, outbox: { records: 0 } })
  })

  test('of a patch is refused, and changes nothing', async () => {
    const spool = await temporarySpool()
    const { ids } = await spool.swapOut(message('x'))
    const id = ids[0] as string
    for (const patch of [
      { size: 5 },
      { retries: -1 },
      { retries: 1.5 },
      { nextAttempt: -5 },
      { context: { conn: { a: 5 } } },
      { context: { mess: { a: 'x'.repeat(70_000) } } },
      { context: 5 },
    ]) {
      for (const force of [true, false]) {
        expect(await codeOf(spool.swapOutMeta(id, patch as never, { force }))).toBe(
          'SPOOL_ERR_INVALID',
        )
      }
    }
    expect((await spool.meta(id)).version).toBe(1)
  })

  test('over the size limit is refused', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({
      path,
      maxMessageSize: 60_000,
      largeMessageThreshold: LARGE,
    })
    expect(await codeOf(spool.swapOut(message(bytes(60_001))))).toBe('SPOOL_ERR_TOO_LARGE')
    expect(await codeOf(spool.stageBody(pieces(bytes(60_001), 999)))).toBe('SPOOL_ERR_TOO_LARGE')
    const limited = spool.stageBody(pieces(bytes(20), 3), { maxBytes: 19 })
    expect(await codeOf(limited)).toBe('SPOOL_ERR_TOO_LARGE')
    await spool.swapOut(message(bytes(60_000)))
    await expectSound(spool, path)
  })
})

describe('closing', () => {
  test('finishes what was begun, refuses the rest, and never does half', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const sizes = Array.from({ length: 40 }, (_, i) => (i % 4 === 0 ? 300_000 : 20_000))
    const outcomes = sizes.map(async (size) => {
      try {
        return (await spool.swapOut(message(bytes(size)))).ids[0]
      } catch (error) {
        expect((error as SpoolError).code).toBe('SPOOL_ERR_CLOSED')
        return undefined
      }
    })
    const closed = [spool.close(), spool.close()]
    expect(await codeOf(spool.swapOut(message('late')))).toBe('SPOOL_ERR_CLOSED')
    await Promise.all(closed)
    const stored = (await Promise.all(outcomes)).filter((id) => id !== undefined)
    const id = stored[0] ?? crypto.randomUUID()
    for (const call of [spool.meta(id), spool.swapIn(id), spool.swapRemove(id), spool.list()]) {
      expect(await codeOf(call)).toBe('SPOOL_ERR_CLOSED')
    }
    const again = await temporarySpool({ path, largeMessageThreshold: LARGE })
    expect((await again.stats()).messages).toBe(stored.length)
    for (const id of stored) expect((await bodyOf(again, id)).length).toBeGreaterThan(0)
    await spoolIsSwept(again, path)
  })
})

describe('opening', () => {
  test('gives the files the mode asked for', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    await temporarySpool({ path, mode: 0o600 })
    for (const file of ['data.mdb', 'lock.mdb', 'owner']) {
      expect((await stat(join(path, file))).mode & 0o777).toBe(0o600)
    }
  })

  test('for reading takes no ownership, refuses writes, and needs a spool', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    expect(await codeOf(openSpool({ path, readOnly: true }))).toBe('SPOOL_ERR_OPEN')
    const spool = await temporarySpool({ path })
    const { ids } = await spool.swapOut(message('x'))
    const stats = await spool.stats()
    await spool.close()
    const reader = await temporarySpool({ path, readOnly: true })
    expect((await bodyOf(reader, ids[0] as string)).toString()).toBe('x')
    expect(await reader.stats()).toEqual({ ...stats, readOnly: expect.stringContaining('reading') })
    for (const call of [
      reader.swapOut(message('y')),
      reader.swapRemove(ids[0] as string),
      reader.swapOutMeta(ids[0] as string, {}),
      reader.swapOutMeta(ids[0] as string, {}, { force: false }),
      reader.stageBody(Buffer.from('y')),
      reader.outbox.done('mainlog', 1),
    ]) {
      expect(await codeOf(call)).toBe('SPOOL_ERR_READ_ONLY')
    }
  })

  test('of what is no spool says so', async () => {
    expect(await codeOf(openSpool({ path: '/dev/null/spool' }))).toBe('SPOOL_ERR_OPEN')
    expect(await codeOf(openSpool({ path: '' }))).toBe('SPOOL_ERR_INVALID')
  })
})

/** What a close left staged is gone once the next open has swept it. */
async function spoolIsSwept(spool: Spool, path: string): Promise<void> {
  await spool.close()
  await (await openSpool({ path })).close()
  expect((await checkSpool(path)).problems).toEqual([])
}
