import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { InjectOptions } from 'fastify'
import { describe, expect, it } from 'vitest'
import { checkSpool } from '../../spool/index.js'
import { MAX_MESSAGE_SIZE, startApi, type TestApi } from '../support/api.js'
import { ownMails } from '../support/mail.js'

const MAIL = Buffer.from('Subject: x\r\n\r\nbody\r\n')
const ENVELOPE = '/v1/messages?from=a@example.com&to=b@example.net'
const RFC822 = { 'content-type': 'message/rfc822' }
const UNKNOWN = '019a0000-0000-7000-8000-000000000000'

const inject = (api: TestApi, body: Buffer = MAIL, url = ENVELOPE) =>
  api.app.inject({ method: 'POST', url, headers: RFC822, payload: body })

async function idOf(api: TestApi, body?: Buffer, url?: string): Promise<string> {
  return (await inject(api, body, url)).json<{ ids: string[] }>().ids[0]!
}

/** Nothing was stored by what was refused, no orphaned chunk either. */
async function expectEmpty(api: TestApi): Promise<void> {
  expect(await api.spool.stats()).toMatchObject({ messages: 0, bodies: 0, bytes: 0 })
  await api.close()
  expect(await checkSpool(join(api.data, 'spool'))).toMatchObject({ problems: [] })
}

