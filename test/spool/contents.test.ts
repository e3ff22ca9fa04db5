// Shared, replaced, dropped and copied content: counts that stay right, and nobody's bytes change.
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Spool } from '../../spool/index.js'
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

const LARGE = 20_000
const UNKNOWN = '019a0000-0000-7000-8000-000000000000'

async function open(): Promise<{ spool: Spool; path: string; sound: () => Promise<void> }> {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
  return { spool, path, sound: () => expectSound(spool, path) }
}

const store = async (spool: Spool, body: Buffer, recipients = 1) => {
  const rcptto = Array.from({ length: recipients }, (_, i) => `r${i}@example.com`)
  return (await spool.swapOut(message(body, { rcptto }))).ids as [string, ...string[]]
}

describe.each([
  ['small', 5000],
  ['large', 50_000],
])('a %s body', (_kind, size) => {
  const body = bytes(size)
  const other = bytes(size + 7, 2)

  test('is shared by refs, and stays until its last message goes', async () => {
    const { spool, sound } = await open()
    const [first] = await store(spool, body)
    const shared = await spool.swapOut(
      message('', { body: { refs: first }, rcptto: ['x@example.net', 'y@example.net'] }),
    )
    expect(shared).toMatchObject({ result: 'complete', size, sha256: sha256(body) })
    expect(await spool.stats()).toMatchObject({ messages: 3, bodies: 1, bytes: size })
    await spool.swapRemove(first)
    expect((await bodyOf(spool, shared.ids[0]!)).equals(body)).toBe(true)
    for (const id of shared.ids) await spool.swapRemove(id)
    expect(await spool.stats()).toMatchObject({ messages: 0, bodies: 0, bytes: 0 })
    await sound()
  })

  test('is replaced for one message, and the others keep theirs', async () => {
    const { spool, sound } = await open()
    const [a, b] = (await store(spool, body, 2)) as [string, string]
    const meta = await spool.swapOutContent(a, await spool.stageBody(pieces(other, 999)))
    expect(meta).toMatchObject({ id: a, version: 2, size: size + 7, sha256: sha256(other) })
    expect((await bodyOf(spool, a)).equals(other)).toBe(true)
    expect((await bodyOf(spool, b)).equals(body)).toBe(true)
    expect(await spool.stats()).toMatchObject({ bodies: 2, bytes: 2 * size + 7 })
    await spool.swapOutContent(b, other)
    expect(await spool.stats()).toMatchObject({ bodies: 2, bytes: 2 * size + 14 })
    await spool.swapOutContent(b, Buffer.alloc(0))
    expect(await bodyOf(spool, b)).toEqual(Buffer.alloc(0))
    await sound()
  })

  test('that is being read when it is replaced is read to its end', async () => {
    const { spool, sound } = await open()
    const [id] = await store(spool, body)
    const reading = await spool.swapIn(id)
    await spool.swapOutContent(id, other)
    expect((await reading.buffer()).equals(body)).toBe(true)
    await sound()
  })

  test('is dropped, and the meta stays', async () => {
    const { spool, sound } = await open()
    const [a, b] = (await store(spool, body, 2)) as [string, string]
    expect(await spool.swapRemoveContent(a)).toMatchObject({ version: 2, size: 0, sha256: null })
    expect(await spool.meta(a)).toMatchObject({ rcptto: 'r0@example.com', sha256: null })
    for (const refused of [
      () => spool.swapIn(a),
      () => spool.swapRemoveContent(a),
      () => spool.copy(a),
      () => spool.copy(a, { share: true }),
      () => spool.swapOut(message('', { body: { refs: a } })),
    ]) {
      expect(await codeOf(refused())).toBe('SPOOL_ERR_NOT_FOUND')
    }
    expect((await bodyOf(spool, b)).equals(body)).toBe(true)
    await spool.swapRemoveContent(b)
    expect(await spool.stats()).toMatchObject({ messages: 2, bodies: 0, bytes: 0 })
    await spool.swapOutContent(a, body)
    expect((await bodyOf(spool, a)).equals(body)).toBe(true)
    await spool.swapRemove(b)
    await sound()
  })

  test.each([false, true])('is copied under a new id, shared: %s', async (share) => {
    const { spool, sound } = await open()
    const { ids } = await spool.swapOut(
      message(body, { context: { mess: { k: 'v' } }, binding: 'b', nextAttempt: null }),
    )
    const original = ids[0]!
    await spool.swapOutMeta(original, { retries: 3 }, { force: false })
    const copy = await spool.copy(original, { share })
    expect(copy).toMatchObject({ result: 'complete', size, sha256: sha256(body) })
    const copied = await spool.meta(copy.ids[0]!)
    expect(copied).toMatchObject({
      context: { conn: {}, mess: { k: 'v' } },
      binding: 'b',
      nextAttempt: null,
      retries: 0,
      version: 1,
      protocol: 'internal',
      state: 'queued',
    })
    expect(await spool.stats()).toMatchObject({ bodies: share ? 1 : 2, due: 0 })
    await spool.swapRemove(original)
    expect((await bodyOf(spool, copy.ids[0]!)).equals(body)).toBe(true)
    await sound()
  })
})

