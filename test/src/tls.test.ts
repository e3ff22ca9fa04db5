import { once } from 'node:events'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, type RequestOptions, request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { connect, type TLSSocket } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { type CertificateFiles, makeCertificate, noCertificates } from '../support/certificates.js'
import { bobbin, startService, temporaryDirectory } from '../support/service.js'

if (noCertificates !== null) console.log(`the tests of TLS are skipped: ${noCertificates}`)

async function get(url: string, options: RequestOptions) {
  const sent = request(url, { agent: false, ...options })
  sent.end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const socket = response.socket as TLSSocket
  const { fingerprint256 } = socket.getPeerCertificate()
  return { status: response.statusCode, body: await text(response), fingerprint: fingerprint256 }
}

async function handshake(url: string, options: object): Promise<TLSSocket> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), ...options })
  await once(socket, 'secureConnect')
  return socket
}

const settings = ({ cert, key }: CertificateFiles) => ({
  BOBBIN_SECURITY_TLS_CERT: cert,
  BOBBIN_SECURITY_TLS_KEY: key,
})

const logged = (log: readonly Record<string, unknown>[], message: RegExp) =>
  log.filter(({ msg }) => message.test(String(msg)))

describe.skipIf(noCertificates !== null)('TLS', () => {
  it('takes a new certificate on SIGHUP and keeps the connections there are; a bad one changes nothing', async () => {
    const dir = await temporaryDirectory()
    const [first, second, expired] = [
      await makeCertificate(dir, 'first'),
      await makeCertificate(dir, 'second'),
      await makeCertificate(dir, 'expired', { days: -1 }),
    ]
    const live = { cert: join(dir, 'live.pem'), key: join(dir, 'live.key') }
    const install = async ({ cert, key }: CertificateFiles) => {
      await copyFile(cert, live.cert)
      await copyFile(key, live.key)
    }
    await install(first)
    const ca = [await readFile(first.cert), await readFile(second.cert)]
    const service = await startService(join(dir, 'data'), settings(live))
    expect(service.url).toMatch(/^https:/)
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca })
    const kept = () => get(`${service.url}/healthz`, { agent })
    const fresh = () => get(`${service.url}/healthz`, { ca })
    const before = await kept()
    expect(before).toMatchObject({ status: 200, body: '{"status":"ok"}' })
    const stream = request(`${service.url}/v1/journals/mainlog/tail`, { agent: false, ca })
    stream.end()
    const [tail] = (await once(stream, 'response')) as [IncomingMessage]
    let events = ''
    tail.setEncoding('utf8').on('data', (piece: string) => {
      events += piece
    })
    await expect.poll(() => events).not.toBe('')

    await install(second)
    service.signal('SIGHUP')
    await expect.poll(() => logged(service.log, /CN=second/).length).toBe(1)
    const after = await fresh()
    expect(after.fingerprint).not.toBe(before.fingerprint)
    expect((await kept()).fingerprint).toBe(before.fingerprint)
    const sent = request(`${service.url}/v1/messages?from=&to=b@example.net`, {
      agent: false,
      ca,
      method: 'POST',
      headers: { 'content-type': 'message/rfc822' },
    })
    sent.end('x')
    expect(((await once(sent, 'response')) as [IncomingMessage])[0].statusCode).toBe(201)
    await expect.poll(() => events).toMatch(/^id: /m)

    const bad: [RegExp, () => Promise<unknown>][] = [
      [/live\.pem: not a certificate/, () => writeFile(live.cert, 'nonsense')],
      [/key values mismatch/, () => copyFile(first.cert, live.cert)],
      [/CN=expired has expired/, () => install(expired)],
    ]
    for (const [message, spoil] of bad) {
      await spoil()
      service.signal('SIGHUP')
      await expect.poll(() => logged(service.log, message)).toHaveLength(1)
      expect(logged(service.log, message)[0]).toMatchObject({ level: 50 })
      expect((await fresh()).fingerprint).toBe(after.fingerprint)
      await install(second)
    }
    expect((await kept()).fingerprint).toBe(before.fingerprint)
    tail.destroy()
    agent.destroy()
    expect(await service.kill('SIGTERM')).toEqual({ code: 0, signal: null })
  })

  it('is not spoken below its oldest version, and is not kept waiting by who does not shake hands', async () => {
    const dir = await temporaryDirectory()
    const files = await makeCertificate(dir, 'server')
    const ca = await readFile(files.cert)
    const service = await startService(join(dir, 'data'), settings(files))
    const old = { ca, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }
    await expect(handshake(service.url, old)).rejects.toThrow()
    const socket = await handshake(service.url, { ca, maxVersion: 'TLSv1.2' })
    expect(socket.getProtocol()).toBe('TLSv1.2')
    socket.destroy()
    const newer = await startService(join(dir, 'newer'), {
      ...settings(files),
      BOBBIN_SECURITY_TLS_MIN_VERSION: 'TLSv1.3',
    })
    await expect(handshake(newer.url, { ca, maxVersion: 'TLSv1.2' })).rejects.toThrow()

    const { hostname, port } = new URL(service.url)
    const silent = connectTcp(Number(port), hostname)
    silent.on('error', () => undefined)
    await once(silent, 'connect')
    service.signal('SIGTERM')
    await expect.poll(() => logged(service.log, /^stopping$/)).toHaveLength(1)
    service.signal('SIGTERM')
    expect(await service.ended).toEqual({ code: 0, signal: null })
  })

  it('lets in only those whose certificate the authority has signed, when there is one', async () => {
    const dir = await temporaryDirectory()
    const files = await makeCertificate(dir, 'server')
    const authority = await makeCertificate(dir, 'authority', { usage: 'authority' })
    const friend = await makeCertificate(dir, 'friend', { issuer: authority, usage: 'clientAuth' })
    const stranger = await makeCertificate(dir, 'stranger', { usage: 'clientAuth' })
    const service = await startService(join(dir, 'data'), {
      ...settings(files),
      BOBBIN_SECURITY_TLS_CLIENT_CA: authority.cert,
    })
    const ca = await readFile(files.cert)
    const as = async ({ cert, key }: CertificateFiles) =>
      get(`${service.url}/v1/spool`, { ca, cert: await readFile(cert), key: await readFile(key) })
    expect((await as(friend)).status).toBe(200)
    await expect(as(stranger)).rejects.toThrow()
    await expect(get(`${service.url}/v1/spool`, { ca })).rejects.toThrow()
    await service.kill('SIGTERM')
    const { stdout } = await bobbin(['jlog', 'cat', join(dir, 'data', 'journals', 'acctlog')])
    const [first] = stdout.toString().split('\n')
    expect(JSON.parse(first!)).toMatchObject({
      type: 'authentication',
      user: 'anonymous',
      peer: '127.0.0.1',
      note: expect.stringMatching(/^TLS: client certificate refused: DEPTH_ZERO/) as string,
    })
    expect(stdout.toString()).toContain('refused 1 times more')
  })
})
