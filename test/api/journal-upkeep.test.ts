// Inspection, repair and cleaning of journals over REST: the same reports as the commands give.
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'
import { jlog } from '../support/jlog-command.js'

const OCTETS = { 'content-type': 'application/octet-stream' }

async function journal(
  settings: object,
  records: string[],
): Promise<{ api: TestApi; dir: string }> {
  const api = await startApi()
  await api.app.inject({ method: 'PUT', url: '/v1/journals/log', payload: settings })
  for (const payload of records) await append(api, payload)
  return { api, dir: join(api.data, 'journals', 'log') }
}

const append = (api: TestApi, payload: string) =>
  api.app.inject({ method: 'POST', url: '/v1/journals/log/records', headers: OCTETS, payload })

const call = async (api: TestApi, method: 'GET' | 'POST', path: string) =>
  api.app.inject({ method, url: `/v1/journals/log/${path}` })

async function repair(api: TestApi, query = ''): Promise<Record<string, unknown>> {
  const accepted = await call(api, 'POST', `repair${query}`)
  expect(accepted.statusCode).toBe(202)
  const url = String(accepted.headers.location)
  await expect.poll(async () => (await api.app.inject({ url })).json().state).toBe('done')
  return (await api.app.inject({ url })).json()
}

describe('a damaged journal', () => {
  it('is inspected, tried and repaired, as the commands do', async () => {
    const { api, dir } = await journal(
      { segment_size: 60 },
      ['a', 'b', 'c'].map((x) => x.repeat(30)),
    )
    expect((await call(api, 'GET', 'inspect')).json()).toMatchObject({ sound: true, records: 3 })
    await truncate(join(dir, '00000000'), 60)
    const inspection = await call(api, 'GET', 'inspect')
    expect(inspection.statusCode).toBe(200)
    expect(inspection.json()).toMatchObject({ sound: false, records: 2 })
    expect(inspection.json()).toEqual(JSON.parse((await jlog('inspect', dir, '--json')).stdout))
    const lines = await call(api, 'GET', 'inspect?records=00000000')
    expect(lines.headers['content-type']).toBe('application/x-ndjson')
    expect(lines.payload).toBe((await jlog('inspect', dir, '--records', '0', '--json')).stdout)
    const expected = JSON.parse((await jlog('repair', dir, '--dry-run', '--json')).stdout)
    const tried = await repair(api, '?dry_run=true')
    expect(tried).toMatchObject({ kind: 'journal_repair', result: expected })
    expect((await readFile(join(dir, '00000000'))).length).toBe(60)
    const done = await repair(api)
    expect(done.result).toMatchObject({ changed: true, records: 2, dry_run: false })
    expect((await repair(api)).result).toMatchObject({ changed: false })
    expect((await call(api, 'GET', 'inspect')).json()).toMatchObject({ sound: true })
    expect((await append(api, 'after')).statusCode).toBe(201)
  })

  it('of nonsense is an error that says so, never a crash', async () => {
    const { api, dir } = await journal({}, ['one'])
    await writeFile(join(dir, 'metastore'), 'nonsense')
    expect((await repair(api)).result).toMatchObject({ changed: true, records: 1 })
    for (const path of ['inspect?records=7', 'inspect?records=00000007']) {
      expect((await call(api, 'GET', path)).json()).toMatchObject({
        status: 404,
        code: 'JLOG_ERR_FILE_OPEN',
      })
    }
    expect((await call(api, 'GET', 'inspect?records=x')).statusCode).toBe(400)
    for (const [method, path] of [
      ['GET', 'inspect'],
      ['POST', 'repair'],
      ['POST', 'clean'],
    ] as const) {
      const response = await api.app.inject({ method, url: `/v1/journals/none/${path}` })
      expect(response.json()).toMatchObject({ status: 404, code: 'JLOG_ERR_OPEN' })
    }
  })
})

describe('a journal', () => {
  it('is cleaned of what all have read', async () => {
    const { api } = await journal(
      { segment_size: 40 },
      ['1', '2', '3', '4', '5'].map((x) => x.repeat(30)),
    )
    expect((await call(api, 'POST', 'clean')).json()).toEqual({ removed: [] })
    const url = '/v1/journals/log/subscribers'
    for (const sub of ['a', 'b']) await api.app.inject({ method: 'PUT', url: `${url}/${sub}` })
    expect((await call(api, 'POST', 'clean')).json()).toEqual({ removed: [] })
    await api.app.inject({
      method: 'PUT',
      url: `${url}/a/checkpoint`,
      payload: { id: '00000003:00000001' },
    })
    await api.app.inject({ method: 'DELETE', url: `${url}/b` })
    const { removed } = (await call(api, 'POST', 'clean')).json()
    const info = (await api.app.inject({ url: '/v1/journals/log' })).json()
    expect(info.first).toBe('00000003:00000001')
    for (const segment of removed) expect(segment < '00000003').toBe(true)
  })

  it('is altered in all its settings while it is written, and keeps every record once', async () => {
    const { api } = await journal({}, [])
    let isOver = false
    const acknowledged: string[] = []
    const writers = Array.from({ length: 4 }, async (_, n) => {
      for (let i = 0; !isOver && i < 2000; i++) {
        const record = `${n}-${i}`
        if ((await append(api, record)).statusCode === 201) acknowledged.push(record)
      }
    })
    const patch = (payload: object) =>
      api.app.inject({ method: 'PATCH', url: '/v1/journals/log', payload })
    for (let i = 0; i < 30; i++) {
      const settings = {
        pre_commit: [0, 4096, 65_536][i % 3],
        segment_size: 500 + i,
        safety: ['unsafe', 'almost_safe', 'safe'][i % 3],
      }
      const response = await patch(settings)
      expect(response.statusCode, response.payload).toBe(200)
      expect(response.json()).toMatchObject(settings)
    }
    isOver = true
    await Promise.all(writers)
    await api.app.inject({ method: 'PUT', url: '/v1/journals/log/subscribers/s' })
    const read = await api.app.inject({
      url: '/v1/journals/log/subscribers/s/records?limit=10000',
    })
    const found = read.payload
      .split('\n')
      .filter(Boolean)
      .map((line) => Buffer.from(JSON.parse(line).data, 'base64').toString())
    expect(found.toSorted()).toEqual(acknowledged.toSorted())
    expect(acknowledged.length).toBeGreaterThan(30)
    expect((await patch({ compression: 'off' })).statusCode).toBe(200)
    expect((await patch({ compression: 'lz4' })).json()).toMatchObject({
      status: 422,
      code: 'JLOG_ERR_NOT_SUPPORTED',
    })
    expect((await patch({ segment_size: 0 })).statusCode).toBe(400)
  })
})
