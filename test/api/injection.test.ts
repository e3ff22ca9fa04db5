// Injection as front ends do it: forms, batches, and what the wire may look like.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkSpool, openSpool } from '../../spool/index.js'
import { MAX_BUFFERED_BODY, MAX_MESSAGE_SIZE, startApi, type TestApi } from '../support/api.js'

const MAIL = Buffer.from('Subject: x\r\n\r\nbody \xff\0\r\n', 'latin1')
const ENVELOPE = '/v1/messages?from=a@example.com&to=b@example.net'
const META = { mailfrom: 'a@example.com', rcptto: ['b@example.net', 'c@example.org'] }
const BOUNDARY = 'frontier'

type Part = [headers: string, body: Buffer | string]

const meta = (json: unknown = META, name = 'meta'): Part => [
  `Content-Disposition: form-data; name="${name}"\r\nContent-Type: application/json`,
  typeof json === 'string' ? json : JSON.stringify(json),
]
const message = (body: Buffer | string = MAIL, more = ''): Part => [
  `Content-Disposition: form-data; name="message"; filename="m.eml"\r\nContent-Type: message/rfc822${more}`,
  body,
]

function form(parts: Part[], end = `\r\n--${BOUNDARY}--\r\n`): Buffer {
  return Buffer.concat([
    ...parts.flatMap(([headers, body], i) => [
      Buffer.from(`${i === 0 ? '' : '\r\n'}--${BOUNDARY}\r\n${headers}\r\n\r\n`),
      Buffer.from(body as string),
    ]),
    Buffer.from(end),
  ])
}

const post = (
  api: TestApi,
  payload: Buffer | string,
  type = `multipart/form-data; boundary=${BOUNDARY}`,
  url = '/v1/messages',
  headers = {},
) => api.app.inject({ method: 'POST', url, headers: { 'content-type': type, ...headers }, payload })

async function contentOf(api: TestApi, id: string): Promise<Buffer> {
  return (await api.app.inject({ url: `/v1/messages/${id}/content` })).rawPayload
}

/** Nothing was stored by what was refused, nor is left of it once the spool was opened again. */
async function expectEmpty(api: TestApi): Promise<void> {
  expect(await api.spool.stats()).toMatchObject({ messages: 0, bodies: 0, bytes: 0 })
  await api.close()
  const path = join(api.data, 'spool')
  const spool = await openSpool({ path })
  await expect.poll(async () => (await checkSpool(path)).staged).toBe(0)
  await spool.close()
  expect(await checkSpool(path)).toMatchObject({ problems: [], bodies: 0 })
}

