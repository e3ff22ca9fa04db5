// Exactly-once storing: one message and one log record a key, whatever is repeated, together or over restarts.
import { join } from 'node:path'
import fc from 'fast-check'
import { open } from 'lmdb'
import { describe, expect, test } from 'vitest'
import { checkSpool, type NewMessage, openSpool, type Spool } from '../../spool/index.js'
import { Store } from '../../spool/store.js'
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
} from './support.js'

const key = (idempotencyKey: string) => ({ idempotencyKey })

async function counts(spool: Spool) {
  const { messages, bodies, outbox, idempotencyKeys } = await spool.stats()
  return { messages, bodies, records: outbox.records, keys: idempotencyKeys }
}

describe('a key', () => {
  test('gives the same content the first answer, and refuses another', async () => {
    const spool = await temporarySpool()
    const mail = message('once', { rcptto: ['a@b', 'c@d'] })
    const first = await spool.swapOut(mail, key('k'))
    expect(first).not.toHaveProperty('replayed')
    expect(await spool.swapOut(mail, key('k'))).toEqual({ ...first, replayed: true })
    expect(await codeOf(spool.swapOut(message('twice'), key('k')))).toBe('SPOOL_ERR_KEY_REUSED')
    expect(await counts(spool)).toEqual({ messages: 2, bodies: 1, records: 2, keys: 1 })
    const other = await spool.swapOut(mail, key('another'))
    expect(other.ids).not.toEqual(first.ids)
    expect(await spool.swapOut(mail)).not.toHaveProperty('replayed')
  })

  test('holds over a restart, and when the message is gone', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const first = await spool.swapOut(message('once'), key('k'))
    await spool.swapRemove(first.ids[0] as string)
    await spool.close()
    const again = await temporarySpool({ path })
    expect(await again.swapOut(message('once'), key('k'))).toEqual({ ...first, replayed: true })
    expect(await codeOf(again.swapOut(message('x'), key('k')))).toBe('SPOOL_ERR_KEY_REUSED')
    expect(await counts(again)).toMatchObject({ messages: 0, keys: 1 })
    await expectSound(again, path)
  })

  test('is of several messages together', async () => {
    const spool = await temporarySpool()
    const mails = [
      message('one'),
      message('two', { rcptto: ['a@b', 'c@d'] }),
      message(bytes(400_000)),
    ]
    const first = await spool.swapOutMulti(mails, key('k'))
    const again = await spool.swapOutMulti(mails, key('k'))
    expect(again).toEqual(first.map((result) => ({ ...result, replayed: true })))
    expect(await codeOf(spool.swapOutMulti(mails.toReversed(), key('k')))).toBe(
      'SPOOL_ERR_KEY_REUSED',
    )
    expect(await codeOf(spool.swapOutMulti(mails.slice(1), key('k')))).toBe('SPOOL_ERR_KEY_REUSED')
    expect(await counts(spool)).toEqual({ messages: 4, bodies: 3, records: 4, keys: 1 })
  })

  test('is not taken by what was refused', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    let refuses = true
    const preSwapOutMeta = () => {
      if (refuses) throw new Error('not now')
    }
    const spool = await temporarySpool({ path, hooks: { preSwapOutMeta } })
    const bad = message('x', { rcptto: [''] })
    expect(await codeOf(spool.swapOut(bad, key('k')))).toBe('SPOOL_ERR_INVALID')
    const staged = await spool.stageBody(pieces(bytes(400_000), 50_000))
    const large = message('', { body: staged })
    expect(await codeOf(spool.swapOut(large, key('k')))).toBe('SPOOL_ERR_REFUSED')
    refuses = false
    // The staged body is the caller's again, and may be stored.
    expect((await spool.swapOut(large, key('k'))).size).toBe(400_000)
    expect(await counts(spool)).toMatchObject({ messages: 1, keys: 1 })
    await expectSound(spool, path)
  })

  test('leaves nothing of bodies that are not needed, and needs no content that was shared', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const large = bytes(500_000)
    const first = await spool.swapOut(message(large), key('large'))
    for (const body of [large, await spool.stageBody(pieces(large, 40_000))]) {
      expect(await spool.swapOut(message('', { body }), key('large'))).toMatchObject({
        ids: first.ids,
        replayed: true,
      })
    }
    const body = { refs: first.ids[0] as string }
    const shared = await spool.swapOut(message('', { body }), key('shared'))
    await spool.swapRemove(body.refs)
    expect(await spool.swapOut(message('', { body }), key('shared'))).toMatchObject({
      ids: shared.ids,
      replayed: true,
    })
    expect((await bodyOf(spool, shared.ids[0] as string)).equals(large)).toBe(true)
    await expectSound(spool, path)
  })

  test('is bounded in length, and any text within that', async () => {
    const spool = await temporarySpool()
    for (const [text, code] of [
      ['', 'SPOOL_ERR_INVALID'],
      ['x'.repeat(256), 'SPOOL_ERR_INVALID'],
      ['ü'.repeat(128), 'SPOOL_ERR_INVALID'],
      ['x'.repeat(255), undefined],
      ['\0ü ', undefined],
    ] as const) {
      expect(await codeOf(spool.swapOut(message('x'), key(text)))).toBe(code)
    }
  })

  test('is refused when too many are kept, and one that is kept is still known', async () => {
    const spool = await temporarySpool({ idempotency: { maxKeys: 2, seconds: 3600 } })
    await spool.swapOut(message('1'), key('1'))
    await spool.swapOut(message('2'), key('2'))
    expect(await codeOf(spool.swapOut(message('3'), key('3')))).toBe('SPOOL_ERR_KEYS_FULL')
    expect(await spool.swapOut(message('2'), key('2'))).toMatchObject({ replayed: true })
    expect(await counts(spool)).toMatchObject({ messages: 2, keys: 2 })
    await spool.swapOut(message('3'))
  })

  test.each([{ seconds: 0 }, { seconds: Number.NaN }, { maxKeys: -1 }])(
    'with the setting %j is refused',
    async (idempotency) => {
      const path = join(await temporaryDirectory(), 'spool')
      expect(await codeOf(openSpool({ path, idempotency }))).toBe('SPOOL_ERR_INVALID')
    },
  )
})

