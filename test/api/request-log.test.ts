import { once } from 'node:events'
import { connect } from 'node:net'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { startApi } from '../support/api.js'

type Line = Record<string, unknown> & { level: number; msg: string }

const LEVELS = { debug: 20, info: 30, error: 50 }
const SECRET = 'c0nfidential-s3cret'

async function start(level: string, logRequests?: boolean) {
  const lines: Line[] = []
  const logger = pino({ level }, { write: (text: string) => void lines.push(JSON.parse(text)) })
  const api = await startApi({}, { logger, ...(logRequests === undefined ? {} : { logRequests }) })
  return { api, app: api.app, lines }
}

it('gives each request an id of its own, in the answer, the problem and the log', async () => {
  const { app, lines } = await start('info')
  const ids = new Set<unknown>()
  for (let i = 0; i < 20; i++) {
    const answer = await app.inject({ url: `/v1/messages/${i}` })
    expect(answer.json().instance).toBe(answer.headers['x-request-id'])
    expect(lines.at(-1)!.reqId).toBe(answer.headers['x-request-id'])
    ids.add(answer.headers['x-request-id'])
  }
  expect(ids.size).toBe(20)
  for (const url of ['/healthz', '/metrics', '/v1/messages', '/docs/']) {
    expect((await app.inject({ url })).headers['x-request-id'], url).toMatch(/^\w{10}-\w+$/)
  }
})

it("takes the caller's id where it is one", async () => {
  const { app } = await start('silent')
  const ask = async (id: string) =>
    (await app.inject({ url: '/healthz', headers: { 'x-request-id': id } })).headers['x-request-id']
  for (const id of ['mx1:4711', '00-4bf92f3577b34da6a3ce929d0e0e4736-01', 'a'.repeat(128)]) {
    expect(await ask(id)).toBe(id)
  }
  for (const id of ['', 'a'.repeat(129), 'two words', '"quoted"', 'é', '{}', 'a\tb']) {
    expect(await ask(id)).toMatch(/^\w{10}-\w+$/)
  }
})

it('writes one line for what is refused and one for what fails, with code and id', async () => {
  const { api, app, lines } = await start('info')
  const headers = { 'x-request-id': 'mine' }
  await app.inject({ url: '/v1/messages/x/meta?a=b', headers })
  await app.inject({ url: '/nowhere?token=x', headers })
  await app.inject({ method: 'POST', url: '/v1/claims', payload: { limit: 'many' }, headers })
  await app.inject({ url: '/healthz', headers })
  api.notReady.push({ code: 'low_space', detail: 'no room', retryAfter: 1 })
  await app.inject({ method: 'POST', url: '/v1/messages', payload: 'x', headers })
  await api.spool.close()
  await app.inject({ method: 'POST', url: '/v1/claims', payload: {}, headers })
  expect(lines).toMatchObject([
    {
      level: LEVELS.info,
      msg: 'request refused',
      reqId: 'mine',
      method: 'GET',
      route: '/v1/messages/:id/meta',
      path: '/v1/messages/x/meta',
      status: 404,
      code: 'SPOOL_ERR_INVALID',
    },
    { level: LEVELS.info, reqId: 'mine', path: '/nowhere', status: 404, code: 'NOT_FOUND' },
    { level: LEVELS.info, reqId: 'mine', status: 400, code: 'FST_ERR_VALIDATION' },
    {
      level: LEVELS.error,
      msg: 'request failed',
      reqId: 'mine',
      status: 503,
      code: 'SPOOL_ERR_CLOSED',
      err: { message: expect.stringContaining('closed') },
    },
  ])
  expect(lines).toHaveLength(4)
})

it('writes a line for each request at debug, or at info when it is told to', async () => {
  const quiet = await start('info')
  await quiet.app.inject({ url: '/healthz' })
  expect(quiet.lines).toEqual([])
  for (const [level, logRequests] of [
    ['debug', false],
    ['info', true],
  ] as const) {
    const { app, lines } = await start(level, logRequests)
    await app.inject({ url: '/v1/messages?limit=5' })
    expect(lines).toMatchObject([
      {
        level: LEVELS[level],
        msg: 'request',
        route: '/v1/messages',
        path: '/v1/messages',
        status: 200,
      },
    ])
    expect(lines[0]!.milliseconds).toBeGreaterThan(0)
    expect(JSON.stringify(lines)).not.toContain('limit=5')
  }
})

it('writes a line for what is no request at all', async () => {
  const { api, lines } = await start('info')
  const { port } = await api.listen()
  lines.length = 0
  const socket = connect(port, '127.0.0.1')
  socket.end(`${SECRET}\r\n\r\n`)
  socket.resume()
  await once(socket, 'close')
  expect(lines).toMatchObject([{ status: 400, code: 'HPE_INVALID_METHOD', peer: '127.0.0.1' }])
  expect(JSON.stringify(lines)).not.toContain(SECRET)
})

it('never writes what mail, tokens or queries hold, at whatever level', async () => {
  const { api, app, lines } = await start('trace', true)
  const headers = (type: string) => ({
    'content-type': type,
    authorization: `Bearer ${SECRET}`,
    cookie: SECRET,
    'idempotency-key': SECRET,
    'x-request-id': `${SECRET} is not sane`,
  })
  const bodies: [type: string, body: string][] = [
    ['message/rfc822', `Subject: ${SECRET}\r\n\r\n${SECRET}`],
    ['application/json', `{"content":"${SECRET}`],
    ['application/json', SECRET],
    ['application/json', JSON.stringify({ mailfrom: '', rcptto: ['a@b.c'], content: SECRET })],
    ['application/json', JSON.stringify({ content: SECRET, rcptto: [SECRET], state: SECRET })],
    ['application/json', JSON.stringify({ [SECRET]: SECRET })],
    ['application/x-ndjson', `${SECRET}\n{"type":"${SECRET}"}\n`],
    ['application/msgpack', SECRET],
    ['application/octet-stream', SECRET],
    ['multipart/form-data; boundary=x', `--x\r\n\r\n${SECRET}`],
    ['text/plain', SECRET],
  ]
  const id = '019a0000-0000-7000-8000-000000000000'
  const urls: ['POST' | 'PUT' | 'PATCH', string][] = [
    ['POST', `/v1/messages?from=${SECRET}@example.com&to=${SECRET}@example.net`],
    ['POST', '/v1/messages'],
    ['POST', `/v1/messages?${SECRET}=1`],
    ['POST', '/v1/messages/batch'],
    ['POST', '/v1/events'],
    ['POST', `/v1/messages/${id}/events`],
    ['PATCH', `/v1/messages/${id}/meta`],
    ['PUT', `/v1/messages/${id}/content`],
    ['PUT', `/v1/messages/${id}/context/mess/key`],
    ['POST', '/v1/claims'],
    ['POST', '/v1/journals/mainlog/records'],
    ['PUT', '/v1/journals/other'],
  ]
  const seen = new Set<number>()
  for (const [method, url] of urls) {
    for (const [type, payload] of bodies) {
      const { statusCode } = await app.inject({ method, url, headers: headers(type), payload })
      seen.add(statusCode)
    }
  }
  await api.spool.close()
  for (const [type, payload] of bodies) {
    await app.inject({ method: 'POST', url: urls[0]![1], headers: headers(type), payload })
  }
  expect([...seen]).toEqual(expect.arrayContaining([201, 400, 404, 415]))
  expect(lines.length).toBeGreaterThan(urls.length * bodies.length)
  expect(lines.filter((line) => JSON.stringify(line).includes(SECRET))).toEqual([])
})