describe('a form', () => {
  it('is an envelope and a message, streamed, byte for byte', async () => {
    const api = await startApi()
    for (const body of [
      MAIL,
      randomBytes(1_500_000),
      Buffer.alloc(0),
      Buffer.from('\r\n--front'),
    ]) {
      const json = { ...META, context: { mess: { tag: 'ü' } }, binding: 'x', retention: 60 }
      const response = await post(api, form([meta(json), message(body)]))
      expect(response.statusCode, response.payload).toBe(201)
      const { ids, size } = response.json()
      expect(ids).toHaveLength(2)
      expect(size).toBe(body.length)
      expect((await contentOf(api, ids[1])).equals(body)).toBe(true)
      expect((await api.app.inject({ url: `/v1/messages/${ids[1]}` })).json()).toMatchObject({
        rcptto: 'c@example.org',
        context: { conn: {}, mess: { tag: 'ü' } },
        binding: 'x',
        retention: 60,
      })
    }
  })

  it('is what FormData and undici make of it, and curl without a file name', async () => {
    const api = await startApi()
    const { url } = await api.listen()
    const body = new FormData()
    body.append('meta', JSON.stringify(META))
    body.append('message', new Blob([MAIL], { type: 'message/rfc822' }))
    const response = await fetch(`${url}/v1/messages`, { method: 'POST', body })
    expect(response.status).toBe(201)
    const { ids } = (await response.json()) as { ids: string[] }
    expect((await contentOf(api, ids[0]!)).equals(MAIL)).toBe(true)
    const nameless: Part = [
      'Content-Disposition: form-data; name="message"\r\nContent-Type: message/rfc822',
      MAIL,
    ]
    const second = await post(api, form([meta(), nameless]))
    expect((await contentOf(api, second.json().ids[0])).equals(MAIL)).toBe(true)
  })

  it('takes a key, too', async () => {
    const api = await startApi()
    const body = form([meta(), message(randomBytes(400_000))])
    const type = `multipart/form-data; boundary=${BOUNDARY}`
    const send = () => post(api, body, type, '/v1/messages', { 'idempotency-key': '"k"' })
    const first = await send()
    const second = await send()
    expect(second.json()).toEqual(first.json())
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect(await api.spool.stats()).toMatchObject({ messages: 2, bodies: 1 })
  })

  const large = randomBytes(600_000)
  const bad: [string, number, string, Buffer][] = [
    ['the message first', 400, 'INVALID_FORM', form([message(), meta()])],
    ['no message', 400, 'INVALID_FORM', form([meta()])],
    ['no parts', 400, 'INVALID_FORM', Buffer.from(`--${BOUNDARY}--\r\n`)],
    ['nothing', 400, 'INVALID_FORM', Buffer.alloc(0)],
    ['no form', 400, 'INVALID_FORM', Buffer.from('no form at all')],
    ['two metas', 400, 'INVALID_FORM', form([meta(), meta()])],
    ['a part too many', 400, 'INVALID_FORM', form([meta(), message(large), message()])],
    ['a large one whose end is missing', 400, 'INVALID_FORM', form([meta(), message(large)], '')],
    [
      'a small one whose end is missing',
      400,
      'INVALID_FORM',
      form([meta(), message()], '\r\n--fro'),
    ],
    [
      'a part without an end to its headers',
      400,
      'INVALID_FORM',
      form([meta()], `\r\n--${BOUNDARY}\r\nContent-Disp`),
    ],
    ['a meta that is no JSON', 400, 'INVALID_FORM', form([meta('{'), message()])],
    [
      'a meta that is not UTF-8',
      400,
      'INVALID_FORM',
      form([[meta()[0], Buffer.from([0xff])], message()]),
    ],
    [
      'a meta with a wrong field',
      400,
      'INVALID_FORM',
      form([meta({ ...META, rcpt: 1 }), message(large)]),
    ],
    [
      'a meta with content',
      400,
      'INVALID_FORM',
      form([meta({ ...META, content: 'x' }), message()]),
    ],
    ['a meta that is an array', 400, 'INVALID_FORM', form([meta([META]), message()])],
    [
      'a meta with a wrong address',
      400,
      'SPOOL_ERR_INVALID',
      form([meta({ ...META, mailfrom: 'a\n' }), message(large)]),
    ],
    [
      'a meta of another type',
      415,
      'FST_ERR_CTP_INVALID_MEDIA_TYPE',
      form([[meta()[0].replace('json', 'xml'), '{}'], message()]),
    ],
    [
      'a meta over the limit',
      413,
      'FST_ERR_CTP_BODY_TOO_LARGE',
      form([meta(`"${'x'.repeat(MAX_BUFFERED_BODY)}"`), message()]),
    ],
    [
      'a message in base64',
      400,
      'INVALID_FORM',
      form([meta(), message('eA==', '\r\nContent-Transfer-Encoding: base64')]),
    ],
    [
      'a message over the limit',
      413,
      'SPOOL_ERR_TOO_LARGE',
      form([meta(), message(Buffer.alloc(MAX_MESSAGE_SIZE + 1))]),
    ],
    [
      'a durability there is not',
      422,
      'DURABILITY_NOT_POSSIBLE',
      form([meta({ ...META, durability: 'x' }), message()]),
    ],
  ]
  it('that is none, or of wrong parts, is refused, and leaves nothing', async () => {
    const api = await startApi()
    for (const [name, status, code, payload] of bad) {
      const response = await post(api, payload)
      expect(response.json(), name).toMatchObject({ status, code })
      expect(response.statusCode, name).toBe(status)
    }
    await expectEmpty(api)
  })

  it('says which field of meta is wrong', async () => {
    const api = await startApi()
    const response = await post(api, form([meta({ ...META, rcptto: [1] }), message()]))
    expect(response.json().errors).toEqual([
      { where: 'body.meta.rcptto.0', message: 'must be string' },
    ])
  })

  it('needs a boundary, and is for injection alone', async () => {
    const api = await startApi()
    expect(
      (await post(api, form([meta(), message()]), 'multipart/form-data')).json(),
    ).toMatchObject({
      code: 'INVALID_FORM',
    })
    for (const url of ['/v1/messages/batch', '/v1/claims', '/v1/events']) {
      expect((await post(api, form([meta()]), undefined, url)).statusCode, url).toBe(415)
    }
    expect((await post(api, form([meta(), message()]), undefined, ENVELOPE)).json()).toMatchObject({
      code: 'INVALID_ENVELOPE',
    })
  })

  it('that is cut off anywhere leaves nothing', async () => {
    const api = await startApi()
    const { host, port } = await api.listen()
    const whole = form([meta(), message(randomBytes(900_000))])
    for (const length of [1, 60, 200, 300, 70_000, 500_000, whole.length - 1]) {
      const socket = connect(port, host)
      await once(socket, 'connect')
      socket.write(
        `POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=${BOUNDARY}\r\ncontent-length: ${whole.length}\r\n\r\n`,
      )
      await new Promise((resolve) => socket.write(whole.subarray(0, length), resolve))
      socket.destroy()
      await once(socket, 'close')
    }
    await expectEmpty(api)
  })
})