test('content is changed only if it is what was asked for', async () => {
  const { spool, sound } = await open()
  const [id] = await store(spool, bytes(100))
  const staged = await spool.stageBody(pieces(bytes(50_000), 1000))
  expect(await codeOf(spool.swapOutContent(id, staged, { ifVersion: 2 }))).toBe('SPOOL_ERR_VERSION')
  const ifSha256 = sha256(bytes(99))
  expect(await codeOf(spool.swapRemoveContent(id, { ifSha256 }))).toBe('SPOOL_ERR_VERSION')
  expect(await codeOf(spool.swapOutContent(UNKNOWN, staged))).toBe('SPOOL_ERR_NOT_FOUND')
  // What was refused is still the caller's.
  await spool.swapOutContent(id, staged, { ifVersion: 1, ifSha256: sha256(bytes(100)) })
  expect((await bodyOf(spool, id)).equals(bytes(50_000))).toBe(true)
  expect(await codeOf(spool.swapOutContent(id, staged))).toBe('SPOOL_ERR_INVALID')
  await sound()
})

test('what refuses a message with refs stores none of its batch', async () => {
  const { spool, sound } = await open()
  const [id] = await store(spool, bytes(100))
  const batch = [
    message('new'),
    message('', { body: { refs: id } }),
    message('', { body: { refs: UNKNOWN } }),
  ]
  expect(await codeOf(spool.swapOutMulti(batch))).toBe('SPOOL_ERR_NOT_FOUND')
  expect(await codeOf(spool.swapOut(message('', { body: { refs: 'x' } })))).toBe(
    'SPOOL_ERR_INVALID',
  )
  // Its content goes while the message that wants it is on its way.
  const late = spool.swapOutMulti([message('new'), message('', { body: { refs: id } })])
  const codes = await Promise.all([codeOf(late), codeOf(spool.swapOutContent(id, bytes(7)))])
  expect(codes[1]).toBeUndefined()
  expect([undefined, 'SPOOL_ERR_CONFLICT']).toContain(codes[0])
  await sound()
})

test('a snapshot has meta and content of one moment, while both are written', async () => {
  const { spool, sound } = await open()
  const bodyAt = (n: number) => bytes(n % 2 === 0 ? 50_000 + n : 1000 + n, n)
  const [id] = await store(spool, bodyAt(0))
  let done = false
  const writing = (async () => {
    for (let n = 1; n <= 60; n++) {
      await spool.swapOutMeta(id, { retries: n }, { force: n % 3 === 0 })
      await spool.swapOutContent(id, bodyAt(n))
    }
    done = true
  })()
  let taken = 0
  while (!done) {
    const { meta, body } = await spool.snapshot(id)
    const content = await body!.buffer()
    expect({ size: content.length, sha256: sha256(content) }).toEqual({
      size: meta.size,
      sha256: meta.sha256,
    })
    const n = content.length % 1000
    expect([n, n + 1]).toContain(meta.retries)
    taken++
    await setImmediate()
  }
  await writing
  expect(taken).toBeGreaterThan(10)
  expect(await spool.meta(id)).toMatchObject({ version: 121, retries: 60 })
  await sound()
})

test('after any calls at once, the counts are those of a plain map', async () => {
  const call = fc.record({
    what: fc.constantFrom('store', 'share', 'copy', 'cowref', 'replace', 'drop', 'remove'),
    pick: fc.nat(1000),
    size: fc.constantFrom(0, 10, 16_000, 30_000),
    recipients: fc.integer({ min: 1, max: 3 }),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(call, { maxLength: 6 }), { maxLength: 6 }),
      async (rounds) => {
        const { spool, sound } = await open()
        let seed = 1
        const live = new Map<string, string | null>()
        for (const round of rounds) {
          const ids = [...live.keys()]
          const used = new Set<string>()
          // Of each message one change a round, so that the outcome does not depend on their order.
          await Promise.all(
            round.map(async ({ what, pick, size, recipients }) => {
              const id = ids[pick % Math.max(1, ids.length)]
              const body = bytes(size, seed++)
              if (what === 'store' || id === undefined) {
                const stored = await store(spool, body, recipients)
                for (const added of stored) live.set(added, sha256(body))
                return
              }
              if (used.has(id)) return
              used.add(id)
              const content = live.get(id) as string | null
              if (what === 'remove') {
                await spool.swapRemove(id)
                live.delete(id)
              } else if (what === 'replace') {
                await spool.swapOutContent(id, body)
                live.set(id, sha256(body))
              } else if (content === null) {
                expect(await codeOf(spool.copy(id))).toBe('SPOOL_ERR_NOT_FOUND')
              } else if (what === 'drop') {
                await spool.swapRemoveContent(id)
                live.set(id, null)
              } else {
                const { ids: added } =
                  what === 'share'
                    ? await spool.swapOut(message('', { body: { refs: id } }))
                    : await spool.copy(id, { share: what === 'cowref' })
                live.set(added[0]!, content)
              }
            }),
          )
        }
        for (const [id, content] of live) {
          if (content === null) expect((await spool.meta(id)).sha256).toBeNull()
          else expect(sha256(await bodyOf(spool, id))).toBe(content)
        }
        expect((await spool.stats()).messages).toBe(live.size)
        await sound()
      },
    ),
    { numRuns: 15 },
  )
})

test('who begins to read while a removal is being written reads to the end', async () => {
  const spool = await temporarySpool({ largeMessageThreshold: 1_000_000 })
  const header = 'Subject: x\r\n'.repeat(50_000)
  const body = Buffer.from(`${header}\r\n`)
  const [id] = await store(spool, body)
  const removal = spool.swapRemove(id!)
  // The transaction is on its way, the message still there.
  await setImmediate()
  await setImmediate()
  const whole = await spool.swapIn(id!)
  const headers = spool.swapInHeaders(id!)
  const structure = spool.swapInStructure(id!)
  await removal
  await setImmediate()
  expect((await whole.buffer()).equals(body)).toBe(true)
  expect((await (await headers).buffer()).toString()).toBe(header)
  expect(await structure).toMatchObject({ size: body.length })
})
