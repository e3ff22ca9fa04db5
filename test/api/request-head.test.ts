import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'

const MAIL = 'Subject: x\r\n\r\nbody\r\n'
const ENVELOPE = '/v1/messages?from=a@example.com&to=b@example.net'
const RFC822 = { 'content-type': 'message/rfc822' }

async function inject(api: TestApi, headers: Record<string, string>, url = ENVELOPE) {
  return api.app.inject({ method: 'POST', url, headers: { ...RFC822, ...headers }, payload: MAIL })
}

async function expectNothing(api: TestApi): Promise<void> {
  expect(await api.spool.stats()).toMatchObject({ messages: 0, bodies: 0 })
}

describe('a request whose body is not what is to be stored', () => {
  it('is refused when it is compressed, whatever the call', async () => {
    const api = await startApi()
    await api.journals.create('log')
    const gzip = { 'content-encoding': 'gzip' }
    const json = { ...gzip, 'content-type': 'application/json' }
    for (const [url, headers, payload] of [
      [ENVELOPE, { ...RFC822, ...gzip }, gzipSync(MAIL)],
      [ENVELOPE, { ...RFC822, 'content-encoding': 'GZIP, br' }, gzipSync(MAIL)],
      ['/v1/messages', json, gzipSync('{}')],
      ['/v1/journals/log/records', { ...gzip, 'content-type': 'application/octet-stream' }, 'x'],
    ] as const) {
      const refused = await api.app.inject({ method: 'POST', url, headers, payload })
      expect(refused.statusCode, url).toBe(415)
      expect(refused.json()).toMatchObject({ code: 'CONTENT_ENCODING' })
      expect(refused.headers['accept-encoding']).toBe('identity')
    }
    await expectNothing(api)
    expect((await api.app.inject({ url: '/v1/journals/log' })).json()).toMatchObject({ records: 0 })
    expect((await inject(api, { 'content-encoding': 'Identity' })).statusCode).toBe(201)
  })

  it('is refused when a transfer coding beside the chunks would stay in it', async () => {
    const api = await startApi()
    const { host, port } = await api.listen()
    const send = async (coding: string) => {
      const socket = connect(port, host)
      socket.write(
        `POST ${ENVELOPE} HTTP/1.1\r\nHost: x\r\nContent-Type: message/rfc822\r\nConnection: close\r\nTransfer-Encoding: ${coding}\r\n\r\n2\r\nhi\r\n0\r\n\r\n`,
      )
      return String((await socket.setEncoding('utf8').toArray()).join(''))
    }
    const refused = await send('gzip, chunked')
    expect(refused).toMatch(/^HTTP\/1.1 501 /)
    expect(refused).toContain('TRANSFER_ENCODING')
    await expectNothing(api)
  })

  it('is refused when it is a part, and the rest of the content stays as it is', async () => {
    const api = await startApi()
    const [id] = (await inject(api, {})).json<{ ids: string[] }>().ids
    const url = `/v1/messages/${id}/content`
    const headers = { ...RFC822, 'content-range': 'bytes 0-1/20' }
    const refused = await api.app.inject({ method: 'PUT', url, headers, payload: 'zz' })
    expect(refused.json()).toMatchObject({ status: 400, code: 'PARTIAL_PUT' })
    expect((await api.app.inject({ url })).payload).toBe(MAIL)
  })
})

