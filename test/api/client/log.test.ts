// Log records by `for await`, against the service: none missed, none doubled but the one in hand, over broken connections.
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { BobbinClient, type ClientOptions } from '../../../api/client/index.js'
import { linesOf } from '../../../api/client/log-record.js'
import { startApi } from '../../support/api.js'
import { type FaultyProxy, startProxy } from '../../support/proxy.js'

const QUICK = { attempts: 4, delay: 1, maxDelay: 5 }

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => String(from + i))

async function start(options: ClientOptions = {}): Promise<{
  proxy: FaultyProxy
  client: BobbinClient
  direct: BobbinClient
  checkpoint(): Promise<string>
}> {
  const api = await startApi()
  const { url } = await api.listen()
  const proxy = await startProxy(url)
  const direct = new BobbinClient(url)
  await direct.journals.create('log', { segment_size: 200 })
  await direct.journals.addSubscriber('log', 'sub')
  const checkpoint = async () => (await direct.journals.subscribers('log'))[0]!.checkpoint
  return {
    proxy,
    client: new BobbinClient(proxy.url, { retry: QUICK, ...options }),
    direct,
    checkpoint,
  }
}

describe('records', () => {
  it('gives every record in order and moves the checkpoint past what was taken', async () => {
    const { client, direct, checkpoint } = await start()
    await direct.journals.append('log', numbers(0, 25))
    const seen: string[] = []
    const stop = new AbortController()
    for await (const record of client.records('log', 'sub', { limit: 10, signal: stop.signal })) {
      seen.push(record.text())
      if (seen.length === 11) expect(await checkpoint()).not.toBe('00000000:00000000')
      if (seen.length === 25) setTimeout(() => direct.journals.append('log', numbers(25, 30)), 10)
      if (seen.length === 30) stop.abort()
    }
    expect(seen).toEqual(numbers(0, 30))
    expect(await direct.journals.subscribers('log')).toMatchObject([{ lag_records: 0 }])
  })

  it('gives what was in hand again after a break, and nothing else', async () => {
    const { client, direct } = await start()
    await direct.journals.append('log', numbers(0, 10))
    const seen: string[] = []
    for (const stopAt of ['3', '3', '7', '9']) {
      for await (const record of client.records('log', 'sub')) {
        seen.push(record.text())
        if (record.text() === stopAt) break
      }
    }
    expect(seen).toEqual([...numbers(0, 4), '3', ...numbers(3, 8), ...numbers(7, 10)])
  })

  it('moves the checkpoint in time also within an answer', async () => {
    const { client, direct, checkpoint } = await start()
    await direct.journals.append('log', numbers(0, 3))
    let last = ''
    for await (const record of client.records('log', 'sub', { checkpointEvery: 0 })) {
      if (last !== '') expect(await checkpoint()).toBe(last)
      last = record.id
      if (record.text() === '2') break
    }
  })

  it('goes on over broken connections, lost answers and refusals', async () => {
    const { client, proxy, direct } = await start()
    await direct.journals.append('log', numbers(0, 60))
    const seen: string[] = []
    for await (const record of client.records('log', 'sub', { limit: 10 })) {
      seen.push(record.text())
      // Over reading and over moving the checkpoint, by turns.
      if (seen.length % 10 === 3)
        proxy.faults.push('lose the answer', 'cut', null, { cutAfter: 100 }, { status: 503 })
      if (seen.length === 60) break
    }
    expect(seen).toEqual(numbers(0, 60))
  })

  it('ends with what is no passing trouble', async () => {
    const { client } = await start()
    const loop = async () => {
      for await (const _record of client.records('log', 'nobody')) expect.unreachable()
    }
    await expect(loop()).rejects.toMatchObject({ code: 'JLOG_ERR_INVALID_SUBSCRIBER' })
  })
})

describe('tail', () => {
  it('follows from the begin, the end and an id', async () => {
    const { client, proxy, direct } = await start()
    const { first } = await direct.journals.append('log', numbers(0, 5))
    const collect = async (from: string | undefined, count: number) => {
      const seen: string[] = []
      for await (const record of client.tail('log', { from })) {
        if (seen.push(record.text()) === count) break
      }
      return seen
    }
    expect(await collect('begin', 5)).toEqual(numbers(0, 5))
    expect(await collect(first, 4)).toEqual(numbers(1, 5))
    const before = proxy.requests.length
    const end = client.tail('log')
    const next = end.next()
    // The stream is asked for only when the end is known: what is written from now on comes.
    await vi.waitFor(() => expect(proxy.requests.length).toBe(before + 2))
    await direct.journals.append('log', ['later'])
    expect((await next).value?.text()).toBe('later')
    await end.return()
  })

  it('resumes after a broken connection where it stood, from an empty journal, too', async () => {
    const { client, proxy, direct } = await start()
    const seen: string[] = []
    proxy.faults.push({ cutAfter: 12 }, ...Array.from({ length: 30 }, () => ({ cutAfter: 700 })))
    const writing = (async () => {
      for (let i = 0; i < 200; i += 5) await direct.journals.append('log', numbers(i, i + 5))
    })()
    for await (const record of client.tail('log', { from: 'begin' })) {
      if (seen.push(record.text()) === 200) break
    }
    await writing
    expect(seen).toEqual(numbers(0, 200))
    expect(proxy.requests.length).toBeGreaterThan(10)
    expect(proxy.requests.at(-1)!.headers).toHaveProperty('last-event-id')
  })

  it('ends with the signal, and with what is no passing trouble', async () => {
    const { client } = await start()
    const stop = new AbortController()
    const tail = client.tail('log', { signal: stop.signal })
    const next = tail.next()
    setTimeout(() => stop.abort(), 50)
    expect(await next).toMatchObject({ done: true })
    const loop = async () => {
      for await (const _record of client.tail('nothing')) expect.unreachable()
    }
    await expect(loop()).rejects.toMatchObject({ status: 404 })
  })
})

it('finds lines wherever the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'grapheme' }).map((line) => line.replaceAll(/[\r\n]/g, ''))),
      fc.constantFrom('\n', '\r\n'),
      fc.integer({ min: 1, max: 7 }),
      async (lines, end, size) => {
        const bytes = Buffer.from(lines.map((line) => line + end).join(''))
        async function* cut() {
          for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
        }
        const found: string[] = []
        for await (const line of linesOf(cut())) found.push(line)
        expect(found).toEqual(lines)
      },
    ),
    { numRuns: 100 },
  )
})
