import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readRecords } from '../../jlog/index.js'
import { checkSpool } from '../../spool/index.js'
import { startApi, type TestApi } from '../support/api.js'

const UNKNOWN = '019a0000-0000-7000-8000-000000000000'

async function store(api: TestApi, count = 1, more = {}): Promise<string[]> {
  const rcptto = Array.from({ length: count }, (_, i) => `r${i}@example.net`)
  const payload = { mailfrom: 's@example.com', rcptto, content: 'x', ...more }
  const response = await api.app.inject({ method: 'POST', url: '/v1/messages', payload })
  return response.json<{ ids: string[] }>().ids
}

const post = (api: TestApi, url: string, payload: object) =>
  api.app.inject({ method: 'POST', url, payload })

const bulk = (api: TestApi, lines: (object | string)[]) =>
  api.app.inject({
    method: 'POST',
    url: '/v1/events',
    headers: { 'content-type': 'application/x-ndjson' },
    payload: lines.map((l) => (typeof l === 'string' ? l : JSON.stringify(l))).join('\n'),
  })

/** What was logged beside receptions, once everything is relayed and closed. */
async function logged(api: TestApi, journal = 'mainlog'): Promise<Record<string, unknown>[]> {
  await api.close()
  expect(await checkSpool(join(api.data, 'spool'))).toMatchObject({ problems: [] })
  const records: Record<string, unknown>[] = []
  for await (const batch of readRecords(join(api.data, 'journals', journal))) {
    for (const { payload } of batch) records.push(JSON.parse(payload.toString()))
  }
  return records.filter(({ type }) => type !== 'reception')
}

describe('/v1/claims', () => {
  it('leases, extends and releases', async () => {
    const api = await startApi()
    const ids = await store(api, 3)
    const claim = await post(api, '/v1/claims', { limit: 2, lease_seconds: 60, owner: 'mta1' })
    expect(claim.statusCode).toBe(200)
    const { lease, until, messages } = claim.json()
    expect(messages.map(({ id }: { id: string }) => id)).toEqual(ids.slice(0, 2))
    expect(messages[0]).toMatchObject({ lease, state: 'leased', rcptto: 'r0@example.net' })
    expect(Date.parse(until)).toBeGreaterThan(Date.now() + 30_000)

    const extended = await api.app.inject({
      method: 'PATCH',
      url: `/v1/claims/${lease.toUpperCase()}`,
      payload: { lease_seconds: 600 },
    })
    expect(extended.json()).toMatchObject({ lease, ids: ids.slice(0, 2) })
    expect(Date.parse(extended.json().until)).toBeGreaterThan(Date.parse(until))

    const release = () => api.app.inject({ method: 'DELETE', url: `/v1/claims/${lease}` })
    expect((await release()).statusCode).toBe(204)
    expect((await release()).statusCode).toBe(404)
    const all = await post(api, '/v1/claims', {})
    expect(all.json().messages).toHaveLength(3)
    expect((await post(api, '/v1/claims', {})).json()).toMatchObject({ lease: null, messages: [] })
  })

  it('takes a domain and a binding', async () => {
    const api = await startApi()
    await store(api)
    const [id] = await store(api, 1, { binding: 'vip' })
    const claim = await post(api, '/v1/claims', { domain: 'example.net', binding: 'vip' })
    expect(claim.json().messages).toMatchObject([{ id, binding: 'vip' }])
  })

  it.each([{ limit: 0 }, { lease_seconds: 0 }, { lease_seconds: 50_000 }, { limits: 1 }])(
    'refuses %j',
    async (payload) => {
      const api = await startApi()
      const response = await post(api, '/v1/claims', payload)
      expect(response.statusCode).toBe(400)
      expect(response.headers['content-type']).toMatch(/^application\/problem\+json/)
    },
  )

  it('keeps a message that is to be removed when free, until the lease lets go', async () => {
    const api = await startApi()
    const [leased, free] = await store(api, 2)
    const { lease } = (await post(api, '/v1/claims', { limit: 1 })).json()
    const remove = (id: string) =>
      api.app.inject({ method: 'DELETE', url: `/v1/messages/${id}?when_free=true` })
    expect((await remove(leased!)).statusCode).toBe(202)
    expect((await remove(free!)).statusCode).toBe(204)
    expect((await api.app.inject({ url: `/v1/messages/${leased}/content` })).statusCode).toBe(200)
    await api.app.inject({ method: 'DELETE', url: `/v1/claims/${lease}` })
    expect((await remove(leased!)).statusCode).toBe(404)
  })

  it('knows no other claims', async () => {
    const api = await startApi()
    for (const token of [UNKNOWN, 'nonsense']) {
      const url = `/v1/claims/${token}`
      expect((await api.app.inject({ method: 'DELETE', url })).statusCode).toBe(404)
      const payload = { lease_seconds: 1 }
      expect((await api.app.inject({ method: 'PATCH', url, payload })).statusCode).toBe(404)
    }
  })
})

