// Several subscribers of a journal over HTTP, at their own speeds: each gets each record once and in order, none makes the
// others wait or the process grow, and those that go leave nothing behind.
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { unpack } from 'msgpackr'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'
import { liveBytes } from '../support/memory.js'

interface Wire {
  id: string
  data: string | Uint8Array
}

async function start(settings = {}, limits = {}): Promise<{ api: TestApi; url: string }> {
  const api = await startApi(limits)
  await api.journals.create('log', settings)
  const { url } = await api.listen()
  return { api, url: `${url}/v1/journals/log` }
}

async function subscribe(url: string, name: string): Promise<void> {
  const response = await fetch(`${url}/subscribers/${name}`, { method: 'PUT' })
  expect(response.status).toBe(201)
}

async function read(url: string, name: string, query: string, accept: string): Promise<Wire[]> {
  const response = await fetch(`${url}/subscribers/${name}/records?${query}`, {
    headers: { accept },
  })
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toBe(accept)
  const bytes = Buffer.from(await response.arrayBuffer())
  if (accept === 'application/msgpack') return bytes.length === 0 ? [] : (unpack(bytes) as Wire[])
  const lines = bytes.toString().split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line) as Wire)
}

async function checkpoint(url: string, name: string, id: string): Promise<void> {
  const response = await fetch(`${url}/subscribers/${name}/checkpoint`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ id }),
  })
  expect(response.status).toBe(200)
}

const textOf = ({ data }: Wire) =>
  Buffer.from(data as string, typeof data === 'string' ? 'base64' : undefined).toString()