test('of many who ask at once with a key, one stores and all get its answer', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const mail = (n: number) => message(bytes(n % 2 === 0 ? 1000 : 300_000, n))
  const answers = await Promise.all(
    Array.from({ length: 120 }, (_, i) => spool.swapOut(mail(i % 10), key(`key ${i % 10}`))),
  )
  const first = answers.filter(({ replayed }) => replayed === undefined)
  expect(first).toHaveLength(10)
  for (const [i, { ids }] of answers.entries()) expect(ids).toEqual(answers[i % 10]?.ids)
  expect(await counts(spool)).toEqual({ messages: 10, bodies: 10, records: 10, keys: 10 })
  const mixed = await Promise.allSettled(
    Array.from({ length: 20 }, (_, i) => spool.swapOut(message(`text ${i % 2}`), key('mixed'))),
  )
  expect(mixed.filter(({ status }) => status === 'fulfilled')).toHaveLength(10)
  expect(await counts(spool)).toMatchObject({ messages: 11, keys: 11 })
  await expectSound(spool, path)
})

test('keys end, and are removed, step by step', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path, idempotency: { seconds: 0.2 } })
  const first = await spool.swapOut(message('x'), key('0'))
  await Promise.all(
    Array.from({ length: 700 }, (_, i) => spool.swapOut(message('x'), key(String(i + 1)))),
  )
  await new Promise((resolve) => setTimeout(resolve, 250))
  // One that has ended but is still there is as none.
  const renewed = await spool.swapOut(message('y'), key('0'))
  expect(renewed.ids).not.toEqual(first.ids)
  await spool.expire()
  expect((await spool.stats()).idempotencyKeys).toBeLessThanOrEqual(1)
  await expect.poll(async () => (await spool.stats()).idempotencyKeys).toBe(0)
  expect((await spool.stats()).messages).toBe(702)
  await expectSound(spool, path)
})

