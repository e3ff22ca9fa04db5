import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { pack, unpack } from 'msgpackr'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'

const OCTETS = { 'content-type': 'application/octet-stream' }
const NDJSON = { 'content-type': 'application/x-ndjson' }
const MSGPACK = { 'content-type': 'application/msgpack' }

const append = (
  api: TestApi,
  payload: Buffer | string,
  headers: Record<string, string> = NDJSON,
  name = 'log',
) => api.app.inject({ method: 'POST', url: `/v1/journals/${name}/records`, headers, payload })

async function startWithJournal(settings: object = {}): Promise<TestApi> {
  const api = await startApi()
  expect(
    (await api.app.inject({ method: 'PUT', url: '/v1/journals/log', payload: settings }))
      .statusCode,
  ).toBe(201)
  return api
}

const linesOf = (payload: string) =>
  payload
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { id: string; size: number; data: string })

const dataOf = (payload: string) =>
  linesOf(payload).map(({ data }) => Buffer.from(data, 'base64').toString())

describe('journals', () => {
  it('are made with settings, described, altered, listed and deleted', async () => {
    const api = await startWithJournal({ segment_size: 1000, compression: 'lz4', safety: 'safe' })
    const described = await api.app.inject({ url: '/v1/journals/log' })
    expect(described.json()).toMatchObject({
      name: 'log',
      first: null,
      last: null,
      records: 0,
      bytes: 0,
      segment_size: 1000,
      compression: 'lz4',
      safety: 'safe',
      subscribers: [],
    })
    for (const method of ['PUT', 'PATCH'] as const) {
      const url = method === 'PUT' ? '/v1/journals/other' : '/v1/journals/log'
      const typo = await api.app.inject({ method, url, payload: { compresion: 'lz4' } })
      expect(typo.json()).toMatchObject({ status: 400, errors: [{ where: 'body.compresion' }] })
    }
    expect((await api.app.inject({ url: '/v1/journals/other' })).statusCode).toBe(404)
    const altered = await api.app.inject({
      method: 'PATCH',
      url: '/v1/journals/log',
      payload: { segment_size: 2000, safety: 'unsafe' },
    })
    expect(altered.json()).toMatchObject({
      segment_size: 2000,
      safety: 'unsafe',
      compression: 'lz4',
    })
    const list = await api.app.inject({ url: '/v1/journals' })
    expect(list.json().journals.map(({ name }: { name: string }) => name)).toEqual([
      'log',
      'mainlog',
    ])
    expect((await api.app.inject({ method: 'DELETE', url: '/v1/journals/log' })).statusCode).toBe(
      204,
    )
    expect((await api.app.inject({ url: '/v1/journals/log' })).json()).toMatchObject({
      status: 404,
      code: 'JLOG_ERR_OPEN',
    })
    expect(
      (await api.app.inject({ method: 'DELETE', url: '/v1/journals/mainlog' })).json(),
    ).toMatchObject({ status: 409, code: 'JOURNAL_IN_USE' })
    const plain = await api.app.inject({ method: 'PUT', url: '/v1/journals/plain' })
    expect(plain.json()).toMatchObject({ compression: 'off', safety: 'safe' })
  })

  it('have names that stay in their directory', async () => {
    const api = await startApi()
    for (const name of ['..%2Fx', '.hidden', 'a%2Fb', '%00', 'x'.repeat(129), 'ü', '..']) {
      const response = await api.app.inject({
        method: 'PUT',
        url: `/v1/journals/${name}`,
        payload: {},
      })
      expect([400, 404], name).toContain(response.statusCode)
    }
    expect(await api.journals.names()).toEqual(['mainlog'])
    expect(
      (await api.app.inject({ method: 'PUT', url: '/v1/journals/mainlog', payload: {} })).json(),
    ).toMatchObject({ status: 409, code: 'JLOG_ERR_CREATE_EXISTS' })
    const headers = { 'content-type': 'application/json' }
    for (const payload of ['{"segment_size":0}', 'null', '[]', '""']) {
      const put = { method: 'PUT', url: '/v1/journals/x', headers, payload } as const
      expect((await api.app.inject(put)).statusCode, payload).toBe(400)
    }
  })

  it('take records as octets, lines and msgpack, byte for byte', async () => {
    const api = await startWithJournal()
    const octets = randomBytes(5000)
    expect((await append(api, octets, OCTETS)).json()).toEqual({
      first: '00000000:00000001',
      last: '00000000:00000001',
      count: 1,
    })
    expect((await append(api, '{"a":1}\n\nünï\r\nlast')).json()).toEqual({
      first: '00000000:00000002',
      last: '00000000:00000004',
      count: 3,
    })
    const binaries = [Buffer.alloc(0), randomBytes(10), Buffer.from('x')]
    expect((await append(api, pack(binaries), MSGPACK)).json()).toMatchObject({
      count: 3,
      last: '00000000:00000007',
    })
    await api.app.inject({ method: 'PUT', url: '/v1/journals/log/subscribers/s?whence=begin' })
    const read = await api.app.inject({ url: '/v1/journals/log/subscribers/s/records' })
    const payloads = linesOf(read.payload).map(({ data }) => Buffer.from(data, 'base64'))
    expect(payloads).toEqual([
      octets,
      Buffer.from('{"a":1}'),
      Buffer.from('ünï\r'),
      Buffer.from('last'),
      ...binaries,
    ])
    const packed = await api.app.inject({
      url: '/v1/journals/log/subscribers/s/records?limit=2',
      headers: { accept: 'application/msgpack' },
    })
    expect(unpack(packed.rawPayload)).toMatchObject([
      { id: '00000000:00000001', data: octets },
      { id: '00000000:00000002' },
    ])
  })

  it('get another pre-commit buffer while records are appended', async () => {
    const api = await startWithJournal({ pre_commit: 4096 })
    const journal = '/v1/journals/log'
    const resize = (bytes: number) =>
      api.app.inject({ method: 'PATCH', url: journal, payload: { pre_commit: bytes } })
    await append(api, 'first')
    expect((await api.app.inject({ url: journal })).json()).toMatchObject({ records: 0 })
    expect((await resize(0)).json()).toMatchObject({ pre_commit: 0, records: 1 })
    const sent = ['first', 'second', 'third', 'fourth']
    for (const record of sent.slice(1)) await append(api, record)
    expect((await api.app.inject({ url: journal })).json()).toMatchObject({
      pre_commit: 0,
      records: 4,
    })
    const writers = ['a', 'b', 'c'].map(async (name) => {
      for (let n = 0; n < 20; n++) {
        await append(api, `${name}${n}`)
        sent.push(`${name}${n}`)
      }
    })
    for (const bytes of [300, 65536, 0, 40, 4096])
      expect((await resize(bytes)).statusCode).toBe(200)
    await Promise.all(writers)
    await resize(0)
    await api.app.inject({ method: 'PUT', url: `${journal}/subscribers/s` })
    const { payload } = await api.app.inject({ url: `${journal}/subscribers/s/records` })
    expect(dataOf(payload).sort()).toEqual(sent.sort())
  })

  it('refuse what are no records, and keep nothing of it', async () => {
    const api = await startWithJournal()
    for (const [payload, headers, status] of [
      ['', NDJSON, 400],
      ['\n\n', NDJSON, 400],
      [Buffer.from([0xc1]), MSGPACK, 400],
      [pack({ a: 1 }), MSGPACK, 400],
      [pack([Buffer.from('ok'), 'text']), MSGPACK, 400],
      [pack([]), MSGPACK, 400],
      ['{}', { 'content-type': 'application/json' }, 415],
      ['x', { 'content-type': 'text/plain' }, 415],
      [Buffer.alloc(1_000_001), OCTETS, 413],
    ] as const) {
      const response = await append(api, payload, headers)
      expect(response.statusCode, JSON.stringify(headers)).toBe(status)
      expect(response.json()).toHaveProperty('code')
    }
    expect((await append(api, 'x', NDJSON, 'unknown')).statusCode).toBe(404)
    expect((await api.app.inject({ url: '/v1/journals/log' })).json()).toMatchObject({ records: 0 })
  })
})