describe('POST /v1/messages', () => {
  it('answers with an id a recipient, in order', async () => {
    const api = await startApi()
    const response = await inject(api, MAIL, `${ENVELOPE}&to=c@example.org&to=d@example.org`)
    expect(response.statusCode).toBe(201)
    const { result, ids, size, sha256 } = response.json()
    expect({ result, size, sha256 }).toEqual({
      result: 'complete',
      size: MAIL.length,
      sha256: createHash('sha256').update(MAIL).digest('hex'),
    })
    const metas = await Promise.all(ids.map((id: string) => api.spool.meta(id)))
    expect(metas.map(({ rcptto }) => rcptto)).toEqual([
      'b@example.net',
      'c@example.org',
      'd@example.org',
    ])
    expect(await api.spool.stats()).toMatchObject({ messages: 3, bodies: 1 })
  })

  it('gives every kind of mail back byte for byte', async () => {
    const api = await startApi()
    for (const { name, bytes } of await ownMails()) {
      const id = await idOf(api, bytes)
      const content = await api.app.inject({ url: `/v1/messages/${id}/content` })
      expect(content.rawPayload.equals(bytes), name).toBe(true)
      expect(content.headers['content-type'], name).toBe('message/rfc822')
    }
  })

  it('takes JSON with text or base64, envelope and context', async () => {
    const api = await startApi()
    const common = {
      mailfrom: '',
      rcptto: ['Ünï@example.net'],
      batch_id: 'b1',
      connection_id: 'c1',
      binding: 'x',
    }
    const context = { conn: { ip: '192.0.2.1' }, mess: { tag: 'ü' } }
    const text = await api.app.inject({
      method: 'POST',
      url: '/v1/messages',
      payload: {
        ...common,
        content: 'Grüße',
        context,
        next_attempt: '2030-01-01T00:00:00Z',
        retention: 60,
      },
    })
    expect(text.statusCode).toBe(201)
    const meta = await api.app.inject({ url: `/v1/messages/${text.json().ids[0]}` })
    expect(meta.json()).toMatchObject({
      ...common,
      rcptto: 'Ünï@example.net',
      context,
      size: 7,
      state: 'queued',
      next_attempt: '2030-01-01T00:00:00.000Z',
      retention: 60,
    })
    // Long enough that a recursive check of its characters would run out of stack.
    const bytes = randomBytes(700_000)
    const base64 = await api.app.inject({
      method: 'POST',
      url: '/v1/messages',
      payload: { ...common, content_base64: bytes.toString('base64') },
    })
    const content = await api.app.inject({ url: `/v1/messages/${base64.json().ids[0]}/content` })
    expect(content.rawPayload.equals(bytes)).toBe(true)
  })

  it('takes 1,000 recipients in one call', async () => {
    const api = await startApi()
    const to = Array.from({ length: 1000 }, (_, i) => `to=recipient${i}@example.net`).join('&')
    const { port, host } = await api.listen()
    const response = await fetch(`http://${host}:${port}/v1/messages?from=&${to}`, {
      method: 'POST',
      headers: RFC822,
      body: MAIL,
    })
    expect(response.status).toBe(201)
    expect(await api.spool.stats()).toMatchObject({ messages: 1000, bodies: 1 })
  })

  const refused: [string, number, string | RegExp, InjectOptions][] = [
    [
      'malformed JSON',
      400,
      'FST_ERR_CTP_INVALID_JSON_BODY',
      { headers: { 'content-type': 'application/json' }, payload: '{"mailfrom":' },
    ],
    [
      'no body',
      400,
      'FST_ERR_CTP_EMPTY_JSON_BODY',
      { headers: { 'content-type': 'application/json' } },
    ],
    ['JSON that is no object', 400, 'FST_ERR_VALIDATION', { payload: ['x'] }],
    [
      'an unknown field',
      400,
      'FST_ERR_VALIDATION',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: '', contnet: 1 } },
    ],
    [
      'no recipient',
      400,
      'FST_ERR_VALIDATION',
      { payload: { mailfrom: '', rcptto: [], content: '' } },
    ],
    [
      'too many recipients',
      400,
      'FST_ERR_VALIDATION',
      { payload: { mailfrom: '', rcptto: Array(1001).fill('b@c.d'), content: '' } },
    ],
    [
      'neither content nor base64',
      400,
      'INVALID_CONTENT',
      { payload: { mailfrom: '', rcptto: ['b@c.d'] } },
    ],
    [
      'both',
      400,
      'INVALID_CONTENT',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: '', content_base64: '' } },
    ],
    [
      'a character that is not base64',
      400,
      'INVALID_CONTENT',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content_base64: 'a=bc' } },
    ],
    [
      'base64 cut short',
      400,
      'INVALID_CONTENT',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content_base64: 'abc' } },
    ],
    [
      'half a surrogate pair',
      400,
      'INVALID_CONTENT',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: 'x\ud800' } },
    ],
    [
      'JSON that is not UTF-8',
      400,
      'INVALID_UTF8',
      {
        headers: { 'content-type': 'application/json' },
        payload: Buffer.from('{"mailfrom":"","rcptto":["b@c.d"],"content":"\xff"}', 'latin1'),
      },
    ],
    [
      'an envelope in the query beside one in JSON',
      400,
      'INVALID_ENVELOPE',
      { url: ENVELOPE, payload: { mailfrom: '', rcptto: ['b@c.d'], content: '' } },
    ],
    [
      'a durability there is not',
      422,
      'DURABILITY_NOT_POSSIBLE',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: '', durability: 'sort of' } },
    ],
    [
      'an unknown dictionary',
      400,
      'FST_ERR_VALIDATION',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: '', context: { cnn: {} } } },
    ],
    [
      'a newline in an address',
      400,
      'SPOOL_ERR_INVALID',
      { payload: { mailfrom: 'a\n@b', rcptto: ['b@c.d'], content: '' } },
    ],
    [
      'a time that is none',
      400,
      'FST_ERR_VALIDATION',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: '', next_attempt: 'soon' } },
    ],
    [
      'a time beyond all times',
      400,
      'INVALID_TIME',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: '', next_attempt: 1e300 } },
    ],
    [
      'JSON over the limit',
      413,
      'FST_ERR_CTP_BODY_TOO_LARGE',
      { payload: { mailfrom: '', rcptto: ['b@c.d'], content: 'x'.repeat(1_000_001) } },
    ],
    [
      'no envelope',
      400,
      'INVALID_ENVELOPE',
      { url: '/v1/messages', headers: RFC822, payload: 'x' },
    ],
    [
      'no sender',
      400,
      'INVALID_ENVELOPE',
      { url: '/v1/messages?to=b@c.d', headers: RFC822, payload: 'x' },
    ],
    [
      'an unknown parameter',
      400,
      'FST_ERR_VALIDATION',
      { url: `${ENVELOPE}&form=x`, headers: RFC822, payload: 'x' },
    ],
    [
      'another content type',
      415,
      'FST_ERR_CTP_INVALID_MEDIA_TYPE',
      { headers: { 'content-type': 'text/plain' }, payload: 'x' },
    ],
    [
      'records',
      415,
      'FST_ERR_CTP_INVALID_MEDIA_TYPE',
      { headers: { 'content-type': 'application/octet-stream' }, payload: 'x' },
    ],
    [
      'a message over the limit',
      413,
      'SPOOL_ERR_TOO_LARGE',
      { headers: RFC822, payload: Buffer.alloc(MAX_MESSAGE_SIZE + 1) },
    ],
    [
      'a streamed message over the limit',
      413,
      'SPOOL_ERR_TOO_LARGE',
      {
        headers: { ...RFC822, 'transfer-encoding': 'chunked' },
        payload: Readable.from(pieces(MAX_MESSAGE_SIZE + 1)),
      },
    ],
  ]
  it.each(refused)('refuses %s, and keeps nothing of it', async (_name, status, code, request) => {
    const api = await startApi()
    const isJson =
      request.headers === undefined || String(request.headers['content-type']).includes('json')
    const url = isJson ? '/v1/messages' : ENVELOPE
    const response = await api.app.inject({ method: 'POST', url, ...request })
    expect(response.json()).toMatchObject({ status, code })
    expect(response.statusCode).toBe(status)
    expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(response.payload).not.toMatch(/\bat .*\.[jt]s:\d+/)
    await expectEmpty(api)
  })

  it('keeps nothing of a message whose connection is cut', async () => {
    const api = await startApi()
    const { port, host } = await api.listen()
    for (const [length, sent] of [
      [1000, 400],
      [60_000, 30_000],
      [1_500_000, 900_000],
    ] as const) {
      const socket = connect(port, host)
      await once(socket, 'connect')
      socket.write(
        `POST ${ENVELOPE} HTTP/1.1\r\nhost: x\r\ncontent-type: message/rfc822\r\ncontent-length: ${length}\r\n\r\n`,
      )
      await new Promise((resolve) => socket.write(Buffer.alloc(sent, 'x'), resolve))
      socket.destroy()
      await once(socket, 'close')
    }
    const chunked = connect(port, host)
    await once(chunked, 'connect')
    chunked.write(
      `POST ${ENVELOPE} HTTP/1.1\r\nhost: x\r\ncontent-type: message/rfc822\r\ntransfer-encoding: chunked\r\n\r\n`,
    )
    await new Promise((resolve) => chunked.write(`80000\r\n${'x'.repeat(0x80000)}\r\n`, resolve))
    chunked.destroy()
    await once(chunked, 'close')
    await api.app.close()
    await expectEmpty(api)
  })

  it('tells a client that still sends that it was too much', async () => {
    const api = await startApi()
    const { url } = await api.listen()
    const response = await fetch(`${url}${ENVELOPE}`, {
      method: 'POST',
      headers: RFC822,
      body: ReadableStream.from(pieces(20_000_000)),
      duplex: 'half',
    } as RequestInit)
    expect(response.status).toBe(413)
    expect(await response.json()).toMatchObject({ code: 'SPOOL_ERR_TOO_LARGE' })
    await expectEmpty(api)
  })

  it('takes none while it is not ready, and says why and when to come back', async () => {
    const api = await startApi()
    api.notReady.push({ code: 'low_space', detail: 'the moon is full', retryAfter: 7 })
    for (const response of [await inject(api), await api.app.inject({ url: '/readyz' })]) {
      expect(response.statusCode).toBe(503)
      expect(response.headers['retry-after']).toBe('7')
      expect(response.json()).toMatchObject({
        code: 'NOT_READY',
        reasons: [{ code: 'low_space', detail: 'the moon is full' }],
        detail: expect.stringContaining('the moon is full'),
      })
    }
    expect((await api.app.inject({ url: '/healthz' })).statusCode).toBe(200)
    api.notReady.pop()
    expect((await api.app.inject({ url: '/readyz' })).json()).toEqual({ status: 'ready' })
    expect((await inject(api)).statusCode).toBe(201)
  })
})