describe('subscribers', () => {
  it('at different speeds each get everything, once and in order', {
    timeout: 60_000,
  }, async () => {
    const { api, url } = await start({ unitLimit: 2000 })
    const total = 1200
    const readers = [
      { name: 'fast', limit: 400, rest: 0, accept: 'application/x-ndjson' },
      { name: 'packed', limit: 150, rest: 1, accept: 'application/msgpack' },
      { name: 'slow', limit: 40, rest: 3, accept: 'application/x-ndjson' },
    ]
    for (const { name } of readers) await subscribe(url, name)
    const writing = (async () => {
      for (let i = 0; i < total; i += 8) {
        const batch = Array.from({ length: 8 }, (_, n) => `record ${i + n}`)
        await api.journals.append('log', batch)
      }
    })()
    const finished: string[] = []
    await Promise.all([
      writing,
      ...readers.map(async ({ name, limit, rest, accept }) => {
        const seen: string[] = []
        while (seen.length < total) {
          const records = await read(url, name, `limit=${limit}&wait=10`, accept)
          expect(records.length).toBeLessThanOrEqual(limit)
          // Now and then without a checkpoint: the same comes again.
          if (Math.random() < 0.1) continue
          seen.push(...records.map(textOf))
          const last = records.at(-1)
          if (last !== undefined) await checkpoint(url, name, last.id)
          await delay(rest)
        }
        expect(seen).toEqual(Array.from({ length: total }, (_, i) => `record ${i}`))
        finished.push(name)
      }),
    ])
    expect(finished).toContain('slow')
    // What all have read is gone.
    const info = (await (await fetch(url)).json()) as { segments: unknown[] }
    expect(info.segments.length).toBeLessThanOrEqual(2)
  })

  it('that do not take what they asked for hold little, and nobody up', {
    timeout: 60_000,
  }, async () => {
    const { api, url } = await start({}, { maxTails: 100 })
    const record = Buffer.alloc(10_000, 'x')
    for (let i = 0; i < 10; i++) await api.journals.append('log', Array(50).fill(record))
    await subscribe(url, 's')
    const ask = async () => {
      const request = get(`${url}/subscribers/s/records?limit=10000`, { agent: false })
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      // Its head is read, and no more than fits the buffers on the way.
      response.on('error', () => undefined)
      request.on('error', () => undefined)
      return { request, response }
    }
    const first = await ask()
    const before = liveBytes()
    const idle = await Promise.all(Array.from({ length: 40 }, ask))
    await delay(500)
    // Each was to be sent 4 MiB, 6 MiB as JSON; both ends of the connections are in this process.
    await expect.poll(() => liveBytes() - before).toBeLessThan(80 * 1024 * 1024)
    for (const { request } of idle.slice(1)) request.destroy()
    expect(await read(url, 's', 'limit=3', 'application/x-ndjson')).toHaveLength(3)
    // One of them takes it after all, and it is whole.
    const lines = (await first.response.toArray()).join('').trimEnd().split('\n')
    expect(lines.length).toBeGreaterThan(400)
    expect(lines.map((line) => (JSON.parse(line) as { size: number }).size)).toEqual(
      Array(lines.length).fill(10_000),
    )
    idle[0]?.request.destroy()
    await api.close()
  })

  it('that go leave no file, timer or place behind', async () => {
    const { api, url } = await start({}, { maxTails: 8 })
    await api.journals.append('log', Array(400).fill(Buffer.alloc(10_000, 'x')))
    await subscribe(url, 'reads')
    await fetch(`${url}/subscribers/waits?whence=end`, { method: 'PUT' })
    const descriptors = () => readdirSync('/proc/self/fd').length
    const timers = () =>
      process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = { descriptors: descriptors(), timers: timers() }
    for (let round = 0; round < 5; round++) {
      const gone = Array.from({ length: 8 }, async (_, i) => {
        const query = i < 4 ? 'reads/records?limit=10000' : 'waits/records?wait=300'
        const request = get(`${url}/subscribers/${query}`, { agent: false })
        request.on('error', () => undefined)
        if (i < 4) await once(request, 'response')
        else await delay(30)
        const closed = new Promise((resolve) => request.once('close', resolve))
        request.destroy()
        await closed
      })
      await Promise.all(gone)
    }
    await expect.poll(descriptors).toBeLessThanOrEqual(before.descriptors + 2)
    await expect.poll(timers).toBeLessThanOrEqual(before.timers + 2)
    // Eight may wait at once, and all eight places are free again, the last ones a moment later.
    const free = async () => {
      const asked = Array.from({ length: 8 }, () =>
        fetch(`${url}/subscribers/waits/records?wait=0.2`),
      )
      return (await Promise.all(asked)).filter(({ status }) => status === 200).length
    }
    await expect.poll(free).toBe(8)
    const waiting = Array.from({ length: 8 }, () =>
      read(url, 'waits', 'wait=30', 'application/x-ndjson'),
    )
    await delay(50)
    await api.journals.append('log', ['for all'])
    for (const records of await Promise.all(waiting))
      expect(records.map(textOf)).toEqual(['for all'])
    await expect.poll(timers).toBeLessThanOrEqual(before.timers + 2)
  })

  it('prefer a type by Accept', async () => {
    const { api, url } = await start()
    await api.journals.append('log', ['x'])
    await subscribe(url, 's')
    for (const [accept, type] of [
      ['*/*', 'application/x-ndjson'],
      ['application/msgpack', 'application/msgpack'],
      ['application/x-msgpack', 'application/msgpack'],
      ['application/msgpack;q=0.5, application/x-ndjson', 'application/x-ndjson'],
      ['text/html', 'application/x-ndjson'],
    ] as const) {
      const response = await fetch(`${url}/subscribers/s/records`, { headers: { accept } })
      expect(response.headers.get('content-type'), accept).toBe(type)
      await response.arrayBuffer()
    }
  })

  it('asked for by HEAD are answered at once', async () => {
    const { url } = await start()
    for (const path of ['/tail', '/tail?from=begin']) {
      const response = await fetch(url + path, { method: 'HEAD' })
      expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
      expect(await response.text()).toBe('')
    }
    await subscribe(url, 's')
    expect((await fetch(`${url}/subscribers/s/records`, { method: 'HEAD' })).status).toBe(200)
  })
})