describe('/v1/messages/{id}/events', () => {
  it('logs and removes what was delivered, for whoever holds the lease', async () => {
    const api = await startApi()
    const [id] = await store(api)
    const { lease } = (await post(api, '/v1/claims', {})).json()
    const url = `/v1/messages/${id}/events`
    const lost = await post(api, url, { type: 'delivery', lease: UNKNOWN })
    expect(lost.statusCode).toBe(409)
    expect(lost.json()).toMatchObject({ code: 'SPOOL_ERR_LEASE' })
    expect(
      (await post(api, url, { type: 'attempt', lease, peer: '192.0.2.1' })).json(),
    ).toMatchObject({ outcome: 'logged' })
    const delivered = await post(api, url, { type: 'delivery', lease, peer: '192.0.2.1' })
    expect(delivered.json()).toEqual({ result: 'complete', outcome: 'removed', next_attempt: null })
    expect((await post(api, url, { type: 'delivery', lease })).statusCode).toBe(404)
    expect(await logged(api)).toMatchObject([
      { type: 'attempt', id, retries: 0, peer: '192.0.2.1', domain: 'example.net' },
      { type: 'delivery', id, retries: 0, mailfrom: 's@example.com', rcptto: 'r0@example.net' },
    ])
  })

  it('defers by the schedule or as given, and counts', async () => {
    const api = await startApi()
    const [id] = await store(api)
    const url = `/v1/messages/${id}/events`
    const before = Date.now()
    const first = await post(api, url, { type: 'transient_failure', stage: 3, note: '451 later' })
    expect(first.json().outcome).toBe('deferred')
    const next = Date.parse(first.json().next_attempt)
    expect(next).toBeGreaterThanOrEqual(before + 300_000)
    expect(next).toBeLessThanOrEqual(Date.now() + 300_000)
    const given = { type: 'transient_failure', next_attempt: '2099-01-01T00:00:00Z', bytes_sent: 7 }
    expect((await post(api, url, given)).json().next_attempt).toBe('2099-01-01T00:00:00.000Z')
    expect(await api.spool.meta(id!)).toMatchObject({ state: 'deferred', retries: 2 })
    expect(
      (await post(api, url, { type: 'permanent_failure', note: '550 no' })).json(),
    ).toMatchObject({ outcome: 'removed' })
    expect(await logged(api)).toMatchObject([
      { type: 'transient_failure', retries: 0, stage: 3, note: '451 later', bytes_sent: 0 },
      { type: 'transient_failure', retries: 1, stage: 22, note: '', bytes_sent: 7 },
      { type: 'permanent_failure', retries: 2, note: '550 no' },
    ])
  })

  it.each([
    { type: 'reception' },
    { type: 'delivery', stage: 23 },
    { type: 'delivery', lease: 'x' },
    { type: 'delivery', next_attempt: 5 },
    { type: 'transient_failure', next_attempt: 'soon' },
    { typ: 'delivery' },
    {},
  ])('refuses %j, and does nothing', async (payload) => {
    const api = await startApi()
    const [id] = await store(api)
    const response = await post(api, `/v1/messages/${id}/events`, payload)
    expect(response.statusCode).toBe(400)
    expect(await api.spool.meta(id!)).toMatchObject({ version: 1 })
    expect(await logged(api)).toEqual([])
  })
})

describe('POST /v1/events', () => {
  it('answers each line in order, and lines do not depend on each other', async () => {
    const api = await startApi()
    const [a, b, c] = await store(api, 3)
    const response = await bulk(api, [
      { id: a, type: 'delivery', peer: '192.0.2.1' },
      { id: UNKNOWN, type: 'delivery' },
      { id: b, type: 'transient_failure', next_attempt: '2099-01-01T00:00:00Z' },
      { id: b, type: 'delivery', lease: UNKNOWN },
      '',
      {
        type: 'rejection',
        mailfrom: 'x@y.example',
        peer: '192.0.2.9',
        note: '550 relaying denied',
      },
      { id: c, type: 'permanent_failure' },
    ])
    expect(response.statusCode).toBe(200)
    expect(response.json()).toMatchObject({
      results: [
        { id: a, result: 'complete', outcome: 'removed' },
        { id: UNKNOWN, result: 'error', status: 404, code: 'SPOOL_ERR_NOT_FOUND' },
        {
          id: b,
          result: 'complete',
          outcome: 'deferred',
          next_attempt: '2099-01-01T00:00:00.000Z',
        },
        { id: b, result: 'error', status: 409, code: 'SPOOL_ERR_LEASE' },
        { result: 'complete', outcome: 'logged' },
        { id: c, result: 'complete', outcome: 'removed' },
      ],
      failed: 2,
    })
    expect((await api.spool.stats()).messages).toBe(1)
    expect((await logged(api)).map(({ type }) => type)).toEqual([
      'delivery',
      'transient_failure',
      'rejection',
      'permanent_failure',
    ])
  })

  it.each([
    ['{"type":', 'not JSON'],
    ['[]', ''],
    ['{"type":"delivery"}', 'delivery needs an id'],
    [`{"type":"administration","id":"${UNKNOWN}"}`, 'takes no id'],
    [`{"type":"delivery","id":"${UNKNOWN}","user":"x"}`, 'user does not go with delivery'],
  ])('refuses the whole for a line like %s', async (line, detail) => {
    const api = await startApi()
    const [id] = await store(api)
    const response = await bulk(api, [{ id, type: 'delivery' }, line])
    expect(response.statusCode).toBe(400)
    expect(response.json().detail).toMatch(/^line 2: /)
    expect(response.json().detail).toContain(detail)
    expect((await api.spool.stats()).messages).toBe(1)
  })
})