describe('a message', () => {
  it('has meta that a merge patch changes, with versions', async () => {
    const api = await startApi()
    const id = await idOf(api)
    const url = `/v1/messages/${id}/meta`
    const read = await api.app.inject({ url })
    expect(read.headers.etag).toBe('"1"')
    const patch = (payload: object, headers = {}, query = '') =>
      api.app.inject({ method: 'PATCH', url: `${url}${query}`, headers, payload })
    const first = await patch(
      { retries: 2, context: { mess: { a: '1', b: '2' } } },
      { 'if-match': '"1"' },
    )
    expect(first.statusCode).toBe(200)
    expect(first.headers.etag).toBe('"2"')
    expect(first.json()).toMatchObject({
      result: 'complete',
      meta: { retries: 2, version: 2, context: { mess: { a: '1', b: '2' } } },
    })
    const second = await patch({ context: { mess: { a: null, c: '3' } }, next_attempt: null })
    expect(second.json().meta).toMatchObject({
      retries: 2,
      next_attempt: null,
      context: { conn: {}, mess: { b: '2', c: '3' } },
    })
    const stale = await patch({ retries: 9 }, { 'if-match': '"1"' })
    expect(stale.json()).toMatchObject({ status: 412, code: 'SPOOL_ERR_VERSION' })
    const unforced = await patch({ retries: 3 }, {}, '?force=false')
    expect(unforced.statusCode).toBe(202)
    expect(unforced.json()).toMatchObject({ result: 'partial', meta: { retries: 3 } })
    expect((await api.app.inject({ url })).json()).toMatchObject({ retries: 3 })
    expect((await patch({ size: 1 })).statusCode).toBe(400)
    expect((await patch({}, { 'if-match': 'latest' })).statusCode).toBe(400)
  })

  it('is read in ranges, and conditionally', async () => {
    const api = await startApi()
    const body = randomBytes(300_000)
    const url = `/v1/messages/${await idOf(api, body)}/content`
    const get = (headers: Record<string, string>, method: 'GET' | 'HEAD' = 'GET') =>
      api.app.inject({ method, url, headers })
    const whole = await get({})
    expect(whole.headers).toMatchObject({ 'accept-ranges': 'bytes', 'content-length': '300000' })
    expect(whole.rawPayload.equals(body)).toBe(true)
    const etag = String(whole.headers.etag)
    for (const [range, start, end] of [
      ['bytes=0-0', 0, 1],
      ['bytes=15990-16010', 15_990, 16_011],
      ['bytes=299999-', 299_999, 300_000],
      ['bytes=-5', 299_995, 300_000],
      ['bytes=100-900000', 100, 300_000],
    ] as const) {
      const part = await get({ range })
      expect(part.statusCode).toBe(206)
      expect(part.headers['content-range']).toBe(`bytes ${start}-${end - 1}/300000`)
      expect(part.rawPayload.equals(body.subarray(start, end))).toBe(true)
    }
    const beyond = await get({ range: 'bytes=300000-' })
    expect(beyond.statusCode).toBe(416)
    expect(beyond.headers['content-range']).toBe('bytes */300000')
    for (const range of ['bytes=', 'lines=1-2', 'bytes=0-1,5-6', 'bytes=2-1x']) {
      expect((await get({ range })).statusCode, range).toBe(200)
    }
    expect((await get({ range: 'bytes=0-9', 'if-range': etag })).statusCode).toBe(206)
    expect((await get({ range: 'bytes=0-9', 'if-range': '"other"' })).statusCode).toBe(200)
    const cached = await get({ 'if-none-match': `"other", ${etag}` })
    expect(cached.statusCode).toBe(304)
    expect(cached.rawPayload).toHaveLength(0)
    const head = await get({}, 'HEAD')
    expect(head.headers['content-length']).toBe('300000')
    expect(head.rawPayload).toHaveLength(0)
  })

  it.each(['', '?when_free=true'])(
    'is removed%s at the version that is asked for, or not',
    async (query) => {
      const api = await startApi()
      const [id] = (await inject(api, MAIL)).json().ids
      const patch = { method: 'PATCH', url: `/v1/messages/${id}/meta` } as const
      // One that is visible, and not in the store yet, counts too.
      await api.app.inject({ ...patch, url: `${patch.url}?force=false`, payload: { binding: 'b' } })
      const { version } = (await api.app.inject({ url: `/v1/messages/${id}/meta` })).json()
      const remove = (match: string) =>
        api.app.inject({
          method: 'DELETE',
          url: `/v1/messages/${id}${query}`,
          headers: { 'if-match': match },
        })
      expect((await remove('never')).statusCode).toBe(400)
      const refused = await remove(`"${version - 1}"`)
      expect(refused.statusCode).toBe(412)
      expect(refused.json()).toMatchObject({ code: 'SPOOL_ERR_VERSION' })
      expect((await api.app.inject({ url: `/v1/messages/${id}` })).statusCode).toBe(200)
      expect((await remove(`"${version}"`)).statusCode).toBe(204)
      await expectEmpty(api)
    },
  )

  it('is gone once removed', async () => {
    const api = await startApi()
    const response = await inject(api, MAIL, `${ENVELOPE}&to=c@example.org`)
    const [first, second] = response.json().ids
    expect(
      (await api.app.inject({ method: 'DELETE', url: `/v1/messages/${first}` })).statusCode,
    ).toBe(204)
    for (const path of ['', '/meta', '/content']) {
      expect((await api.app.inject({ url: `/v1/messages/${first}${path}` })).statusCode).toBe(404)
      expect((await api.app.inject({ url: `/v1/messages/${second}${path}` })).statusCode).toBe(200)
    }
    expect(
      (await api.app.inject({ method: 'DELETE', url: `/v1/messages/${first}` })).statusCode,
    ).toBe(404)
    expect(
      (await api.app.inject({ method: 'DELETE', url: `/v1/messages/${second}` })).statusCode,
    ).toBe(204)
    await expectEmpty(api)
  })

  it.each([UNKNOWN, 'x', '..%2F..%2Fetc%2Fpasswd', '%00', 'a'.repeat(900), '%F0%9F%92%A9'])(
    'is 404 when it is %s',
    async (id) => {
      const api = await startApi()
      for (const [method, path] of [
        ['GET', ''],
        ['GET', '/meta'],
        ['GET', '/content'],
        ['DELETE', ''],
        ['PATCH', '/meta'],
      ] as const) {
        const response = await api.app.inject({
          method,
          url: `/v1/messages/${id}${path}`,
          ...(method === 'PATCH' ? { payload: {} } : {}),
        })
        expect(response.statusCode, `${method} ${path}`).toBe(404)
        expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
      }
    },
  )
})

