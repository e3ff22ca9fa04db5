/** What one client may cost, against the real service over real sockets. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { get } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { BobbinClient } from '../../api/index.js'
import { createToken } from '../../src/tokens.js'
import {
  bobbin,
  type RunningService,
  startService,
  temporaryDirectory,
} from '../support/service.js'

const POST = 'POST /v1/messages?from=&to=b@example.net HTTP/1.1\r\nhost: x\r\n'

async function dial({ url }: RunningService, { allowHalfOpen = false } = {}): Promise<Socket> {
  const { port, hostname: host } = new URL(url)
  const socket = connect({ port: Number(port), host, allowHalfOpen })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** Ports of the clients whose connections it has. */
function establishedAt({ url }: RunningService): number[] {
  const rows = readFileSync('/proc/net/tcp', 'latin1').split('\n')
  // ESTABLISHED is 01, as it has the end of it.
  const found = rows.map((row) => /: \w+:(\w+) \w+:(\w+) 01 /.exec(row))
  const port = Number(new URL(url).port)
  return found
    .filter((row) => row !== null && Number.parseInt(row[1]!, 16) === port)
    .map((row) => Number.parseInt(row![2]!, 16))
}

/** Null: the connection was closed. */
function healthz(url: string): Promise<number | undefined | null> {
  return new Promise((resolve) => {
    get(`${url}/healthz`, { agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode)
    }).on('error', () => resolve(null))
  })
}

/** What it says until it is closed; that may be by a reset, where something was still on its way to it. */
async function heard(socket: Socket): Promise<string> {
  let said = ''
  socket.setEncoding('utf8').on('data', (piece: string) => {
    said += piece
  })
  await new Promise((resolve) => socket.once('close', resolve))
  return said
}

/** Sends a byte now and then until the other side has had enough; resolves with what it said. */
async function drip(socket: Socket, begin: string): Promise<string> {
  socket.write(begin)
  const dripping = setInterval(() => socket.write('x'), 50)
  const stop = () => clearInterval(dripping)
  socket.once('end', stop).once('close', stop)
  return heard(socket)
}

it('stops who sends slowly, in the head or in the body, and keeps nothing of it', async () => {
  const service = await startService(await temporaryDirectory(), {
    BOBBIN_LIMITS_HEADERS_TIMEOUT: '0.4',
    BOBBIN_LIMITS_REQUEST_TIMEOUT: '1.2',
    BOBBIN_SPOOL_LARGE_MESSAGE_THRESHOLD: '16000',
  })
  const rest = 'content-length: 1000000\r\n\r\n'
  const slow = {
    silent: '',
    line: 'GET /v1/spo',
    headers: 'GET /v1/spool HTTP/1.1\r\nhost: x\r\na: ',
    rfc822: `${POST}content-type: message/rfc822\r\n${rest}${'x'.repeat(100_000)}`,
    json: `${POST}content-type: application/json\r\n${rest}{"mailfrom":"`,
    chunked: `${POST}content-type: message/rfc822\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\nab`,
    unknown: `POST /v1/nowhere HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n${rest}`,
  }
  const answers = await Promise.all(
    Object.entries(slow).map(async ([name, begin]) => {
      const socket = await dial(service)
      if (name !== 'silent') return [name, await drip(socket, begin)] as const
      return [name, await heard(socket)] as const
    }),
  )
  for (const [name, answer] of answers) {
    expect(answer, name).toMatch('HTTP/1.1 408 ')
    expect(answer, name).toContain('"code":"ERR_HTTP_REQUEST_TIMEOUT"')
  }
  const client = new BobbinClient(service.url)
  expect(await client.spool()).toMatchObject({ messages: 0, bodies: 0 })
  const { code } = await bobbin(['spool', 'check', '--deep', '--url', service.url])
  expect(code).toBe(0)
  expect(service.log.filter(({ level }) => Number(level) >= 50)).toEqual([])
})

