// Compressed bodies: read back byte for byte however they came and whatever the settings say now; what is
// damaged is an error and goes to quarantine; what does not get smaller is stored as it is.
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { packChunk, unpackAny, unpackChunk } from '../../spool/chunk-codec.js'
import { checkSpool, repairSpool, type Spool, type SpoolOptions } from '../../spool/index.js'
import { STATE_FORMAT, unpack } from '../../spool/layout.js'
import { Store } from '../../spool/store.js'
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
  text,
} from './support.js'

const ON: Partial<SpoolOptions> = { compression: 'deflate' }

async function newPath(): Promise<string> {
  return join(await temporaryDirectory(), 'spool')
}

async function withStore<T>(path: string, work: (store: Store) => T | Promise<T>): Promise<T> {
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

function rowsOf(path: string): Promise<{ key: Buffer; value: Buffer }[]> {
  return withStore(path, (store) =>
    [...store.db('chunks').getRange({})].map(({ key, value }) => ({
      key: Buffer.from(key),
      value,
    })),
  )
}

const MIXED = Buffer.concat([text(30_000), bytes(40_000), text(50_000, 2)])

const BODIES: [string, Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['a few bytes', text(100)],
  ['a byte below the minimum', text(4095)],
  ['the minimum', text(4096)],
  ['a chunk', text(16_000)],
  ['a chunk and a byte', text(16_001)],
  ['four chunks, which are packed at once', text(64_000)],
  ['more, which are packed apart', text(64_001)],
  ['a large body', text(700_123)],
  ['what cannot be packed', bytes(100_000)],
  ['what can in part', MIXED],
  ['zeros', Buffer.alloc(500_000)],
]

describe('what comes back is what was stored', () => {
  test.each(BODIES)('%s', async (_, body) => {
    const path = await newPath()
    const spool = await temporarySpool({ path, ...ON })
    const staged = () => spool.stageBody(pieces(body, 7000))
    const ids = [
      (await spool.swapOut(message(body))).ids[0] as string,
      (await spool.swapOut(message(body, { body: await spool.stageBody(body) }))).ids[0] as string,
      (await spool.swapOut(message(body, { body: await staged() }))).ids[0] as string,
    ]
    const replaced = await spool.swapOut(message('another'))
    await spool.swapOutContent(replaced.ids[0] as string, await staged())
    ids.push(replaced.ids[0] as string, (await spool.copy(ids[0] as string)).ids[0] as string)
    for (const id of ids) {
      expect((await bodyOf(spool, id)).equals(body)).toBe(true)
      expect((await spool.meta(id)).sha256).toBe(sha256(body))
      const streamed: Uint8Array[] = []
      for await (const piece of (await spool.swapIn(id)).stream) streamed.push(piece)
      expect(Buffer.concat(streamed).equals(body)).toBe(true)
    }
    expect(await spool.stats()).toMatchObject({ bodies: 5, bytes: 5 * body.length })
    await expectSound(spool, path)
  })

  test('any range of it', async () => {
    const spool = await temporarySpool({ ...ON })
    const { ids } = await spool.swapOut(message(MIXED))
    const place = fc.integer({ min: 0, max: MIXED.length })
    await fc.assert(
      fc.asyncProperty(place, place, async (a, b) => {
        const [start, end] = a < b ? [a, b] : [b, a]
        const read = await (await spool.swapIn(ids[0] as string, { start, end })).buffer()
        return read.equals(MIXED.subarray(start, end))
      }),
    )
  })

  test('header and structure', async () => {
    const spool = await temporarySpool({ ...ON })
    const header = 'Subject: x\r\nContent-Type: text/plain'
    const body = Buffer.concat([Buffer.from(`${header}\r\n\r\n`), text(300_000)])
    const { ids } = await spool.swapOut(message(body))
    const read = await (await spool.swapInHeaders(ids[0] as string)).buffer()
    expect(read.toString()).toBe(`${header}\r\n`)
    const { root } = await spool.swapInStructure(ids[0] as string)
    expect(root).toMatchObject({ type: 'text/plain', length: 300_000 })
  })
})

describe('what lies in the store', () => {
  test('is smaller when that pays, as it is when it does not or is below the minimum', async () => {
    const path = await newPath()
    const spool = await temporarySpool({ path, ...ON, compressionMinSize: 5000 })
    await spool.swapOut(message(text(16_000)))
    await spool.swapOut(message(bytes(16_000)))
    await spool.swapOut(message(text(4999)))
    await spool.close()
    const [packed, random, small] = (await rowsOf(path)).map(({ value }) => value)
    expect(packed?.length).toBeLessThan(8000)
    expect(random?.equals(bytes(16_000))).toBe(true)
    expect(small?.equals(text(4999))).toBe(true)
  })

  test('stays readable with compression switched off, and on again', async () => {
    const path = await newPath()
    const ids: string[] = []
    const body = text(200_000)
    for (const compression of ['none', 'deflate', 'none', 'deflate'] as const) {
      const spool = await temporarySpool({ path, compression })
      ids.push(...(await spool.swapOut(message(body))).ids)
      for (const id of ids) expect((await bodyOf(spool, id)).equals(body)).toBe(true)
      await expectSound(spool, path)
    }
    const sizes = new Map<string, number>()
    for (const { key, value } of await rowsOf(path)) {
      const of = key.toString('hex', 0, 16)
      sizes.set(of, (sizes.get(of) ?? 0) + value.length)
    }
    const [off, on, offAgain, onAgain] = [...sizes.values()]
    expect([off, offAgain]).toEqual([200_000, 200_000])
    expect(on).toBeLessThan(100_000)
    expect(onAgain).toBe(on)
  })

  test('has the format that says so once something may be packed, and not before', async () => {
    const path = await newPath()
    const formats: unknown[] = []
    await (await temporarySpool({ path })).close()
    await withStore(path, (store) =>
      store.write(() => void store.db('state').put(STATE_FORMAT, Buffer.from([2]))),
    )
    for (const compression of ['none', 'deflate', 'none'] as const) {
      const spool = await temporarySpool({ path, compression })
      await spool.close()
      formats.push(await withStore(path, (store) => unpack(store.db('state').get(STATE_FORMAT)!)))
    }
    expect(formats).toEqual([2, 3, 3])
  })

  test.each([{ compression: 'lzma' as 'none' }, { compressionMinSize: -1 }])(
    'a setting that is none is refused: %j',
    async (options) => {
      const opening = temporarySpool({ path: await newPath(), ...options })
      expect(await codeOf(opening)).toBe('SPOOL_ERR_INVALID')
    },
  )
})

describe('damage', () => {
  /** A packed body of six chunks, whose second is changed. */
  async function damaged(
    change: (row: Buffer) => Buffer,
  ): Promise<{ path: string; ids: string[]; body: Buffer; row: Buffer }> {
    const path = await newPath()
    const body = text(90_000)
    const spool = await temporarySpool({ path, ...ON })
    const { ids } = await spool.swapOut(message(body, { rcptto: ['a@b', 'c@d'] }))
    await spool.close()
    const { key, value } = (await rowsOf(path))[1] as { key: Buffer; value: Buffer }
    const row = change(Buffer.from(value))
    await withStore(path, (store) => store.write(() => void store.db('chunks').put(key, row)))
    return { path, ids, body, row }
  }

  const CHANGES: [string, (row: Buffer) => Buffer][] = [
    ['a bit', (row) => row.fill((row[3000] as number) ^ 4, 3000, 3001)],
    ['the end cut off', (row) => row.subarray(0, 3000)],
    ['nothing but the codec', (row) => row.subarray(0, 2)],
    ['a bomb', () => Buffer.concat([Buffer.from([1]), deflateSync(Buffer.alloc(8_000_000))])],
    ['too few bytes', () => Buffer.concat([Buffer.from([1]), deflateSync(Buffer.alloc(15_999))])],
  ]

  test.each(CHANGES)('%s: an error, and the message goes to quarantine', async (_, change) => {
    const { path, ids, body, row } = await damaged(change)
    expect(await checkSpool(path)).toMatchObject({ counts: { 'body-chunk-undecodable': 1 } })
    const spool = await temporarySpool({ path })
    expect(await codeOf(bodyOf(spool, ids[0] as string))).toBe('SPOOL_ERR_CORRUPT')
    await spool.upkeep.idle()
    expect(await codeOf(spool.meta(ids[0] as string))).toBe('SPOOL_ERR_NOT_FOUND')
    await expectKept(spool, [ids[0] as string], body, row)
  })

  test.each(CHANGES)('%s: repair keeps each piece of it', async (_, change) => {
    const { path, ids, body, row } = await damaged(change)
    expect((await repairSpool(path)).after).toMatchObject({ found: 0 })
    await expectKept(await temporarySpool({ path }), ids, body, row)
  })

  async function expectKept(spool: Spool, ids: string[], body: Buffer, row: Buffer): Promise<void> {
    const { quarantine } = spool.upkeep
    const { entries } = await quarantine.list()
    const messages = entries.filter(({ kind }) => kind === 'message')
    expect(messages.map(({ meta }) => meta?.id)).toEqual(ids)
    for (const { name, bodyParts } of messages) {
      expect(bodyParts).toEqual([
        { at: 0, fileAt: 0, length: 16_000 },
        { at: 32_000, fileAt: 16_000, length: 58_000 },
      ])
      const rest = Buffer.concat([body.subarray(0, 16_000), body.subarray(32_000)])
      expect((await contentOf(spool, name)).equals(rest)).toBe(true)
    }
    const rows = entries.filter(({ kind }) => kind === 'row')
    expect(rows).toHaveLength(1)
    expect((await contentOf(spool, rows[0]?.name as string)).equals(row)).toBe(true)
  }

  test('a body that no message has is kept as it was before it was packed', async () => {
    const path = await newPath()
    const spool = await temporarySpool({ path, ...ON })
    await spool.swapOut(message(text(90_000)))
    await spool.close()
    await withStore(path, (store) => store.write(() => void store.db('messages').clearAsync()))
    expect((await repairSpool(path)).after).toMatchObject({ found: 0 })
    const repaired = await temporarySpool({ path })
    const { entries } = await repaired.upkeep.quarantine.list()
    expect(entries.map(({ kind }) => kind)).toEqual(['body'])
    const kept = await contentOf(repaired, entries[0]?.name as string)
    expect(kept.equals(text(90_000))).toBe(true)
  })

  test('a file that is salvaged has them still, and quarantine releases them', async () => {
    const path = await newPath()
    const spool = await temporarySpool({ path, ...ON })
    const body = text(300_000)
    const { ids } = await spool.swapOut(message(body))
    await spool.upkeep.take(ids[0] as string, 'a test')
    const { entries } = await spool.upkeep.quarantine.list()
    const released = await spool.upkeep.release(entries[0]?.name as string)
    await spool.close()
    expect((await repairSpool(path, { salvage: true })).after).toMatchObject({ found: 0 })
    const repaired = await temporarySpool({ path })
    expect((await bodyOf(repaired, released)).equals(body)).toBe(true)
  })

  async function contentOf(spool: Spool, name: string): Promise<Buffer> {
    const parts: Uint8Array[] = []
    for await (const part of await spool.upkeep.quarantine.content(name)) parts.push(part)
    return Buffer.concat(parts)
  }
})

describe('a row', () => {
  const chunks = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 16_000 }),
    fc.integer({ min: 1, max: 16_000 }).map((size) => text(size)),
  )

  test('is never longer than its chunk, and unpacks to it', () => {
    fc.assert(
      fc.property(chunks, (chunk) => {
        const row = packChunk(chunk)
        const isSame = Buffer.from(chunk).equals(unpackChunk(row, chunk.length) as Uint8Array)
        return isSame && row.length <= chunk.length
      }),
    )
  })

  test('whatever its bytes are gives no more than a chunk, and no exception', () => {
    const rows = fc.uint8Array({ maxLength: 16_100 })
    const packed = rows.map((row) => Buffer.concat([Buffer.from([1]), deflateSync(row)]))
    fc.assert(
      fc.property(fc.oneof(rows, packed), fc.integer({ min: 0, max: 16_000 }), (row, length) => {
        const chunk = unpackChunk(row, length)
        expect(chunk === undefined || chunk.length === length).toBe(true)
        expect(unpackAny(row.subarray(0, 16_000))?.length ?? 0).toBeLessThanOrEqual(16_000)
      }),
    )
  })
})