describe('a body whose length nobody says', () => {
  it.each(['1.0', '1.1'])('is not stored as an empty one: HTTP/%s', async (version) => {
    const api = await startApi()
    await api.journals.create('log')
    const { host, port } = await api.listen()
    const [id] = (await inject(api, {})).json<{ ids: string[] }>().ids
    for (const [line, type] of [
      [`POST ${ENVELOPE}`, 'message/rfc822'],
      [`PUT /v1/messages/${id}/content`, 'Message/RFC822; x=y'],
      ['POST /v1/journals/log/records', 'application/octet-stream'],
      [`PUT /v1/messages/${id}/context/mess/k`, 'text/plain'],
    ]) {
      const socket = connect(port, host)
      socket.write(`${line} HTTP/${version}\r\nHost: x\r\nContent-Type: ${type}\r\n\r\nbody`)
      expect((await socket.setEncoding('utf8').toArray()).join('')).toMatch(/^HTTP\/1.1 4\d\d /)
    }
    expect(await api.spool.meta(id!)).toMatchObject({ size: MAIL.length, version: 1 })
    expect(await api.spool.stats()).toMatchObject({ messages: 1 })
    // Who only reads, or removes, may name a type all the same.
    const headers = { 'content-type': 'message/rfc822' }
    const url = `/v1/messages/${id}`
    expect((await api.app.inject({ url, headers })).statusCode).toBe(200)
    expect((await api.app.inject({ method: 'DELETE', url, headers })).statusCode).toBe(204)
    expect((await api.app.inject({ url: '/v1/journals/log' })).json()).toMatchObject({ records: 0 })
  })
})

describe('a head that HTTP does not allow', () => {
  it.each([
    ['GET /healthz HTTP/1.1', 400, 'HOST_MISSING'],
    [
      `POST ${ENVELOPE} HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 5`,
      417,
      'EXPECTATION_FAILED',
    ],
    [
      `POST ${ENVELOPE} HTTP/1.1\r\nHost: x\r\nContent-Type: message/rfc822`,
      411,
      'LENGTH_REQUIRED',
    ],
  ])('is told so in a problem document: %s', async (head, status, code) => {
    const api = await startApi()
    const { host, port } = await api.listen()
    const socket = connect(port, host)
    socket.write(`${head}\r\nConnection: close\r\n\r\n`)
    const answer = String((await socket.setEncoding('utf8').toArray()).join(''))
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} .*application/problem\\+json`, 's'))
    expect(answer).toContain(`"code":"${code}"`)
  })
})

describe('an address in the query', () => {
  it.each(['%E9@example.net', '%ff', 'a%zz@example.net', 'a%', '%C0%AE@example.net'])(
    'that is no text is refused: %s',
    async (to) => {
      const api = await startApi()
      const refused = await inject(api, {}, `/v1/messages?from=&to=${to}`)
      expect(refused.json()).toMatchObject({ status: 400, code: 'INVALID_QUERY' })
      await expectNothing(api)
    },
  )

  it('is the text that it stands for', async () => {
    const api = await startApi()
    const [id] = (await inject(api, {}, '/v1/messages?from=&to=%C3%A9%25@example.net')).json().ids
    expect(await api.spool.meta(id)).toMatchObject({ rcptto: 'é%@example.net' })
  })
})

describe('a content type in other letters', () => {
  it.each(['Message/RFC822', 'MULTIPART/form-data; boundary=q'])(
    'is streamed all the same, and counts as little: %s',
    async (type) => {
      const api = await startApi({ maxInFlight: 1_000_000 })
      const { host, port } = await api.listen()
      const headers = { 'content-type': type, 'content-length': '1500000' }
      const path = type.startsWith('Message') ? ENVELOPE : '/v1/messages'
      const slow = request({ host, port, path, method: 'POST', headers, agent: false })
      slow.on('error', () => undefined)
      slow.write('--q\r\n')
      await once(api.app.server, 'request')
      expect((await inject(api, {})).statusCode).toBe(201)
      slow.destroy()
    },
  )

  it('replaces a content', async () => {
    const api = await startApi()
    const [id] = (await inject(api, {})).json<{ ids: string[] }>().ids
    const url = `/v1/messages/${id}/content`
    const headers = { 'content-type': 'MESSAGE/rfc822; charset=utf-8' }
    const replaced = await api.app.inject({ method: 'PUT', url, headers, payload: 'new' })
    expect(replaced.statusCode).toBe(200)
    expect((await api.app.inject({ url })).payload).toBe('new')
  })
})
