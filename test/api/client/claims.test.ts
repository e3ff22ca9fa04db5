// Due messages by `for await` and by `work`, against the service: leased while worked on, released when left.
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { BobbinClient, type ClaimedMessage, type ClientOptions } from '../../../api/client/index.js'
import { startApi, type TestApi } from '../../support/api.js'
import { type FaultyProxy, startProxy } from '../../support/proxy.js'

const QUICK = { attempts: 4, delay: 1, maxDelay: 5 }

interface Setup {
  api: TestApi
  proxy: FaultyProxy
  client: BobbinClient
  direct: BobbinClient
  store(count: number): Promise<string[]>
}

async function start(options: ClientOptions = {}): Promise<Setup> {
  const api = await startApi()
  const { url } = await api.listen()
  const proxy = await startProxy(url)
  const direct = new BobbinClient(url)
  const store = async (count: number) => {
    const rcptto = Array.from({ length: count }, (_, i) => `r${i}@example.net`)
    return (await direct.inject({ mailfrom: '', rcptto, body: Buffer.from('x') })).ids
  }
  return {
    api,
    proxy,
    client: new BobbinClient(proxy.url, { retry: QUICK, ...options }),
    direct,
    store,
  }
}

const deliver = (client: BobbinClient, { id, lease }: ClaimedMessage) =>
  client.report(id, { type: 'delivery', lease })

describe('claims', () => {
  it('gives due messages in order, waits for more, and ends with the signal', async () => {
    const { client, direct, store } = await start()
    const stop = new AbortController()
    const ids = await store(5)
    const seen: string[] = []
    for await (const message of client.claims({ limit: 2, poll: 5, signal: stop.signal })) {
      seen.push(message.id)
      await deliver(client, message)
      if (seen.length === 5) setTimeout(async () => ids.push(...(await store(2))), 10)
      if (seen.length === 7) stop.abort()
    }
    expect(seen).toEqual(ids)
    expect(await direct.spool()).toMatchObject({ messages: 0 })
  })

  it.each(['break', 'throw'])('releases what was not reported on by %s', async (how) => {
    const { client, direct, store } = await start()
    const ids = await store(4)
    const failure = new Error('enough')
    const loop = async () => {
      for await (const message of client.claims()) {
        if (message.id === ids[0]) await deliver(client, message)
        else if (how === 'throw') throw failure
        else break
      }
    }
    if (how === 'throw') await expect(loop()).rejects.toBe(failure)
    else await loop()
    const { messages } = await direct.claim()
    expect(messages.map(({ id }) => id)).toEqual(ids.slice(1))
  })

  it('holds a message for longer than its lease', async () => {
    const { client, direct, proxy, store } = await start()
    const [id] = await store(1)
    for await (const message of client.claims({ lease_seconds: 1.8 })) {
      // At a third of the lease each.
      const extended = () =>
        proxy.requests.filter(({ method, status }) => method === 'PATCH' && status === 200).length
      await vi.waitFor(() => expect(extended()).toBe(4), 20_000)
      expect(await direct.claim()).toMatchObject({ messages: [] })
      expect(await deliver(client, message)).toMatchObject({ outcome: 'removed' })
      expect(message.id).toBe(id)
      break
    }
  })

  it('drops what it has lost', async () => {
    const { client, direct, proxy, store } = await start()
    const ids = await store(3)
    const seen: string[] = []
    for await (const message of client.claims({ lease_seconds: 3, poll: 5 })) {
      seen.push(message.id)
      if (seen.length > 1) break
      // As if its lease had run out while this process slept.
      await direct.releaseClaim(message.lease)
      const other = await direct.claim({ limit: 2 })
      expect(other.messages.map(({ id }) => id)).toEqual(ids.slice(0, 2))
      const wasTold = () => proxy.requests.some(({ status }) => status === 404)
      await vi.waitFor(() => expect(wasTold()).toBe(true), 10_000)
      // The answer has been sent: it is read before those to what is asked now.
      for (let i = 0; i < 5; i++) await direct.spool()
    }
    expect(seen).toEqual([ids[0], ids[2]])
  })

  it('goes on when the service comes back, and ends with what is no passing trouble', async () => {
    const told: string[] = []
    const { client, proxy, store } = await start({ onRetry: ({ code }) => told.push(code) })
    await store(2)
    proxy.faults.push('cut', { status: 503 }, { status: 502 })
    let seen = 0
    for await (const message of client.claims({ limit: 1, poll: 1 })) {
      await deliver(client, message)
      if (++seen === 2) break
    }
    expect(told).toEqual(['UNREACHABLE', 'HTTP_503', 'HTTP_502'])
    proxy.faults.push({ status: 403 })
    const loop = async () => {
      for await (const _message of client.claims()) expect.unreachable()
    }
    await expect(loop()).rejects.toMatchObject({ status: 403 })
  })
})

describe('work', () => {
  it('does so many at once, each message once', async () => {
    const { client, direct, store } = await start()
    const ids = await store(40)
    const stop = new AbortController()
    const seen: string[] = []
    let now = 0
    let most = 0
    await client.work({ concurrency: 4, signal: stop.signal, poll: 5 }, async (message) => {
      most = Math.max(most, ++now)
      await delay(Math.random() * 5)
      await deliver(client, message)
      now--
      seen.push(message.id)
      if (seen.length === ids.length) stop.abort()
    })
    expect(seen.sort()).toEqual(ids)
    expect(most).toBe(4)
    expect(await direct.spool()).toMatchObject({ messages: 0 })
  })

  it('finishes what is in hand and releases the rest when it is stopped', async () => {
    const { client, direct, store } = await start()
    await store(20)
    const stop = new AbortController()
    let done = 0
    await client.work({ concurrency: 3, limit: 10, signal: stop.signal }, async (message) => {
      stop.abort()
      await delay(20)
      await deliver(client, message)
      done++
    })
    expect(done).toBe(3)
    expect((await direct.claim()).messages).toHaveLength(17)
  })

  it('ends with the first failure, after the others have finished', async () => {
    const { client, direct, store } = await start()
    const ids = await store(10)
    let done = 0
    const working = client.work({ concurrency: 2 }, async (message) => {
      if (message.id === ids[0]) throw new Error('broken')
      await delay(20)
      await deliver(client, message)
      done++
    })
    await expect(working).rejects.toThrow('broken')
    expect(done).toBe(1)
    expect((await direct.claim()).messages).toHaveLength(9)
  })

  it('tells work that its lease is lost', async () => {
    const { client, direct, store } = await start()
    await store(1)
    const stop = new AbortController()
    await client.work({ lease_seconds: 2, signal: stop.signal }, async ({ lease }, { signal }) => {
      await direct.releaseClaim(lease)
      await expect(delay(25_000, undefined, { signal })).rejects.toThrow()
      expect(signal.reason).toMatchObject({ status: 404 })
      stop.abort()
    })
  })
})
