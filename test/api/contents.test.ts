import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkSpool } from '../../spool/index.js'
import { MAX_MESSAGE_SIZE, startApi, type TestApi } from '../support/api.js'

const RFC822 = { 'content-type': 'message/rfc822' }
const UNKNOWN = '019a0000-0000-7000-8000-000000000000'
const MAIL = Buffer.from('Subject: old\r\n\r\nold\r\n')

const etagOf = (body: Buffer) => `"${createHash('sha256').update(body).digest('hex')}"`
const at = (id: string, path = 'content') => `/v1/messages/${id}/${path}`

async function start(body = MAIL) {
  const api = await startApi()
  const rcptto = ['a@example.net', 'b@example.net']
  const { ids } = await api.spool.swapOut({ mailfrom: 'x@example.com', rcptto, body })
  return { api, ids: ids as [string, string] }
}

async function expectSound(api: TestApi): Promise<void> {
  await api.close()
  expect(await checkSpool(join(api.data, 'spool'))).toMatchObject({ problems: [] })
}

const replace = (api: TestApi, id: string, payload: Buffer, headers = {}) =>
  api.app.inject({ method: 'PUT', url: at(id), headers: { ...RFC822, ...headers }, payload })

describe('PUT content', () => {
  it.each([100, 700_000])('of %i bytes replaces it for this message alone', async (size) => {
    const { api, ids } = await start()
    const body = randomBytes(size)
    const response = await replace(api, ids[0], body)
    expect(response.statusCode).toBe(200)
    expect(response.headers.etag).toBe(etagOf(body))
    expect(response.json()).toMatchObject({ result: 'complete', version: 2, size })
    const [mine, other] = await Promise.all(ids.map((id) => api.app.inject({ url: at(id) })))
    expect(mine!.rawPayload.equals(body)).toBe(true)
    expect(other!.rawPayload.equals(MAIL)).toBe(true)
    await expectSound(api)
  })

  it('is refused when the content is another, too large, no mail, or of no message', async () => {
    const { api, ids } = await start()
    const stale = await replace(api, ids[0], MAIL, { 'if-match': etagOf(Buffer.from('x')) })
    expect(stale.statusCode).toBe(412)
    const malformed = await replace(api, ids[0], MAIL, { 'if-match': '"1"' })
    expect(malformed.statusCode).toBe(400)
    const large = await replace(api, ids[0], Buffer.alloc(MAX_MESSAGE_SIZE + 1))
    expect(large.statusCode).toBe(413)
    const json = await replace(api, ids[0], Buffer.from('{}'), {
      'content-type': 'application/json',
    })
    expect(json.statusCode).toBe(415)
    expect((await replace(api, UNKNOWN, randomBytes(300_000))).statusCode).toBe(404)
    const fresh = await replace(api, ids[0], MAIL, { 'if-match': etagOf(MAIL) })
    expect(fresh.statusCode).toBe(200)
    await expectSound(api)
  })
})

it('PUT content with If-None-Match: * replaces none', async () => {
  const { api, ids } = await start()
  const onlyNew = { 'if-none-match': '*' }
  expect((await replace(api, ids[0], Buffer.from('x'), onlyNew)).statusCode).toBe(412)
  expect((await api.app.inject({ url: at(ids[0]) })).rawPayload.equals(MAIL)).toBe(true)
  await api.app.inject({ method: 'DELETE', url: at(ids[0]) })
  expect((await replace(api, ids[0], Buffer.from('x'), onlyNew)).statusCode).toBe(200)
  expect((await replace(api, ids[0], Buffer.from('y'), onlyNew)).statusCode).toBe(412)
  const tag = { 'if-none-match': etagOf(MAIL) }
  expect((await replace(api, ids[0], Buffer.from('y'), tag)).json()).toMatchObject({
    status: 400,
    code: 'INVALID_IF_NONE_MATCH',
  })
  expect((await api.app.inject({ url: at(ids[0]) })).payload).toBe('x')
  await expectSound(api)
})

it('DELETE content drops it and keeps the meta', async () => {
  const { api, ids } = await start()
  const response = await api.app.inject({ method: 'DELETE', url: at(ids[0]) })
  expect(response.statusCode).toBe(204)
  expect((await api.app.inject({ url: at(ids[0]) })).statusCode).toBe(404)
  expect((await api.app.inject({ method: 'DELETE', url: at(ids[0]) })).statusCode).toBe(404)
  const meta = await api.app.inject({ url: at(ids[0], 'meta') })
  expect(meta.json()).toMatchObject({ size: 0, sha256: null, rcptto: 'a@example.net' })
  expect((await api.app.inject({ url: at(ids[1]) })).rawPayload.equals(MAIL)).toBe(true)
  await expectSound(api)
})

it.each(['', '?share=true'])('POST copy%s gives a message of its own', async (query) => {
  const { api, ids } = await start()
  const response = await api.app.inject({ method: 'POST', url: at(ids[0], `copy${query}`) })
  expect(response.statusCode).toBe(201)
  const [copy] = response.json<{ ids: string[] }>().ids
  expect(ids).not.toContain(copy)
  expect((await api.app.inject({ url: at(copy!) })).rawPayload.equals(MAIL)).toBe(true)
  expect(await api.spool.stats()).toMatchObject({ messages: 3, bodies: query === '' ? 2 : 1 })
  const unknown = await api.app.inject({ method: 'POST', url: at(UNKNOWN, 'copy') })
  expect(unknown.statusCode).toBe(404)
  await expectSound(api)
})

it('POST messages takes refs for the content of another message', async () => {
  const { api, ids } = await start()
  const envelope = { mailfrom: '', rcptto: ['c@example.net'] }
  const inject = (more: object) =>
    api.app.inject({ method: 'POST', url: '/v1/messages', payload: { ...envelope, ...more } })
  const response = await inject({ refs: ids[0] })
  expect(response.statusCode).toBe(201)
  expect(response.json()).toMatchObject({ size: MAIL.length })
  expect(await api.spool.stats()).toMatchObject({ messages: 3, bodies: 1 })
  expect((await inject({ refs: UNKNOWN })).statusCode).toBe(404)
  expect((await inject({ refs: 'x' })).statusCode).toBe(400)
  expect((await inject({ refs: ids[0], content: '' })).statusCode).toBe(400)
  await expectSound(api)
})
