import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { SHED } from '../../api/plugins/load-shedding.js'
import { startApi, type TestApi } from '../support/api.js'
import { parseMetrics } from '../support/prometheus.js'

const ID = '019a0000-0000-7000-8000-000000000000'
const INJECT = '/v1/messages?from=&to=a@example.net'

interface Operation {
  operationId: string
  method: string
  url: string
}

function operations({ app }: TestApi): Operation[] {
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> }
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => ({
      operationId,
      method,
      url: path.replaceAll(/\{\w+\}/g, ID),
    })),
  )
}

async function sheds(api: TestApi): Promise<Record<string, number>> {
  const { payload } = await api.app.inject({ url: '/metrics' })
  const { values } = parseMetrics(payload).get('bobbin_sheds_total')!
  return Object.fromEntries([...values].filter(([, count]) => count > 0))
}

/** Sends the head of an injection and a part of its body, and keeps it there. */
async function hold(port: number, headers: string, part: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(`POST /v1/messages HTTP/1.1\r\nhost: x\r\n${headers}\r\n\r\n${part}`)
  return socket
}

it('refuses what makes the spool larger, and only that, before it looks at it', async () => {
  const api = await startApi()
  api.notReady.push({ code: 'commits_late', detail: 'writes are late', retryAfter: 3 })
  await api.app.ready()
  const refused: string[] = []
  for (const { operationId, method, url } of operations(api)) {
    if (method === 'get') continue
    const answer = await api.app.inject({ method: method as 'POST', url, payload: 'x' })
    if (answer.statusCode === 503 && answer.json().code === 'NOT_READY') {
      expect(answer.headers['retry-after']).toBe('3')
      refused.push(operationId)
    }
  }
  const there = new Set(operations(api).map(({ operationId }) => operationId))
  const expected = Object.keys(SHED).filter(
    (id) => there.has(id) && SHED[id]!.includes('commits_late'),
  )
  expect(refused.sort()).toEqual(expected.sort())
  expect(expected).toEqual(expect.arrayContaining(['swap_out', 'swap_out_content', 'message_copy']))
  expect(expected).not.toContain('journal_append')
  expect(await sheds(api)).toEqual({ '{reason="commits_late"}': refused.length })
})

it('refuses records for a journal where there is no room for them either', async () => {
  const api = await startApi()
  const append = () =>
    api.app.inject({
      method: 'POST',
      url: '/v1/journals/mainlog/records',
      headers: { 'content-type': 'application/octet-stream' },
      payload: 'a record',
    })
  api.notReady.push({
    code: 'spool_read_only',
    detail: 'the spool takes no writes',
    retryAfter: 60,
  })
  expect((await append()).statusCode).toBe(201)
  api.notReady.push({ code: 'low_space', detail: 'the disk is nearly full', retryAfter: 30 })
  const answer = await append()
  expect(answer.statusCode).toBe(503)
  // Of the reasons those that matter to it.
  expect(answer.json().reasons).toEqual([{ code: 'low_space', detail: 'the disk is nearly full' }])
  expect(answer.headers['retry-after']).toBe('30')
})

it.each([
  ['a declared length', 'content-type: application/json\r\ncontent-length: 200000', ' '.repeat(9)],
  [
    'chunks as they come',
    'content-type: application/json\r\ntransfer-encoding: chunked',
    `${(200_000).toString(16)}\r\n${' '.repeat(200_000)}\r\n`,
  ],
])('bounds the bytes of all bodies together: %s', async (_name, headers, part) => {
  const api = await startApi({ maxInFlight: 650_000 })
  const { port, url } = await api.listen()
  const inject = () =>
    fetch(url + INJECT, {
      method: 'POST',
      headers: { 'content-type': 'message/rfc822' },
      body: 'x'.repeat(100_000),
    })
  const held = await hold(port, headers, part)
  // What counts threefold is JSON.
  const refusal = async () => {
    const answer = await inject()
    const { code } = (await answer.json()) as { code?: string }
    return [answer.status, answer.headers.get('retry-after'), code]
  }
  await expect.poll(refusal).toEqual([503, '2', 'TOO_MUCH_IN_FLIGHT'])
  // One that goes away gives its place back.
  held.destroy()
  await expect.poll(async () => (await inject()).status).toBe(201)
  const metrics = parseMetrics((await api.app.inject({ url: '/metrics' })).payload)
  expect(metrics.get('bobbin_http_in_flight_bytes')!.values.get('')).toBe(0)
  expect((await sheds(api))['{reason="in_flight"}']).toBeGreaterThan(0)
})

it('cuts short a body in chunks that grows beyond what there is room for', async () => {
  const api = await startApi({ maxInFlight: 600_000 })
  const { port, url } = await api.listen()
  const held = await hold(port, 'content-type: application/json\r\ncontent-length: 150000', ' ')
  const inFlight = async () =>
    parseMetrics((await api.app.inject({ url: '/metrics' })).payload)
      .get('bobbin_http_in_flight_bytes')!
      .values.get('')
  await expect.poll(inFlight).toBe(450_000)
  const answer = await fetch(`${url}/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: ReadableStream.from([Buffer.alloc(30_000, ' '), Buffer.alloc(60_000, ' ')]),
    duplex: 'half',
  } as RequestInit)
  expect(answer.status).toBe(503)
  expect(await answer.json()).toMatchObject({ code: 'TOO_MUCH_IN_FLIGHT' })
  held.destroy()
})

it('takes one request alone whatever it counts for', async () => {
  const api = await startApi({ maxInFlight: 1000 })
  const content = 'x'.repeat(10_000)
  const payload = { mailfrom: '', rcptto: ['a@example.net'], content }
  for (let i = 0; i < 3; i++) {
    const answer = await api.app.inject({ method: 'POST', url: '/v1/messages', payload })
    expect(answer.statusCode).toBe(201)
  }
})