describe('GET /v1/messages', () => {
  it('lists page by page, by domain, binding and time', async () => {
    const api = await startApi()
    const ids: string[] = []
    for (let i = 0; i < 25; i++) {
      const binding = i % 2 === 0 ? 'even' : 'odd'
      ids.push(
        await idOf(
          api,
          MAIL,
          `/v1/messages?from=&to=b@d${i % 3}.example&binding=${binding}&next_attempt=${1000 + i}`,
        ),
      )
    }
    const list = async (query: string) => {
      const found: string[] = []
      for (let cursor = ''; ; ) {
        const page = await api.app.inject({ url: `/v1/messages?limit=4&${query}${cursor}` })
        expect(page.statusCode).toBe(200)
        const { messages, cursor: next } = page.json<{
          messages: { id: string }[]
          cursor: string | null
        }>()
        expect(messages.length).toBeLessThanOrEqual(4)
        found.push(...messages.map(({ id }) => id))
        if (next === null) return found.sort()
        cursor = `&cursor=${encodeURIComponent(next)}`
      }
    }
    expect(await list('')).toEqual(ids)
    expect(await list('domain=D1.example')).toEqual(ids.filter((_, i) => i % 3 === 1))
    expect(await list('binding=odd')).toEqual(ids.filter((_, i) => i % 2 === 1))
    expect(await list('due_before=1010')).toEqual(ids.slice(0, 10))
    expect(await list('state=deferred')).toEqual([])
    for (const bad of ['limit=0', 'limit=x', 'state=x', 'cursor=%21', 'due_before=x']) {
      expect((await api.app.inject({ url: `/v1/messages?${bad}` })).statusCode, bad).toBe(400)
    }
  })
})

function* pieces(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= 10_000) yield Buffer.alloc(Math.min(left, 10_000), 'y')
}
