// Idempotency-Key over HTTP: what it looks like, and what it answers.
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'

const URL = '/v1/messages?from=a@example.com&to=b@example.net'
const MAIL = Buffer.from('Subject: x\r\n\r\nbody\r\n')

const inject = (api: TestApi, key: string, payload: Buffer | Readable = MAIL, url = URL) =>
  api.app.inject({
    method: 'POST',
    url,
    headers: {
      'content-type': 'message/rfc822',
      'idempotency-key': key,
      ...(payload instanceof Readable ? { 'transfer-encoding': 'chunked' } : {}),
    },
    payload,
  })

describe('Idempotency-Key', () => {
  it('answers a repeated request as the first, and says so', async () => {
    const api = await startApi()
    const first = await inject(api, '"a key"')
    expect(first.statusCode).toBe(201)
    expect(first.headers).not.toHaveProperty('idempotency-replayed')
    const second = await inject(api, '"a key"')
    expect(second.statusCode).toBe(201)
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect(second.json()).toEqual(first.json())
    const other = await inject(api, '"a key"', Buffer.from('other'))
    expect(other.json()).toMatchObject({ status: 409, code: 'SPOOL_ERR_KEY_REUSED' })
    expect((await inject(api, '"a key"', MAIL, `${URL}&to=c@d`)).statusCode).toBe(409)
    expect(await api.spool.stats()).toMatchObject({ messages: 1, idempotencyKeys: 1 })
    expect((await api.app.inject({ url: '/v1/spool' })).json()).toMatchObject({
      idempotency_keys: 1,
    })
  })

  it('is of the content, however that comes', async () => {
    const api = await startApi()
    const first = await inject(api, 'k')
    const asJson = await api.app.inject({
      method: 'POST',
      url: '/v1/messages',
      headers: { 'idempotency-key': '"k"' },
      payload: {
        mailfrom: 'a@example.com',
        rcptto: ['b@example.net'],
        content: MAIL.toString(),
      },
    })
    expect(asJson.json()).toEqual(first.json())
    expect((await inject(api, 'k', Readable.from([MAIL]))).json()).toEqual(first.json())
    const large = Buffer.alloc(700_000, 'x')
    const streamed = await inject(api, 'large', Readable.from([large]))
    expect((await inject(api, 'large', Readable.from([large]))).json()).toEqual(streamed.json())
    expect(await api.spool.stats()).toMatchObject({ messages: 2, bodies: 2 })
  })

  it.each([
    '',
    '""',
    '"open',
    '"a" "b"',
    'two words',
    'one, two',
    '"a"x',
    '"\\x"',
    'x'.repeat(256),
    `"${'x'.repeat(256)}"`,
    'ü',
  ])('%j is none', async (key) => {
    const api = await startApi()
    expect((await inject(api, key)).json()).toMatchObject({
      status: 400,
      code: 'INVALID_IDEMPOTENCY_KEY',
    })
    expect(await api.spool.stats()).toMatchObject({ messages: 0, idempotencyKeys: 0 })
  })

  it.each([
    'k',
    '"k"',
    '8e03978e-40d5-43dd-bc93-6894a57f9324',
    `"${'x'.repeat(255)}"`,
    '"a\\"b\\\\c"',
  ])('%j is one', async (key) => {
    const api = await startApi()
    expect((await inject(api, key)).statusCode).toBe(201)
  })

  it('together from many connections stores once', async () => {
    const api = await startApi()
    const { url } = await api.listen()
    const answers = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const response = await fetch(url + URL, {
          method: 'POST',
          headers: { 'content-type': 'message/rfc822', 'idempotency-key': `"${i % 4}"` },
          body: `mail ${i % 4}`,
        })
        expect(response.status).toBe(201)
        const { ids } = (await response.json()) as { ids: string[] }
        return ids[0]
      }),
    )
    expect(new Set(answers).size).toBe(4)
    expect(await api.spool.stats()).toMatchObject({ messages: 4 })
  })
})