describe('the list of journals', () => {
  it('is there while others are made and deleted', async () => {
    const api = await startWithJournal()
    let isOver = false
    const churning = [1, 2].map(async (i) => {
      while (!isOver) {
        await api.journals.create(`other${i}`)
        await api.journals.delete(`other${i}`)
      }
    })
    for (let i = 0; i < 100; i++) {
      const list = await api.app.inject({ url: '/v1/journals' })
      expect(list.statusCode, list.payload).toBe(200)
      expect(list.json().journals).toContainEqual(expect.objectContaining({ name: 'log' }))
    }
    isOver = true
    await Promise.all(churning)
  })
})

describe('subscribers', () => {
  it('are added in every place, listed with their lag, and removed', async () => {
    const api = await startWithJournal()
    await append(api, '1\n2\n3')
    const add = (sub: string, whence: string) =>
      api.app.inject({ method: 'PUT', url: `/v1/journals/log/subscribers/${sub}?whence=${whence}` })
    expect((await add('first', 'begin')).json()).toEqual({
      name: 'first',
      checkpoint: '00000000:00000000',
    })
    expect((await add('last', 'end')).json()).toMatchObject({ checkpoint: '00000000:00000003' })
    expect((await add('mid', '0:2')).json()).toMatchObject({ checkpoint: '00000000:00000002' })
    expect((await add('twin', 'copy:mid')).json()).toMatchObject({
      checkpoint: '00000000:00000002',
    })
    const odd = 'ä/b c\u{1f600}'
    expect((await add(encodeURIComponent(odd), 'begin')).json()).toMatchObject({ name: odd })
    expect((await add('first', 'end')).json()).toMatchObject({
      status: 409,
      code: 'JLOG_ERR_SUBSCRIBER_EXISTS',
    })
    expect((await add('x', 'copy:nobody')).json()).toMatchObject({
      status: 404,
      code: 'JLOG_ERR_INVALID_SUBSCRIBER',
    })
    // Records up to it would be passed over.
    expect((await add('x', '0:4')).json()).toMatchObject({ status: 409, code: 'CHECKPOINT_AHEAD' })
    expect((await add('x'.repeat(127), 'begin')).json()).toMatchObject({
      status: 400,
      code: 'JLOG_ERR_INVALID_SUBSCRIBER',
    })
    expect((await add('x', 'middle')).json()).toMatchObject({
      status: 400,
      code: 'JLOG_ERR_ILLEGAL_LOGID',
    })
    const list = await api.app.inject({ url: '/v1/journals/log/subscribers' })
    const lags = Object.fromEntries(
      list
        .json()
        .subscribers.map((s: { name: string; lag_records: number }) => [s.name, s.lag_records]),
    )
    expect(lags).toEqual({ first: 3, last: 0, mid: 1, twin: 1, [odd]: 3 })
    const remove = () =>
      api.app.inject({
        method: 'DELETE',
        url: `/v1/journals/log/subscribers/${encodeURIComponent(odd)}`,
      })
    expect((await remove()).statusCode).toBe(204)
    expect((await remove()).json()).toMatchObject({
      status: 404,
      code: 'JLOG_ERR_INVALID_SUBSCRIBER',
    })
  })

  it('read from their checkpoint, which only they move, and forwards', async () => {
    const api = await startWithJournal({ segment_size: 60 })
    for (const record of ['1', '2', '3', '4', '5', '6']) await append(api, record.repeat(20))
    await api.app.inject({ method: 'PUT', url: '/v1/journals/log/subscribers/s' })
    const read = async (query = '') =>
      (await api.app.inject({ url: `/v1/journals/log/subscribers/s/records${query}` })).payload
    const checkpoint = (id: string, query = '') =>
      api.app.inject({
        method: 'PUT',
        url: `/v1/journals/log/subscribers/s/checkpoint${query}`,
        payload: { id },
      })
    const all = await read()
    expect(dataOf(all).map((data) => data[0])).toEqual(['1', '2', '3', '4', '5', '6'])
    expect(await read()).toBe(all)
    const ids = linesOf(all).map(({ id }) => id)
    expect((await checkpoint(ids[3]!)).json()).toEqual({ checkpoint: ids[3] })
    expect(dataOf(await read()).map((data) => data[0])).toEqual(['5', '6'])
    expect(dataOf(await read('?limit=1')).map((data) => data[0])).toEqual(['5'])
    expect((await checkpoint(ids[2]!)).json()).toMatchObject({
      status: 409,
      code: 'CHECKPOINT_BACKWARDS',
    })
    expect((await checkpoint('7fffffff:1')).json()).toMatchObject({
      status: 409,
      code: 'CHECKPOINT_AHEAD',
    })
    expect((await checkpoint('x')).statusCode).toBe(400)
    // The end of a segment is where it is, whatever is counted after it.
    const [log, end] = [ids[3]!.slice(0, 8), Number.parseInt(ids[3]!.slice(9), 16)]
    expect(ids[4]).toBe(`${String(Number(log) + 1).padStart(8, '0')}:00000001`)
    expect((await checkpoint(`${log}:${(end + 5).toString(16)}`)).json()).toEqual({
      checkpoint: ids[3],
    })
    const add = { method: 'PUT', url: `/v1/journals/log/subscribers/t?whence=${log}:ff` } as const
    expect((await api.app.inject(add)).json()).toEqual({ name: 't', checkpoint: ids[3] })
    expect((await api.app.inject({ url: '/v1/journals/log/inspect' })).json()).toMatchObject({
      sound: true,
    })
    expect((await checkpoint(ids[2]!, '?rewind=true')).statusCode).toBe(200)
    expect(dataOf(await read()).map((data) => data[0])).toEqual(['4', '5', '6'])
    expect(
      (await api.app.inject({ url: '/v1/journals/log/subscribers/nobody/records' })).statusCode,
    ).toBe(404)
  })

  it('go forwards only, whoever moves them at the same time', async () => {
    const api = await startWithJournal()
    for (let n = 0; n < 64; n++) await append(api, String(n))
    await api.app.inject({ method: 'PUT', url: '/v1/journals/log/subscribers/s' })
    const url = '/v1/journals/log/subscribers'
    for (let first = 1; first <= 49; first += 16) {
      const ids = Array.from({ length: 16 }, (_, n) => (first + 15 - n).toString(16))
      const moves = ids.map((id) =>
        api.app.inject({
          method: 'PUT',
          url: `${url}/s/checkpoint`,
          payload: { id: `00000000:${id.padStart(8, '0')}` },
        }),
      )
      for (const { statusCode } of await Promise.all(moves))
        expect([200, 409]).toContain(statusCode)
      const [{ checkpoint }] = (await api.app.inject({ url })).json().subscribers
      expect(checkpoint).toBe(`00000000:${(first + 15).toString(16).padStart(8, '0')}`)
    }
  })

  it('are left to the service when they are its own', async () => {
    const api = await startApi({}, { ownSubscriber: '~own' })
    const at = (journal: string) => `/v1/journals/${journal}/subscribers/~own`
    await api.app.inject({ method: 'PUT', url: '/v1/journals/log' })
    for (const journal of ['mainlog', 'log'])
      await api.app.inject({ method: 'PUT', url: at(journal) })
    const move = (journal: string) =>
      api.app.inject({
        method: 'PUT',
        url: `${at(journal)}/checkpoint`,
        payload: { id: '00000000:00000000' },
      })
    const remove = (journal: string) => api.app.inject({ method: 'DELETE', url: at(journal) })
    for (const response of [await move('mainlog'), await remove('mainlog')])
      expect(response.json()).toMatchObject({ status: 409, code: 'SUBSCRIBER_IN_USE' })
    expect((await move('log')).statusCode).toBe(200)
    expect((await remove('log')).statusCode).toBe(204)
    expect((await remove('mainlog')).statusCode).toBe(409)
  })

  it('wait for records, up to a time', async () => {
    const api = await startWithJournal()
    await api.app.inject({ method: 'PUT', url: '/v1/journals/log/subscribers/s' })
    const url = '/v1/journals/log/subscribers/s/records'
    expect((await api.app.inject({ url: `${url}?wait=0.05` })).payload).toBe('')
    const waiting = api.app.inject({ url: `${url}?wait=30` })
    await append(api, 'here')
    expect(dataOf((await waiting).payload)).toEqual(['here'])
  })

  it('are told when too many wait', async () => {
    const api = await startApi({ maxTails: 1 })
    await api.app.inject({ method: 'PUT', url: '/v1/journals/mainlog/subscribers/s' })
    const url = '/v1/journals/mainlog/subscribers/s/records?wait=30'
    const answers = [api.app.inject({ url }), api.app.inject({ url })]
    const first = await Promise.race(answers)
    expect(first.json()).toMatchObject({ status: 429, code: 'TOO_MANY_TAILS' })
    await append(api, 'x', NDJSON, 'mainlog')
    const statuses = (await Promise.all(answers)).map(({ statusCode }) => statusCode)
    expect(statuses.sort()).toEqual([200, 429])
  })
})