describe('a batch', () => {
  const item = (i: number, more = {}) => ({
    mailfrom: 'a@example.com',
    rcptto: Array.from({ length: 1 + (i % 3) }, (_, n) => `r${n}@d${i}.example`),
    content: `mail ${i}`,
    ...more,
  })
  const ndjson = (items: unknown[]) => items.map((value) => JSON.stringify(value)).join('\n')

  it.each(['application/json', 'application/x-ndjson'])('stores all of it, as %s', async (type) => {
    const api = await startApi()
    const large = randomBytes(300_000)
    const items = [
      item(0),
      item(1, { content: undefined, content_base64: large.toString('base64') }),
    ]
    for (let i = 2; i < 50; i++) items.push(item(i))
    const body = type === 'application/json' ? JSON.stringify(items) : `\n${ndjson(items)}\r\n\n`
    const response = await post(api, body, type, '/v1/messages/batch')
    expect(response.statusCode, response.payload).toBe(201)
    const { results } = response.json()
    expect(results).toHaveLength(50)
    for (const [i, { ids }] of results.entries()) {
      const metas = await Promise.all(ids.map((id: string) => api.spool.meta(id)))
      expect(metas.map(({ rcptto }) => rcptto)).toEqual(items[i]?.rcptto)
      const expected = i === 1 ? large : Buffer.from(`mail ${i}`)
      expect((await contentOf(api, ids[0])).equals(expected)).toBe(true)
    }
    expect(await api.spool.stats()).toMatchObject({ messages: 99, bodies: 50 })
  })

  it('has one key for all of it', async () => {
    const api = await startApi()
    const send = (items: unknown[]) =>
      post(api, ndjson(items), 'application/x-ndjson', '/v1/messages/batch', {
        'idempotency-key': '"k"',
      })
    const first = await send([item(0), item(1)])
    const second = await send([item(0), item(1)])
    expect(second.json()).toEqual(first.json())
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect((await send([item(1), item(0)])).json()).toMatchObject({ code: 'SPOOL_ERR_KEY_REUSED' })
  })

  const wrong: [string, number, string, string, string][] = [
    [
      'a line that is no JSON',
      400,
      'INVALID_LINE',
      'line 3: not JSON',
      `${ndjson([item(0)])}\n\n{`,
    ],
    [
      'a wrong field',
      400,
      'INVALID_LINE',
      'line 2: to must NOT have',
      ndjson([item(0), item(1, { to: 1 })]),
    ],
    ['a missing field', 400, 'INVALID_LINE', 'line 1: mailfrom must have', '{"rcptto":["a@b"]}'],
    [
      'no content',
      400,
      'INVALID_CONTENT',
      'line 2: ',
      ndjson([item(0), item(0, { content: undefined })]),
    ],
    [
      'a wrong address',
      400,
      'SPOOL_ERR_INVALID',
      'line 3: rcptto[0]: ',
      ndjson([item(0), item(1), item(2, { rcptto: [''] })]),
    ],
    [
      'content of no message',
      404,
      'SPOOL_ERR_NOT_FOUND',
      'line 2: ',
      ndjson([
        item(0),
        item(1, { content: undefined, refs: '019a0000-0000-7000-8000-000000000000' }),
      ]),
    ],
    [
      'a refs that is no id',
      400,
      'SPOOL_ERR_INVALID',
      'line 1: refs: ',
      ndjson([item(1, { content: undefined, refs: 'x' })]),
    ],
    [
      'a durability there is not',
      422,
      'DURABILITY_NOT_POSSIBLE',
      'line 2: ',
      ndjson([item(0), item(0, { durability: 'x' })]),
    ],
    ['too many lines', 413, 'TOO_MANY_LINES', 'more than 200', ndjson(Array(201).fill(item(0)))],
    [
      'too many recipients together',
      413,
      'TOO_MANY_RECIPIENTS',
      'line 2: more than 1000',
      ndjson([
        item(0, { rcptto: Array(600).fill('a@b') }),
        item(0, { rcptto: Array(401).fill('a@b') }),
      ]),
    ],
    ['nothing', 400, 'NO_MESSAGES', '', '\n\n'],
  ]
  it('with anything wrong is refused whole, naming the line', async () => {
    const api = await startApi()
    for (const [name, status, code, detail, payload] of wrong) {
      const response = await post(api, payload, 'application/x-ndjson', '/v1/messages/batch')
      expect(response.json(), name).toMatchObject({
        status,
        code,
        detail: expect.stringContaining(detail),
      })
    }
    await expectEmpty(api)
  })

  it('names the item of an array, and is bounded', async () => {
    const api = await startApi()
    const send = (items: unknown) =>
      post(api, JSON.stringify(items), 'application/json', '/v1/messages/batch')
    const staged = { content: undefined, content_base64: randomBytes(400_000).toString('base64') }
    expect((await send([item(0, staged), item(1, { binding: '\n' })])).json()).toMatchObject({
      status: 400,
      code: 'SPOOL_ERR_INVALID',
      detail: expect.stringContaining('item 2: binding: '),
    })
    expect((await send([item(0), { ...item(1), rcptto: [] }])).json()).toMatchObject({
      status: 400,
      errors: [{ where: 'body.1.rcptto' }],
    })
    expect((await send([])).statusCode).toBe(400)
    expect((await send(Array(201).fill(item(0)))).statusCode).toBe(400)
    expect((await send(item(0))).statusCode).toBe(400)
    expect(
      (
        await post(
          api,
          'x'.repeat(MAX_BUFFERED_BODY + 1),
          'application/x-ndjson',
          '/v1/messages/batch',
        )
      ).statusCode,
    ).toBe(413)
    expect((await post(api, MAIL, 'message/rfc822', '/v1/messages/batch')).statusCode).toBe(415)
    await expectEmpty(api)
  })

  it('is not taken while the service is not ready', async () => {
    const api = await startApi()
    api.notReady.push({ code: 'low_space', detail: 'no room', retryAfter: 1 })
    const response = await post(
      api,
      ndjson([item(0)]),
      'application/x-ndjson',
      '/v1/messages/batch',
    )
    expect(response.json()).toMatchObject({ status: 503, code: 'NOT_READY' })
    expect(response.headers['retry-after']).toMatch(/^\d+$/)
  })
})

