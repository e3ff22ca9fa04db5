// The client against the service behind a network that fails: what is tried again, what is not, and that nothing doubles.
import { randomBytes } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { BobbinClient, ClientError, type ClientOptions } from '../../../api/client/index.js'
import { Backoff, parseRetryAfter } from '../../../api/client/retry.js'
import { startApi, type TestApi } from '../../support/api.js'
import { type FaultyProxy, startProxy } from '../../support/proxy.js'

const ENVELOPE = { mailfrom: 'a@example.com', rcptto: ['b@example.net'] }
const MAIL = Buffer.from('Subject: x\r\n\r\nbody\r\n')
const QUICK = { attempts: 4, delay: 1 }

async function start(
  options: ClientOptions = {},
): Promise<{ api: TestApi; proxy: FaultyProxy; client: BobbinClient; direct: BobbinClient }> {
  const api = await startApi()
  const { url } = await api.listen()
  const proxy = await startProxy(url)
  const client = new BobbinClient(proxy.url, { retry: QUICK, ...options })
  return { api, proxy, client, direct: new BobbinClient(url) }
}

const busy = (headers = {}) => ({ status: 503, headers, body: '{"code":"NOT_READY"}' })

async function refusal(call: Promise<unknown>): Promise<ClientError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(ClientError)
  return error as ClientError
}

describe('an injection', () => {
  it.each([
    ['bytes', () => MAIL],
    [
      'a stream that can be opened anew',
      () =>
        async function* () {
          yield MAIL
        },
    ],
  ])('of %s is tried again under one key, and stored once', async (_name, body) => {
    const { proxy, client, direct } = await start()
    proxy.faults.push(busy(), 'lose the answer', 'cut')
    const { ids } = await client.inject({ ...ENVELOPE, body: body() })
    expect(await direct.spool()).toMatchObject({ messages: 1 })
    expect(await buffer(await direct.content(ids[0]!))).toEqual(MAIL)
    const keys = proxy.requests.map(({ headers }) => headers['idempotency-key'])
    expect(keys).toHaveLength(4)
    expect(new Set(keys).size).toBe(1)
  })

  it('of a stream that cannot be opened anew is tried once', async () => {
    const { proxy, client, direct } = await start()
    proxy.faults.push('lose the answer')
    async function* once() {
      yield MAIL
    }
    const error = await refusal(client.inject({ ...ENVELOPE, body: once() }))
    expect(error).toMatchObject({ status: 0, code: 'UNREACHABLE', temporary: true })
    expect(proxy.requests).toHaveLength(1)
    expect(proxy.requests[0]!.headers).not.toHaveProperty('idempotency-key')
    expect(await direct.spool()).toMatchObject({ messages: 1 })
  })

  it('takes a key of one’s own, for calls that the program itself repeats', async () => {
    const { client, direct } = await start()
    const injection = { ...ENVELOPE, body: MAIL }
    const first = await client.inject(injection, { idempotencyKey: 'transaction 1' })
    expect(await client.inject(injection, { idempotencyKey: 'transaction 1' })).toEqual(first)
    expect(await direct.spool()).toMatchObject({ messages: 1 })
    const other = { ...injection, body: Buffer.from('another') }
    const error = await refusal(client.inject(other, { idempotencyKey: 'transaction 1' }))
    expect(error).toMatchObject({ status: 409, temporary: false })
  })
})