test('each field makes another content; what is left out is its default', async () => {
  const spool = await temporarySpool()
  const base: NewMessage = { mailfrom: 'a@b', rcptto: ['c@d'], body: Buffer.from('x') }
  await spool.swapOut(base, key('k'))
  const same: Partial<NewMessage>[] = [
    { binding: 'default', bindingGroup: 'default', protocol: 'rest', batchId: '', peer: 'unknown' },
    { context: { conn: {} }, retention: undefined },
    { body: await spool.stageBody(Buffer.from('x')) },
  ]
  for (const more of same) {
    expect(await spool.swapOut({ ...base, ...more }, key('k'))).toMatchObject({ replayed: true })
  }
  const others: Partial<NewMessage>[] = [
    { mailfrom: '' },
    { rcptto: ['c@d', 'c@d'] },
    { rcptto: ['C@d'] },
    { body: Buffer.from('X') },
    { context: { conn: { a: '1' } } },
    { context: { mess: { a: '1' } } },
    { batchId: 'c@d' },
    { connectionId: 'x' },
    { protocol: 'esmtp' },
    { bindingGroup: 'x' },
    { binding: 'x' },
    { nextAttempt: null },
    { nextAttempt: Date.now() },
    { retention: 0 },
    { peer: '192.0.2.1' },
  ]
  for (const more of others) {
    const code = await codeOf(spool.swapOut({ ...base, ...more }, key('k')))
    expect(code, JSON.stringify(more)).toBe('SPOOL_ERR_KEY_REUSED')
  }
})

test('whatever is repeated in whatever order, over restarts, each key stores once', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  let spool = await openSpool({ path, events: EVENTS })
  const answers = new Map<string, { ids: string[]; text: string }>()
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          { weight: 8, arbitrary: fc.record({ k: fc.nat(20), text: fc.nat(2) }) },
          { weight: 1, arbitrary: fc.constant('restart' as const) },
        ),
        { maxLength: 30 },
      ),
      async (steps) => {
        let together: Promise<void>[] = []
        for (const step of steps) {
          if (step === 'restart') {
            await Promise.all(together)
            together = []
            await spool.close()
            spool = await openSpool({ path, events: EVENTS })
            continue
          }
          const [name, text] = [String(step.k), String(step.text)]
          together.push(
            spool.swapOut(message(text), key(name)).then(
              ({ ids, replayed }) => {
                const known = answers.get(name)
                if (known === undefined) answers.set(name, { ids, text })
                else expect({ ids, text }).toEqual(known)
                if (replayed === undefined) expect(known).toBeUndefined()
              },
              ({ code }) => expect(code).toBe('SPOOL_ERR_KEY_REUSED'),
            ),
          )
        }
        await Promise.all(together)
        const { messages, outbox } = await spool.stats()
        expect(messages).toBe(answers.size)
        expect(outbox.records).toBe(answers.size)
      },
    ),
    { numRuns: 30 },
  )
  await expectSound(spool, path)
})

test('a spool from before there were keys is read, checked, opened and used', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const { ids } = await spool.swapOut(message('old'))
  await spool.close()
  const environment = open({ path, noSubdir: false, maxDbs: 32, keyEncoding: 'binary' })
  await environment.openDB('idempotency', { keyEncoding: 'binary', encoding: 'binary' }).drop()
  await environment.close()
  const reader = await Store.open({ path, readOnly: true, mode: 0o640, mapSize: undefined })
  expect([...reader.db('idempotency').getKeys()]).toEqual([])
  await reader.close()
  expect(await checkSpool(path)).toMatchObject({ messages: 1, found: 0 })
  const offline = await temporarySpool({ path, readOnly: true })
  expect(await counts(offline)).toMatchObject({ messages: 1, keys: 0 })
  await offline.close()
  const opened = await temporarySpool({ path })
  const first = await opened.swapOut(message('new'), key('k'))
  expect(await opened.swapOut(message('new'), key('k'))).toEqual({ ...first, replayed: true })
  expect((await bodyOf(opened, ids[0] as string)).toString()).toBe('old')
  await expectSound(opened, path)
})
