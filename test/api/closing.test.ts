import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { startApi } from '../support/api.js'

const HALF =
  'POST /v1/messages?from=&to=b@example.net HTTP/1.1\r\nHost: x\r\nContent-Type: message/rfc822\r\nContent-Length: 4\r\n\r\nab'

/** Connections that have each sent half a message. */
async function halves(host: string, port: number, count: number): Promise<[Socket, string[]][]> {
  return Array.from({ length: count }, () => {
    const socket = connect(port, host)
    const heard: string[] = []
    socket.setEncoding('utf8').on('data', (text: string) => heard.push(text))
    socket.write(HALF)
    return [socket, heard]
  })
}

it('finishes what it has begun, and does not wait for connections that stay open', async () => {
  const api = await startApi()
  const { host, port } = await api.listen()
  const begun = new Promise<void>((resolve) => {
    let count = 0
    api.app.server.on('request', () => ++count === 3 && resolve())
  })
  const all = await halves(host, port, 3)
  await begun
  const silent = connect(port, host)
  await once(silent, 'connect')
  const silenced = once(silent.resume(), 'close')
  // With one that stays open, this would wait for as long as a connection is kept.
  const closed = api.app.close()
  const next = ['', 'GET /v1/messages', 'GET /healthz']
  for (const [i, [socket]] of all.entries()) {
    const more = next[i] === '' ? '' : `${next[i]} HTTP/1.1\r\nHost: x\r\n\r\n`
    socket.write(`cd${more}`)
  }
  await Promise.all(all.map(([socket]) => once(socket, 'close')))
  await Promise.all([closed, silenced])
  const [kept, refused, alive] = all.map(([, heard]) => heard.join(''))
  for (const text of [kept, refused, alive]) expect(text).toMatch(/^HTTP\/1.1 201 /)
  expect(refused).toMatch(/HTTP\/1.1 503 .*retry-after: 5\r\n/s)
  expect(refused).toMatch(
    /content-type: application\/problem\+json.*"code":"NOT_READY".*"stopping"/s,
  )
  expect(alive).toMatch(/HTTP\/1.1 200 .*\{"status":"ok"\}$/s)
  expect(await api.spool.stats()).toMatchObject({ messages: 3 })
})
