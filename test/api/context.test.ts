import type { InjectOptions } from 'fastify'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'

const UNKNOWN = '019a0000-0000-7000-8000-000000000000'

async function start(mess: Record<string, string> = {}) {
  const api = await startApi()
  const { ids } = await api.spool.swapOut({
    mailfrom: '',
    rcptto: ['b@example.net'],
    body: Buffer.from('x'),
    context: { mess },
  })
  return { api, id: ids[0]!, url: `/v1/messages/${ids[0]!}/context/mess` }
}

const put = (api: TestApi, url: string, value: unknown, more: InjectOptions = {}) =>
  api.app.inject({
    method: 'PUT',
    url,
    payload: JSON.stringify(value),
    ...more,
    headers: { 'content-type': 'application/json', ...more.headers },
  })

describe('a key of a dictionary', () => {
  it('is set once, and replaced when asked', async () => {
    const { api, url } = await start()
    const created = await put(api, `${url}/key`, 'one')
    expect(created.statusCode).toBe(201)
    expect(created.json()).toEqual({ result: 'complete', version: 2 })
    expect(created.headers.etag).toBe('"2"')
    const again = await put(api, `${url}/key`, 'two')
    expect(again.statusCode).toBe(409)
    expect(again.json()).toMatchObject({ code: 'SPOOL_ERR_EXISTS' })
    const replaced = await put(api, `${url}/key?replace=true`, 'two')
    expect(replaced.statusCode).toBe(200)
    expect((await api.app.inject({ url: `${url}/key` })).json()).toBe('two')
  })

  it('is a JSON string or text', async () => {
    const { api, url } = await start()
    const value = 'Grüße, "你好"\n'
    const text = { 'content-type': 'text/plain; charset=utf-8' }
    await api.app.inject({ method: 'PUT', url: `${url}/k`, headers: text, payload: value })
    const json = await api.app.inject({ url: `${url}/k` })
    expect(json.headers['content-type']).toContain('application/json')
    expect(json.json()).toBe(value)
    const plain = await api.app.inject({ url: `${url}/k`, headers: { accept: 'text/plain' } })
    expect(plain.headers['content-type']).toContain('text/plain')
    expect(plain.payload).toBe(value)
    const none = { ...text, 'content-length': '0' }
    await api.app.inject({ method: 'PUT', url: `${url}/empty`, headers: none, payload: '' })
    expect((await api.app.inject({ url: `${url}/empty` })).json()).toBe('')
  })

  it.each(['a/b', 'ä', '你好', '%', 'a b?c#d', '"', '\n', 'x'.repeat(255), '\u{1f600}'.repeat(63)])(
    'may be any UTF-8: %j',
    async (key) => {
      const { api, url } = await start()
      const at = `${url}/${encodeURIComponent(key)}`
      expect((await put(api, at, 'v')).statusCode).toBe(201)
      expect((await api.app.inject({ url: at })).json()).toBe('v')
      expect((await api.app.inject({ url })).json()).toEqual({ [key]: 'v' })
      expect((await api.app.inject({ method: 'DELETE', url: at })).statusCode).toBe(200)
      expect((await api.app.inject({ url: at })).statusCode).toBe(404)
      expect((await api.app.inject({ method: 'DELETE', url: at })).statusCode).toBe(404)
    },
  )

  it('is set unforced with 202, and only at the version asked for', async () => {
    const { api, url } = await start()
    const partial = await put(api, `${url}/k?force=false`, 'v')
    expect(partial.statusCode).toBe(202)
    expect(partial.json()).toEqual({ result: 'partial', version: 2 })
    const stale = await put(api, `${url}/l`, 'v', { headers: { 'if-match': '"1"' } })
    expect(stale.statusCode).toBe(412)
    const fresh = await put(api, `${url}/l`, 'v', { headers: { 'if-match': '"2"' } })
    expect(fresh.statusCode).toBe(201)
  })

  it.each<[string, number, string, InjectOptions]>([
    ['no string', 400, 'k', { payload: '5' }],
    ['an object', 400, 'k', { payload: '{}' }],
    ['malformed JSON', 400, 'k', { payload: '"' }],
    [
      'text that is not UTF-8',
      400,
      'k',
      { payload: Buffer.from([0xff]), headers: { 'content-type': 'text/plain' } },
    ],
    ['another content type', 415, 'k', { payload: 'x', headers: { 'content-type': 'text/html' } }],
    ['a key too long', 400, 'x'.repeat(256), {}],
    ['values too long', 400, 'k', { payload: JSON.stringify('x'.repeat(65_536)) }],
    ['an unknown query', 400, 'k?replce=true', {}],
  ])('is refused with %s', async (_what, status, key, more) => {
    const { api, url } = await start()
    const response = await put(api, `${url}/${key}`, 'v', more)
    expect(response.statusCode).toBe(status)
    expect(response.headers['content-type']).toContain('application/problem+json')
    expect((await api.app.inject({ url })).json()).toEqual({})
  })
})

describe('a dictionary', () => {
  it('is given in key order', async () => {
    const { api, url } = await start({ b: '1', '10': '2', '9': '3', a: '4' })
    const response = await api.app.inject({ url })
    expect(response.payload).toBe('{"10":"2","9":"3","a":"4","b":"1"}')
    expect(response.headers['content-type']).toContain('application/json')
  })

  it('is set whole, and emptied', async () => {
    const { api, url } = await start({ old: '1' })
    expect((await put(api, url, { a: 'b' })).statusCode).toBe(409)
    expect((await put(api, `${url}?replace=true`, { a: 'b' })).statusCode).toBe(200)
    expect((await api.app.inject({ url })).json()).toEqual({ a: 'b' })
    expect((await put(api, `${url}?replace=true`, { a: 1 })).statusCode).toBe(400)
    const cleaned = await api.app.inject({ method: 'DELETE', url })
    expect(cleaned.json()).toEqual({ result: 'complete', version: 3 })
    expect((await api.app.inject({ url })).json()).toEqual({})
  })

  it('is conn or mess, of a message that exists', async () => {
    const { api, id } = await start()
    expect((await api.app.inject({ url: `/v1/messages/${id}/context/x` })).statusCode).toBe(400)
    for (const method of ['GET', 'DELETE'] as const) {
      const url = `/v1/messages/${UNKNOWN}/context/conn`
      expect((await api.app.inject({ method, url })).statusCode).toBe(404)
      expect((await api.app.inject({ method, url: `${url}/k` })).statusCode).toBe(404)
    }
    const response = await put(api, `/v1/messages/${UNKNOWN}/context/conn/k`, 'v')
    expect(response.statusCode).toBe(404)
  })
})