describe('envelopes', () => {
  it('have a null sender, however it is written', async () => {
    const api = await startApi()
    const json = (mailfrom: string) =>
      post(api, JSON.stringify({ mailfrom, rcptto: ['b@c.d'], content: '' }), 'application/json')
    const rfc822 = (from: string) =>
      post(api, MAIL, 'message/rfc822', `/v1/messages?from=${from}&to=b@c.d`)
    for (const response of [
      await json(''),
      await json('<>'),
      await rfc822(''),
      await rfc822('%3C%3E'),
    ]) {
      const { ids } = response.json()
      expect((await api.spool.meta(ids[0])).mailfrom).toBe('')
    }
  })

  it('are refused with angle brackets, with which nobody would get the mail', async () => {
    const api = await startApi()
    const json = (mailfrom: string, rcptto: string[]) => ({ mailfrom, rcptto, content: 'x' })
    for (const payload of [json('<a@b.c>', ['b@c.d']), json('a@b.c', ['b@c.d', '<c@d.e>'])]) {
      const one = { method: 'POST', url: '/v1/messages', payload } as const
      const many = { ...one, url: '/v1/messages/batch', payload: [payload] }
      for (const request of [one, many]) {
        const response = await api.app.inject(request)
        expect(response.statusCode).toBe(400)
        expect(response.json()).toMatchObject({
          code: 'INVALID_ENVELOPE',
          detail: expect.stringMatching(/(mailfrom|rcptto\[1\]): .* brackets: (a@b\.c|c@d\.e)$/),
        })
      }
    }
    expect(await api.spool.stats()).toMatchObject({ messages: 0 })
  })

  it('are refused with addresses that nobody can deliver to', async () => {
    const api = await startApi()
    for (const address of ['b@', '@c.d', '@']) {
      for (const payload of [
        { mailfrom: 'a@b.c', rcptto: ['b@c.d', address], content: 'x' },
        { mailfrom: address, rcptto: ['b@c.d'], content: 'x' },
      ]) {
        const response = await api.app.inject({ method: 'POST', url: '/v1/messages', payload })
        expect(response.json(), address).toMatchObject({ status: 400, code: 'INVALID_ENVELOPE' })
      }
    }
    const plus = await post(api, MAIL, 'message/rfc822', '/v1/messages?from=&to=b+tag@c.d')
    expect(plus.statusCode).toBe(400)
    expect(plus.json().detail).toMatch(/%2B/)
    expect(await api.spool.stats()).toMatchObject({ messages: 0 })
    for (const meant of ['b%20tag@c.d', '%22b+tag%22@c.d', 'b%2Btag@c.d']) {
      const taken = await post(api, MAIL, 'message/rfc822', `/v1/messages?from=&to=${meant}`)
      expect(taken.statusCode, meant).toBe(201)
    }
  })

  it('have SMTPUTF8 addresses, in query and JSON', async () => {
    const api = await startApi()
    const addresses = [
      'δοκιμή@παράδειγμα.δοκιμή',
      '用户@例子.广告',
      '"a b+c&d=e"@example.com',
      'Ü%@x',
      '"@ \\" "@[192.0.2.1]',
      'postmaster',
    ]
    const query = addresses.map((address) => `to=${encodeURIComponent(address)}`).join('&')
    const from = encodeURIComponent(addresses[0]!)
    const first = await post(api, MAIL, 'message/rfc822', `/v1/messages?from=${from}&${query}`)
    const payload = { mailfrom: addresses[0], rcptto: addresses, content: 'x' }
    const second = await post(api, JSON.stringify(payload), 'application/json')
    for (const response of [first, second]) {
      const metas = await Promise.all(response.json().ids.map((id: string) => api.spool.meta(id)))
      expect(metas.map(({ rcptto }) => rcptto)).toEqual(addresses)
      expect(metas[0].mailfrom).toBe(addresses[0])
    }
  })

  it('have 1,000 recipients, in query, JSON and a form', async () => {
    const api = await startApi()
    const rcptto = Array.from({ length: 1000 }, (_, i) => `recipient${i}@example.net`)
    const query = rcptto.map((address) => `to=${address}`).join('&')
    const json = { mailfrom: '', rcptto }
    for (const response of [
      await post(api, MAIL, 'message/rfc822', `/v1/messages?from=&${query}`),
      await post(api, JSON.stringify({ ...json, content: 'x' }), 'application/json'),
      await post(api, form([meta(json), message()])),
    ]) {
      expect(response.json().ids).toHaveLength(1000)
      expect((await api.spool.meta(response.json().ids[999])).rcptto).toBe(rcptto[999])
    }
  })
})

