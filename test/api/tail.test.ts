import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { type ClientRequest, get, type IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'
import { liveBytes } from '../support/memory.js'

interface Event {
  id: string
  data: string
}

interface Tail {
  request: ClientRequest
  response: IncomingMessage
  events: AsyncIterator<Event>
}

async function tail(url: string, query = '', headers: Record<string, string> = {}): Promise<Tail> {
  const request = get(`${url}/v1/journals/log/tail${query}`, { headers, agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  expect(response.headers['content-type']).toMatch(/^text\/event-stream/)
  const tail = { request, response, events: parse(response) }
  request.on('error', () => undefined)
  return tail
}

async function* parse(response: IncomingMessage): AsyncGenerator<Event> {
  let id = ''
  for await (const line of createInterface({ input: response })) {
    if (line.startsWith('id: ')) id = line.slice(4)
    if (line.startsWith('data: ')) {
      const { data } = JSON.parse(line.slice(6)) as { data: string }
      yield { id, data: Buffer.from(data, 'base64').toString() }
    }
  }
}

async function take(events: AsyncIterator<Event>, count: number): Promise<string[]> {
  const taken: string[] = []
  while (taken.length < count) taken.push(((await events.next()).value as Event).data)
  return taken
}

async function start(
  settings = {},
): Promise<{ api: TestApi; url: string; append(...records: string[]): Promise<unknown> }> {
  const api = await startApi()
  await api.journals.create('log', settings)
  const { url } = await api.listen()
  return { api, url, append: (...records) => api.journals.append('log', records) }
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => String(from + i))

describe('GET /v1/journals/{name}/tail', () => {
  it('follows from the begin, the end, an id, and Last-Event-ID', async () => {
    const { url, append } = await start({ unitLimit: 100 })
    await append('1', '2', '3')
    await append('4')
    const begin = await tail(url, '?from=begin')
    expect(await take(begin.events, 4)).toEqual(['1', '2', '3', '4'])
    const end = await tail(url)
    const id = await tail(url, '?from=00000000:00000002')
    expect(await take(id.events, 2)).toEqual(['3', '4'])
    const resumed = await tail(url, '?from=begin', { 'last-event-id': '00000000:00000003' })
    expect(await take(resumed.events, 1)).toEqual(['4'])
    await append('5', '6')
    for (const { events } of [begin, end, id, resumed])
      expect(await take(events, 2)).toEqual(['5', '6'])
  })

  it('refuses an id after the end, up to which nothing would come', async () => {
    const { api, append } = await start()
    await append('1', '2')
    for (const headers of [{}, { 'last-event-id': '00000000:00000003' }]) {
      const from = 'last-event-id' in headers ? 'begin' : '00000007:00000001'
      const url = `/v1/journals/log/tail?from=${from}`
      const refused = await api.app.inject({ url, headers })
      expect(refused.json()).toMatchObject({ status: 409, code: 'LOG_ID_AHEAD' })
    }
  })

  it('gives every record once and in order to each of many, whenever they came', {
    timeout: 60_000,
  }, async () => {
    const { url, append } = await start({ unitLimit: 5000 })
    const count = 3000
    const writing = (async () => {
      for (let i = 0; i < count; i += 10) await append(...numbers(i, i + 10))
    })()
    const readers = Array.from({ length: 8 }, async (_, i) => {
      if (i > 3) await writing.then(() => undefined)
      const { events } = await tail(url, '?from=begin')
      expect(await take(events, count)).toEqual(numbers(0, count))
    })
    await Promise.all([writing, ...readers])
  })

  it('lets a slow one neither lose anything nor make others wait', {
    timeout: 60_000,
  }, async () => {
    const { api, url, append } = await start()
    // Nothing reads its response until the end.
    const slow = await tail(url, '?from=begin')
    const fast = await tail(url, '?from=begin')
    const record = 'x'.repeat(10_000)
    const before = liveBytes()
    for (let i = 0; i < 3000; i++) {
      await append(`${i}${record}`)
      expect((await take(fast.events, 1))[0]).toBe(`${i}${record}`)
    }
    // 40 MB of events went by; what is held for the slow one is bounded.
    await expect.poll(() => liveBytes() - before).toBeLessThan(20 * 1024 * 1024)
    const received = await take(slow.events, 3000)
    expect(received.map((data) => Number.parseInt(data, 10))).toEqual(
      Array.from({ length: 3000 }, (_, i) => i),
    )
    await api.close()
  })

  it('leaks nothing when they go, and ends when the service does', async () => {
    const { api, url, append } = await start()
    await append('1')
    const descriptors = () => readdirSync('/proc/self/fd').length
    const before = descriptors()
    for (let i = 0; i < 20; i++) {
      const { request, events } = await tail(url, '?from=begin')
      await take(events, 1)
      request.destroy()
      await once(request, 'close')
    }
    await expect.poll(descriptors).toBeLessThanOrEqual(before + 2)
    const last = await tail(url, '?from=begin')
    expect(await take(last.events, 1)).toEqual(['1'])
    const closed = api.close()
    expect((await last.events.next()).done).toBe(true)
    await closed
  })

  it('refuses what is no journal and no id, and too many', async () => {
    const { api, url } = await start()
    expect((await fetch(`${url}/v1/journals/none/tail`)).status).toBe(404)
    expect((await fetch(`${url}/v1/journals/log/tail?from=x`)).status).toBe(400)
    expect(
      (await fetch(`${url}/v1/journals/log/tail`, { headers: { 'last-event-id': 'x' } })).status,
    ).toBe(400)
    for (let i = 0; i < 10; i++) await tail(url)
    expect((await fetch(`${url}/v1/journals/log/tail`)).status).toBe(429)
    await api.close()
  })
})
