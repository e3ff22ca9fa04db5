// The example's worker against a host that takes, refuses, defers and hangs up: what it reports of each.
import { once } from 'node:events'
import { SMTPServer } from 'smtp-server'
import { afterEach, expect, it } from 'vitest'
import { BobbinClient } from '../../api/client/index.js'
import { startApi } from '../support/api.js'
import { relayPart } from './processes.js'

const MAIL = Buffer.from('Subject: x\r\n\r\n.dot\r\nbody\r\n')

const refusal = (responseCode: number, text: string) =>
  Object.assign(new Error(text), { responseCode })

const servers: SMTPServer[] = []

/** Does what the recipient's name says. */
async function startHost(): Promise<{ port: number; taken: Map<string, string> }> {
  const taken = new Map<string, string>()
  const cut = new Set<string>()
  const server = new SMTPServer({
    authOptional: true,
    closeTimeout: 100,
    disabledCommands: ['STARTTLS'],
    onRcptTo({ address }, _session, answer) {
      if (address.startsWith('unknown')) return answer(refusal(550, '5.1.1 no such user'))
      if (address.startsWith('busy')) return answer(refusal(451, '4.3.2 later'))
      answer()
    },
    async onData(stream, { envelope }, answer) {
      const chunks: Buffer[] = []
      for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk)
      const { address } = envelope.rcptTo[0]!
      if (address.startsWith('spam')) return answer(refusal(554, '5.7.1 no thanks'))
      // Hangs up on what it has, the first time.
      if (address.startsWith('cut') && !cut.has(address)) {
        cut.add(address)
        for (const connection of server.connections) connection.close()
        return
      }
      taken.set(address, Buffer.concat(chunks).toString())
      answer(null, 'taken')
    },
  })
  server.on('error', () => undefined)
  servers.push(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { port: (server.server.address() as { port: number }).port, taken }
}

afterEach(async () => {
  await Promise.all(
    servers
      .splice(0)
      .map((server) => new Promise<void>((resolve) => server.close(() => resolve()))),
  )
})

it('reports what became of each message, and ends in order', async () => {
  const api = await startApi()
  const { port } = await api.listen()
  const client = new BobbinClient(`http://127.0.0.1:${port}`)
  const host = await startHost()
  const names = ['taken', 'unknown', 'busy', 'spam']
  const rcptto = names.map((name) => `${name}@example.net`)
  await client.inject({ mailfrom: '', rcptto, body: MAIL })

  const relay = relayPart({ bobbin: port, haraka: 0, sink: host.port })
  await relay.start()
  const records: Record<string, unknown>[] = []
  for await (const record of client.tail('mainlog', { from: 'begin' })) {
    const entry = record.json<Record<string, unknown>>()
    if (entry.type !== 'reception') records.push(entry)
    if (records.length === names.length) break
  }
  const of = (name: string) => records.find((entry) => entry.rcptto === `${name}@example.net`)
  const peer = '127.0.0.1'
  expect(of('taken')).toMatchObject({ type: 'delivery', peer, note: '250 taken' })
  expect(of('unknown')).toMatchObject({ type: 'permanent_failure', peer, stage: 5 })
  expect(of('unknown')!.note).toContain('5.1.1 no such user')
  expect(of('busy')).toMatchObject({ type: 'transient_failure', peer, stage: 5 })
  expect(of('spam')).toMatchObject({ type: 'permanent_failure', peer, stage: 9 })
  expect([...host.taken]).toEqual([['taken@example.net', MAIL.toString()]])
  expect(await relay.stop('SIGTERM')).toBe(0)
  expect(await client.spool()).toMatchObject({ messages: 1 })
})

it('sends all of a message again when the host has hung up on it', async () => {
  const api = await startApi()
  const { port } = await api.listen()
  const client = new BobbinClient(`http://127.0.0.1:${port}`)
  const host = await startHost()
  await client.inject({ mailfrom: '', rcptto: ['cut@example.net'], body: MAIL })
  const relay = relayPart({ bobbin: port, haraka: 0, sink: host.port })
  await relay.start()
  const types: string[] = []
  for await (const record of client.tail('mainlog', { from: 'begin' })) {
    const { type, id, stage } = record.json<{ type: string; id: string; stage?: number }>()
    types.push(type)
    if (type === 'transient_failure') {
      expect(stage).toBe(22)
      await client.changeMeta(id, { next_attempt: 0 })
    }
    if (type === 'delivery') break
  }
  expect(types).toEqual(['reception', 'transient_failure', 'delivery'])
  expect([...host.taken]).toEqual([['cut@example.net', MAIL.toString()]])
  expect(await relay.stop('SIGTERM')).toBe(0)
  // fetch may have opened one that it has not used; the server would wait for its request.
  api.app.server.closeAllConnections()
})

it('tries again where there is no host, and leaves to Bobbin what Bobbin cannot give', async () => {
  const api = await startApi()
  const { port } = await api.listen()
  const client = new BobbinClient(`http://127.0.0.1:${port}`)
  const { ids } = await client.inject({
    mailfrom: '',
    rcptto: ['a@example.net', 'b@example.net'],
    body: MAIL,
  })
  await client.dropContent(ids[1]!)
  const relay = relayPart({ bobbin: port, haraka: 0, sink: 1 }, { lease: 60 })
  const left = new Promise<string>((resolve) => {
    relay.on('line', (line) => {
      if (line.includes('left for later')) resolve(line)
    })
  })
  await relay.start()
  for await (const record of client.tail('mainlog', { from: 'begin' })) {
    const { type, id, stage } = record.json<{ type: string; id: string; stage: number }>()
    if (type === 'reception') continue
    expect({ type, id, stage }).toEqual({ type: 'transient_failure', id: ids[0], stage: 0 })
    break
  }
  expect(await left).toContain(ids[1])
  expect(await relay.stop('SIGTERM')).toBe(0)
  // Nothing was reported of it: it comes again when its lease ends.
  expect(await client.meta(ids[1]!)).toMatchObject({ state: 'leased', retries: 0 })
})