describe('what may be repeated', () => {
  it('is: reading, removing, reporting the end', async () => {
    const { proxy, client, direct } = await start()
    const { ids } = await direct.inject({
      ...ENVELOPE,
      rcptto: ['a@x.example', 'b@x.example'],
      body: MAIL,
    })
    proxy.faults.push('cut')
    expect(await client.meta(ids[0]!)).toMatchObject({ id: ids[0] })
    proxy.faults.push('lose the answer')
    await client.remove(ids[0]!)
    const { lease } = await direct.claim()
    proxy.faults.push('lose the answer', busy())
    expect(await client.report(ids[1]!, { type: 'delivery', lease: lease! })).toMatchObject({
      ...{ result: 'complete', outcome: 'removed' },
    })
    expect(await direct.spool()).toMatchObject({ messages: 0 })
  })

  it('is told from a first refusal', async () => {
    const { proxy, client } = await start()
    proxy.faults.push(busy())
    expect(await refusal(client.remove('019a0000-0000-7000-8000-000000000000'))).toMatchObject({
      ...{ status: 404, code: 'SPOOL_ERR_NOT_FOUND' },
    })
  })

  it('is not: appending records, copying, an attempt that is logged', async () => {
    const { proxy, client, direct } = await start()
    await direct.journals.create('log')
    const { ids } = await direct.inject({ ...ENVELOPE, body: MAIL })
    for (const call of [
      () => client.journals.append('log', ['record']),
      () => client.copy(ids[0]!),
      () => client.report(ids[0]!, { type: 'attempt' }),
      () => client.report(ids[0]!, { type: 'transient_failure' }),
      () => client.reportAll([{ id: ids[0]!, type: 'attempt' }]),
    ]) {
      proxy.faults.push('lose the answer')
      expect(await refusal(call())).toMatchObject({ code: 'UNREACHABLE' })
    }
    expect(proxy.requests).toHaveLength(5)
    expect(await direct.journals.describe('log')).toMatchObject({ records: 1 })
    // Turned away at the door it was certainly not done.
    proxy.faults.push({ status: 429, headers: { 'retry-after': '0' } })
    await client.journals.append('log', ['record'])
    expect(await direct.journals.describe('log')).toMatchObject({ records: 2 })
  })
})

describe('retries', () => {
  it('end with the attempts', async () => {
    const { proxy, client } = await start()
    proxy.faults.push(busy(), busy(), busy(), busy(), busy())
    expect(await refusal(client.spool())).toMatchObject({ status: 503, code: 'NOT_READY' })
    expect(proxy.requests).toHaveLength(4)
  })

  it('wait for Retry-After, and end where it is past the deadline', async () => {
    const told: number[] = []
    const { proxy, client } = await start({ onRetry: (_error, wait) => told.push(wait) })
    proxy.faults.push(busy({ 'retry-after': '1' }))
    await client.spool()
    expect(told).toEqual([1000])
    proxy.faults.push(busy({ 'retry-after': '3600' }))
    const error = await refusal(client.spool({ retry: { ...QUICK, deadline: 10_000 } }))
    expect(error).toMatchObject({ status: 503, retryAfter: 3_600_000 })
    expect(told).toHaveLength(1)
  })

  it('end with the signal, with its reason', async () => {
    const { proxy, client } = await start()
    proxy.faults.push(busy({ 'retry-after': '20' }))
    const controller = new AbortController()
    const call = client.spool({ signal: controller.signal })
    const reason = new Error('enough')
    setImmediate(() => controller.abort(reason))
    await expect(call).rejects.toBe(reason)
    await expect(client.spool({ signal: controller.signal })).rejects.toBe(reason)
    proxy.faults.push('stall')
    const slow = client.spool({ signal: AbortSignal.timeout(20) })
    await expect(slow).rejects.toMatchObject({ name: 'TimeoutError' })
  })

  it('are not made when switched off', async () => {
    const { proxy, client } = await start({ retry: false })
    proxy.faults.push(busy(), 'cut')
    expect(await refusal(client.spool())).toMatchObject({ status: 503 })
    expect(await refusal(client.spool())).toMatchObject({ code: 'UNREACHABLE' })
    await client.inject({ ...ENVELOPE, body: MAIL })
    expect(proxy.requests.at(-1)!.headers).not.toHaveProperty('idempotency-key')
  })

  it('follow a standstill', async () => {
    const { proxy, client } = await start()
    proxy.faults.push('stall')
    const patient = { timeout: 200, retry: { attempts: 50, delay: 1 } }
    expect(await client.spool(patient)).toMatchObject({ messages: 0 })
    proxy.faults.push('stall')
    expect(await refusal(client.spool({ timeout: 30, retry: false }))).toMatchObject({
      ...{ status: 0, code: 'TIMEOUT', temporary: true },
    })
  })

  it('take what is no problem document for what its status says', async () => {
    const { proxy, client } = await start()
    proxy.faults.push({ status: 502, body: '<html>', headers: { 'content-type': 'text/html' } })
    expect(await client.spool()).toMatchObject({ messages: 0 })
    proxy.faults.push({ status: 401, body: '"no"' })
    expect(await refusal(client.spool())).toMatchObject({ status: 401, code: 'HTTP_401' })
    proxy.faults.push({ status: 200, body: 'hello' })
    expect(await refusal(client.spool())).toMatchObject({ status: 0, code: 'BAD_ANSWER' })
  })
})

