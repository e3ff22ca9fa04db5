// Bodies taken in before their message: given up at every point they leave nothing; read while removed
// they stay whole.
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkSpool, openSpool, type StagedBody } from '../../spool/index.js'
import {
  bodyOf,
  bytes,
  codeOf,
  expectSound,
  message,
  pieces,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

const LARGE = 20_000
const BODY = bytes(700_000)

/** Gives BODY in pieces, and does something before the piece at `at`. */
async function* interrupted(at: number, act: () => void): AsyncGenerator<Uint8Array, void, void> {
  let n = 0
  for await (const piece of pieces(BODY, 50_000)) {
    if (n++ === at) act()
    yield piece
  }
}

describe('a body being taken in', () => {
  const points = Array.from({ length: 14 }, (_, i) => i)

  test.each(points)('leaves nothing when its source fails at piece %i', async (at) => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const broken = spool.stageBody(
      interrupted(at, () => {
        throw new Error('connection reset')
      }),
    )
    await expect(broken).rejects.toMatchObject({
      code: 'SPOOL_ERR_ABORTED',
      cause: { message: 'connection reset' },
    })
    await expectSound(spool, path)
  })

  test.each(points)('leaves nothing when it is given up at piece %i', async (at) => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const giveUp = new AbortController()
    const { signal } = giveUp
    const aborted = spool.stageBody(
      interrupted(at, () => giveUp.abort()),
      { signal },
    )
    expect(await codeOf(aborted)).toBe('SPOOL_ERR_ABORTED')
    await expectSound(spool, path)
  })

  test('is given up even while its source hangs', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const giveUp = new AbortController()
    let hanging: () => void = () => undefined
    const hangs = new Promise<void>((resolve) => {
      hanging = resolve
    })
    const source = (async function* () {
      yield BODY
      hanging()
      await new Promise(() => undefined)
    })()
    const aborted = spool.stageBody(source, { signal: giveUp.signal })
    await hangs
    giveUp.abort()
    expect(await codeOf(aborted)).toBe('SPOOL_ERR_ABORTED')
    expect(await codeOf(spool.stageBody(pieces(BODY, 100), { signal: giveUp.signal }))).toBe(
      'SPOOL_ERR_ABORTED',
    )
    await expectSound(spool, path)
  })

  test('leaves nothing when it is too large', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const large = spool.stageBody(pieces(BODY, 1000), { maxBytes: 600_000 })
    expect(await codeOf(large)).toBe('SPOOL_ERR_TOO_LARGE')
    await expectSound(spool, path)
  })
})

describe('a staged body', () => {
  test('discarded leaves nothing, and serves no message any more', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const large = await spool.stageBody(pieces(BODY, 9999))
    const small = await spool.stageBody(Buffer.from('small'))
    for (const staged of [large, small]) {
      await staged.discard()
      await staged.discard()
      expect(await codeOf(spool.swapOut({ ...message(''), body: staged }))).toBe(
        'SPOOL_ERR_INVALID',
      )
    }
    await expectSound(spool, path)
  })

  test('in a message is not discarded', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const staged = await spool.stageBody(pieces(BODY, 9999))
    const storing = spool.swapOut({ ...message(''), body: staged })
    await staged.discard()
    const { ids } = await storing
    await staged.discard()
    expect((await bodyOf(spool, ids[0] as string)).equals(BODY)).toBe(true)
    await expectSound(spool, path)
  })

  test('left behind by a restart is swept by the next open', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const staged: StagedBody[] = []
    for (let i = 0; i < 3; i++) staged.push(await spool.stageBody(pieces(BODY, 9999)))
    const { ids } = await spool.swapOut({ ...message(''), body: staged[1] as StagedBody })
    await spool.close()
    expect((await checkSpool(path)).staged).toBe(2)
    const again = await temporarySpool({ path })
    // The sweep goes through the same queue, in order: two bodies of one slice each, then this.
    await again.swapOut(message('after the sweep'))
    expect((await bodyOf(again, ids[0] as string)).equals(BODY)).toBe(true)
    await expectSound(again, path)
  })

  test('of another spool is refused', async () => {
    const spool = await temporarySpool()
    const other = await temporarySpool()
    const staged = await other.stageBody(Buffer.from('x'))
    expect(await codeOf(spool.swapOut({ ...message(''), body: staged }))).toBe('SPOOL_ERR_INVALID')
  })
})

describe('a body being read', () => {
  test('stays whole when its message is removed, and goes when its last reader has ended', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const { ids } = await spool.swapOut(message(BODY))
    const readers = await Promise.all([1, 2, 3].map(() => spool.swapIn(ids[0] as string)))
    const small = await spool.swapIn(ids[0] as string, { start: 5, end: 10 })
    const first = readers[0]!.stream[Symbol.asyncIterator]()
    const hashing = createHash('sha256')
    const { value } = await first.next()
    hashing.update(value as Uint8Array)
    await spool.swapRemove(ids[0] as string)
    expect(await codeOf(spool.swapIn(ids[0] as string))).toBe('SPOOL_ERR_NOT_FOUND')
    // Others reuse whatever space was freed.
    for (let i = 0; i < 5; i++) await spool.swapOut(message(bytes(700_000, i + 7)))
    for (;;) {
      const next = await first.next()
      if (next.done === true) break
      hashing.update(next.value)
    }
    expect(hashing.digest('hex')).toBe(readers[0]!.sha256)
    expect((await small.buffer()).equals(BODY.subarray(5, 10))).toBe(true)
    expect((await readers[1]!.buffer()).equals(BODY)).toBe(true)
    for await (const _ of readers[2]!.stream) break
    await spool.swapOut(message('after the removal'))
    await expectSound(spool, path)
  })

  test('and let go of is not held', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path, largeMessageThreshold: LARGE })
    const { ids } = await spool.swapOut(message(BODY))
    const reader = await spool.swapIn(ids[0] as string)
    await spool.swapRemove(ids[0] as string)
    reader.release()
    reader.release()
    expect(await codeOf(reader.buffer())).toBe('SPOOL_ERR_INVALID')
    await spool.swapOut(message('after the removal'))
    await expectSound(spool, path)
  })

  test('while the spool closes ends with an error, not with half of it', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await openSpool({ path, largeMessageThreshold: LARGE })
    const { ids } = await spool.swapOut(message(BODY))
    const iterator = (await spool.swapIn(ids[0] as string)).stream[Symbol.asyncIterator]()
    await iterator.next()
    await spool.close()
    expect(await codeOf(iterator.next())).toBe('SPOOL_ERR_CLOSED')
  })
})