describe('on the wire', () => {
  const folded = Buffer.from(
    'Received: from a (a [192.0.2.1])\r\n\tby b with ESMTP\r\n  id 1;\r\n x\nSubject: =?utf-8?q?a?=\n folded\n\n.\r\n..\rlone CR\n',
  )

  it('takes chunks of any size, as CHUNKING front ends send them', async () => {
    const api = await startApi()
    const { host, port } = await api.listen()
    const body = Buffer.concat([folded, randomBytes(300_000)])
    for (const size of [1, 7, 4096, 200_000]) {
      const sent = size < 10 ? folded : body
      const request = httpRequest({
        ...{ host, port, method: 'POST', path: ENVELOPE },
        headers: { 'content-type': 'message/rfc822', 'transfer-encoding': 'chunked' },
      })
      for (let at = 0; at < sent.length; at += size) request.write(sent.subarray(at, at + size))
      request.end()
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      expect(response.statusCode).toBe(201)
      const { ids } = JSON.parse((await response.toArray()).join('')) as { ids: string[] }
      expect((await contentOf(api, ids[0]!)).equals(sent)).toBe(true)
    }
  })

  it('asks for the body of who expects it, and does not when it will not take it', async () => {
    const api = await startApi()
    const { host, port } = await api.listen()
    const send = async (path: string, length = folded.length) => {
      let continued = false
      const request = httpRequest({
        ...{ host, port, method: 'POST', path },
        headers: {
          ...{ 'content-type': 'message/rfc822', 'content-length': length },
          expect: '100-continue',
        },
      })
      request.on('continue', () => {
        continued = true
        request.end(folded)
      })
      request.flushHeaders()
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      const answer = JSON.parse((await response.toArray()).join('')) as Record<string, unknown>
      request.destroy()
      return { continued, status: response.statusCode, answer }
    }
    const taken = await send(ENVELOPE)
    expect(taken).toMatchObject({ continued: true, status: 201 })
    const [id] = taken.answer.ids as string[]
    expect((await contentOf(api, id!)).equals(folded)).toBe(true)
    expect(await send('/v1/messages?to=b@c.d')).toMatchObject({ continued: false, status: 400 })
    expect(await send(ENVELOPE, MAX_MESSAGE_SIZE + 1)).toMatchObject({
      continued: false,
      status: 413,
      answer: { code: 'SPOOL_ERR_TOO_LARGE' },
    })
    for (const wrong of ['', 'a%0db', '<b@c.d>']) {
      const answer = await send(`/v1/messages?from=a@b.c&to=b@c.d&to=${wrong}`)
      expect(answer).toMatchObject({ continued: false, status: 400 })
      expect(answer.answer.detail).toMatch(/^rcptto\[1\]: /)
    }
    api.notReady.push({ code: 'low_space', detail: 'no room', retryAfter: 1 })
    expect(await send(ENVELOPE)).toMatchObject({ continued: false, status: 503 })
    expect(await api.spool.stats()).toMatchObject({ messages: 1 })
  })
})
