// What an embedding program may do: refuse meta, watch it read, take over storing, attach objects.
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { MessageMeta, SwapOutResult } from '../../spool/index.js'
import { SpoolError } from '../../spool/index.js'
import {
  bodyOf,
  bytes,
  codeOf,
  expectSound,
  message,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

const UNKNOWN = '019a0000-0000-7000-8000-000000000000'

describe('preSwapOutMeta', () => {
  test('refuses any change of a message, and nothing of it is written', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    let refusing = false
    const seen: MessageMeta[] = []
    const preSwapOutMeta = (meta: MessageMeta) => {
      seen.push(meta)
      if (refusing) throw new Error('not now')
    }
    const spool = await temporarySpool({ path, hooks: { preSwapOutMeta } })
    const { ids } = await spool.swapOut(message('body', { binding: 'b' }))
    const id = ids[0]!
    expect(seen).toMatchObject([{ id, binding: 'b', version: 1 }])
    const before = await spool.meta(id)
    refusing = true
    const large = await spool.stageBody(bytes(300_000))
    for (const change of [
      () => spool.swapOut(message('x')),
      () => spool.swapOut({ ...message(''), body: large }),
      () => spool.swapOutMulti([message('x'), message(bytes(300_000))]),
      () => spool.swapOutMeta(id, { retries: 1 }),
      () => spool.swapOutMeta(id, { retries: 1 }, { force: false }),
      () => spool.context(id, 'conn').set('k', 'v'),
      () => spool.swapOutContent(id, Buffer.from('y')),
      () => spool.swapOutContent(id, large),
      () => spool.swapRemoveContent(id),
      () => spool.copy(id),
      () => spool.dispose(id, { type: 'transient_failure', note: '451 no' }),
    ]) {
      expect(await codeOf(change())).toBe('SPOOL_ERR_REFUSED')
    }
    refusing = false
    expect(await spool.meta(id)).toEqual(before)
    expect((await bodyOf(spool, id)).toString()).toBe('body')
    expect(await spool.stats()).toMatchObject({ messages: 1, bodies: 1, outbox: { records: 1 } })
    await large.discard()
    await expectSound(spool, path)
  })

  test('refuses with an error of its own choosing', async () => {
    const preSwapOutMeta = () => {
      throw new SpoolError('SPOOL_ERR_FULL', 'over quota')
    }
    const spool = await temporarySpool({ hooks: { preSwapOutMeta } })
    expect(await codeOf(spool.swapOut(message('x')))).toBe('SPOOL_ERR_FULL')
  })
})

test('postSwapInMeta runs after meta was read, and when that failed', async () => {
  const seen: [string, number | undefined, unknown][] = []
  const spool = await temporarySpool({
    hooks: { postSwapInMeta: (id, meta, error) => void seen.push([id, meta?.version, error]) },
  })
  const { ids } = await spool.swapOut(message('x'))
  await spool.meta(ids[0]!)
  ;(await spool.snapshot(ids[0]!)).body!.release()
  expect(await codeOf(spool.refetchMeta(UNKNOWN))).toBe('SPOOL_ERR_NOT_FOUND')
  expect(seen).toEqual([
    [ids[0], 1, null],
    [ids[0], 1, null],
    [UNKNOWN, undefined, expect.objectContaining({ code: 'SPOOL_ERR_NOT_FOUND' })],
  ])
})

test('swapOutMulti takes over, or leaves it to the spool', async () => {
  const result: SwapOutResult = { result: 'complete', ids: [UNKNOWN], size: 1, sha256: '' }
  const spool = await temporarySpool({
    hooks: {
      swapOutMulti: async (messages) => (messages.length === 2 ? [result, result] : null),
    },
  })
  expect(await spool.swapOutMulti([message('x'), message('y')])).toEqual([result, result])
  expect(await spool.stats()).toMatchObject({ messages: 0 })
  expect(await spool.swapOutMulti([message('x')])).toMatchObject([{ result: 'complete', size: 1 }])
  expect(await spool.stats()).toMatchObject({ messages: 1 })
})

test('blobjects stay with a message until it goes, or the spool closes', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  const spool = await temporarySpool({ path })
  const { ids } = await spool.swapOut(message('x', { rcptto: ['a@b.c', 'd@e.f'] }))
  const [a, b] = ids as [string, string]
  const object = { any: 'thing' }
  spool.blobjects(a).set('k', object)
  spool.blobjects(b).set('k', 1)
  expect(spool.blobjects(a).get('k')).toBe(object)
  const attached = spool.blobjects(b)
  await spool.swapRemove(b)
  expect(() => spool.blobjects(b)).toThrow('there is no message')
  expect(attached.get('k')).toBe(1)
  await spool.swapOutMeta(a, { retries: 1 })
  expect(spool.blobjects(a).size).toBe(1)
  await spool.close()
  const again = await temporarySpool({ path })
  expect(again.blobjects(a).size).toBe(0)
})