it('a journal that is deleted while it is used is one that is not there', async () => {
  const { app } = await startApi()
  const seen = new Set<number>()
  for (let round = 0; round < 24; round++) {
    const url = `/v1/journals/doomed${round}`
    await app.inject({ method: 'PUT', url, payload: { segment_size: 40 } })
    await app.inject({ method: 'PUT', url: `${url}/subscribers/one` })
    const answers = [
      app.inject({ url: `${url}/inspect` }),
      app.inject({ method: 'POST', url: `${url}/clean` }),
      app.inject({ method: 'PUT', url: `${url}/subscribers/two` }),
      app.inject({ method: 'DELETE', url: `${url}/subscribers/one` }),
      app.inject({ method: 'POST', url: `${url}/records`, headers: OCTETS, payload: 'a record' }),
    ]
    for (let turn = 0; turn < round % 8; turn++) await new Promise(setImmediate)
    answers.push(app.inject({ method: 'DELETE', url }))
    for (const { statusCode } of await Promise.all(answers)) seen.add(statusCode)
  }
  expect(seen).toContain(404)
  expect([...seen].filter((status) => status >= 500)).toEqual([])
})

describe('the document', () => {
  it('describes every route, under the names of the spool', async () => {
    const api = await startApi()
    const document = (await api.app.inject({ url: '/openapi.json' })).json()
    expect(document.openapi).toBe('3.1.0')
    const operations = Object.values(
      document.paths as Record<string, Record<string, { operationId: string; responses: object }>>,
    ).flatMap((path) => Object.values(path))
    const ids = operations.map(({ operationId }) => operationId)
    expect(new Set(ids).size).toBe(ids.length)
    expect(ids).toEqual(
      expect.arrayContaining([
        'swap_out',
        'swap_in',
        'swap_out_meta',
        'refetch_meta',
        'swap_remove',
        'journal_append',
        'read_checkpoint',
      ]),
    )
    for (const { operationId, responses } of operations)
      expect(Object.keys(responses).length, operationId).toBeGreaterThan(0)
    // Every reference leads somewhere.
    for (const [, name] of JSON.stringify(document).matchAll(
      /"\$ref":"#\/components\/schemas\/([^"]+)"/g,
    )) {
      expect(document.components.schemas).toHaveProperty(name!)
    }
    const routes = api.app.printRoutes({ commonPrefix: false })
    expect(routes).toContain('tail')
    expect(Object.keys(document.paths)).toContain('/v1/journals/{name}/tail')
    const page = await api.app.inject({ url: '/docs/' })
    expect(page.statusCode).toBe(200)
    expect(await readFile(new URL('../../README.md', import.meta.url), 'utf8')).toContain('/docs')
  })
})