it('gives the connection back of who never closes its side', async () => {
  const service = await startService(await temporaryDirectory(), {
    BOBBIN_LIMITS_HEADERS_TIMEOUT: '1',
    BOBBIN_LIMITS_CONNECTIONS: '2',
  })
  const stubborn = [
    await dial(service, { allowHalfOpen: true }),
    await dial(service, { allowHalfOpen: true }),
  ]
  const third = await dial(service)
  expect(await text(third)).toBe('')
  await expect
    .poll(() => service.log.filter(({ msg }) => String(msg).includes('limits.connections')))
    .toMatchObject([{ level: 40, dropped: 1, maxConnections: 2 }])
  for (const socket of stubborn) socket.resume()
  await expect.poll(() => healthz(service.url), { timeout: 10_000 }).toBe(200)
  for (const socket of stubborn) socket.destroy()
})

it('cuts off who does not read its answer', async () => {
  const data = await temporaryDirectory()
  // On a slow disk nothing moves for so long while it is stored, either.
  const first = await startService(data)
  const { ids } = await new BobbinClient(first.url).inject({
    mailfrom: '',
    rcptto: ['b@example.net'],
    body: Buffer.alloc(32 * 1024 * 1024, 'x\r\n'),
  })
  await first.kill('SIGTERM')
  const service = await startService(data, { BOBBIN_LIMITS_IDLE_TIMEOUT: '0.5' })
  const connections = () => establishedAt(service)
  const socket = await dial(service)
  socket.write(`GET /v1/messages/${ids[0]}/content HTTP/1.1\r\nhost: x\r\n\r\n`)
  const open = async () => (await fetch(`${service.url}/healthz`)).status
  const [piece] = (await once(socket, 'data')) as [Buffer]
  socket.pause()
  let received = piece.length
  expect(await open()).toBe(200)
  await expect.poll(connections).not.toContain(socket.localPort)
  socket.on('data', (bytes: Buffer) => {
    received += bytes.length
  })
  socket.resume()
  await once(socket, 'close')
  expect(received).toBeLessThan(32 * 1024 * 1024)
  expect(await open()).toBe(200)
})

it('refuses a head that is too large', async () => {
  const service = await startService(await temporaryDirectory(), {
    BOBBIN_LIMITS_HEADER_BYTES: '8192',
  })
  const answer = async (bytes: number) =>
    fetch(`${service.url}/healthz`, { headers: { 'x-large': 'x'.repeat(bytes) } })
  expect((await answer(7000)).status).toBe(200)
  const refused = await answer(9000)
  expect(refused.status).toBe(431)
  expect(await refused.json()).toMatchObject({ code: 'HPE_HEADER_OVERFLOW' })
})

it('counts the requests of a token, and of an address without one', async () => {
  const [a, b] = [createToken('a', ['read']), createToken('b', ['read'])]
  const service = await startService(await temporaryDirectory(), {
    BOBBIN_SECURITY_TOKENS: `${a.line},${b.line}`,
    BOBBIN_LIMITS_RATE: '3',
    BOBBIN_LIMITS_RATE_WINDOW: '3600',
  })
  const call = (token?: string, path = '/v1/spool') =>
    fetch(service.url + path, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    })
  const statuses = async (times: number, token?: string, path?: string) => {
    const all = []
    for (let i = 0; i < times; i++) all.push((await call(token, path)).status)
    return all
  }
  expect(await statuses(4, a.token)).toEqual([200, 200, 200, 429])
  const refused = await call(a.token)
  expect(refused.headers.get('retry-after')).toMatch(/^3[56]\d\d$/)
  expect(refused.headers.get('content-type')).toMatch('application/problem+json')
  expect(await refused.json()).toMatchObject({ status: 429, code: 'RATE_LIMITED' })
  expect(await statuses(1, b.token)).toEqual([200])
  // Bad tokens are all one address's.
  expect(await statuses(2, 'bobbin_x')).toEqual([401, 401])
  expect(await statuses(3)).toEqual([401, 429, 429])
  expect(await statuses(1, undefined, '/v1/nowhere')).toEqual([429])
  expect(await statuses(5, undefined, '/healthz')).toEqual([200, 200, 200, 200, 200])
  expect(await statuses(2, b.token)).toEqual([200, 200])
})