describe('a content', () => {
  it('goes on where the connection broke', async () => {
    const { proxy, client, direct } = await start()
    const mail = randomBytes(1_000_000)
    const { ids } = await direct.inject({ ...ENVELOPE, body: mail })
    proxy.faults.push({ cutAfter: 300_000 }, busy(), { cutAfter: 200_000 })
    expect((await buffer(await client.content(ids[0]!))).equals(mail)).toBe(true)
    proxy.faults.push({ cutAfter: 300_000 })
    const part = await client.content(ids[0]!, { start: 1000, end: 900_000 })
    expect((await buffer(part)).equals(mail.subarray(1000, 900_000))).toBe(true)
    const ranges = proxy.requests.map(({ headers }) => headers.range)
    expect(ranges[0]).toBeUndefined()
    expect(ranges.at(-1)).toMatch(/^bytes=\d{4,}-899999$/)
  })

  it('does not go on in another', async () => {
    const { proxy, client, direct } = await start()
    const { ids } = await direct.inject({ ...ENVELOPE, body: randomBytes(1_000_000) })
    proxy.faults.push({ cutAfter: 300_000 })
    const content = await client.content(ids[0]!)
    await content.next()
    await direct.replaceContent(ids[0]!, randomBytes(1_000_000))
    expect(await refusal(buffer(content))).toMatchObject({ code: 'CONTENT_CHANGED' })
  })
})

it('sends its token and headers with each call', async () => {
  const { proxy, client } = await start({ token: 'secret', headers: { 'x-site': 'one' } })
  await client.spool({ headers: { 'x-call': 'two' } })
  await client.inject({ ...ENVELOPE, body: MAIL })
  for (const { headers } of proxy.requests)
    expect(headers).toMatchObject({ authorization: 'Bearer secret', 'x-site': 'one' })
  expect(proxy.requests[0]!.headers).toMatchObject({ 'x-call': 'two' })
})

describe('Backoff', () => {
  it('doubles with jitter up to its bound', () => {
    const backoff = new Backoff({ attempts: 8, delay: 100, maxDelay: 1000, deadline: 1e9 })
    const waits = Array.from({ length: 7 }, () => backoff.next())
    for (const [i, wait] of waits.entries()) {
      const most = Math.min(100 * 2 ** i, 1000)
      expect(wait).toBeGreaterThanOrEqual(most / 2)
      expect(wait).toBeLessThanOrEqual(most)
    }
    expect(backoff.next()).toBeNull()
  })

  it('reads seconds and dates', () => {
    expect(parseRetryAfter('7')).toBe(7000)
    expect(parseRetryAfter(new Date(Date.now() + 60_000).toUTCString())).toBeGreaterThan(55_000)
    expect(parseRetryAfter('soon')).toBeUndefined()
    expect(parseRetryAfter(null)).toBeUndefined()
  })
})
