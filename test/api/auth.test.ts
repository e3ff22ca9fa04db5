import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { get } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { SCOPES } from '../../api/index.js'
import { createToken, TokenSet } from '../../src/tokens.js'
import { startApi, type TestApi } from '../support/api.js'
import { temporaryDirectory } from '../support/service.js'

interface Operation {
  operationId: string
  security: Record<string, string[]>[]
  responses: Record<string, unknown>
}

async function withTokens(...scopes: string[][]) {
  const made = scopes.map((list, i) => createToken(`holder-${i}`, list))
  const tokens = await TokenSet.open({ file: '', lines: made.map(({ line }) => line) })
  const api = await startApi({}, { authenticator: tokens! })
  await api.app.ready()
  return { api, tokens: made.map(({ token }) => token) }
}

function operations({ app }: TestApi): { method: string; url: string; operation: Operation }[] {
  const { paths = {} } = app.swagger()
  return Object.entries(paths).flatMap(([url, item]) =>
    Object.entries(item as Record<string, Operation>).map(([method, operation]) => ({
      method: method.toUpperCase(),
      url: url.replaceAll(/\{[^}]+\}/g, 'x'),
      operation,
    })),
  )
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

describe('the scopes of routes', () => {
  it('are in the document, for every operation', async () => {
    const { api } = await withTokens(['read'])
    const all = operations(api)
    expect(all.length).toBeGreaterThan(40)
    const open = all.filter(({ operation }) => operation.security.length === 0)
    expect(open.map(({ operation }) => operation.operationId).sort()).toEqual([
      'describe',
      'liveness',
      'readiness',
    ])
    for (const { operation } of all) {
      if (open.some((other) => other.operation === operation)) continue
      expect(operation.security, operation.operationId).toHaveLength(1)
      const scopes = operation.security[0]!.bearer!
      expect(scopes.length, operation.operationId).toBeGreaterThan(0)
      for (const scope of scopes) expect(SCOPES).toContain(scope)
      expect(operation.responses).toMatchObject({ 401: {}, 403: {} })
    }
    expect(app(api).components).toMatchObject({
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
    })
  })

  it('are asked of every operation: 401 without a token, 403 without the scope', async () => {
    const { api, tokens } = await withTokens(...SCOPES.map((scope) => [scope]))
    const of = Object.fromEntries(SCOPES.map((scope, i) => [scope, tokens[i]!]))
    for (const { method, url, operation } of operations(api)) {
      const call = (headers: Record<string, string>) =>
        api.app.inject({ method: method as 'GET', url, headers })
      const [needed] = operation.security
      if (needed === undefined) {
        expect((await call({})).statusCode, url).toBe(200)
        continue
      }
      const none = await call({})
      expect(none.statusCode, url).toBe(401)
      expect(none.headers['www-authenticate']).toBe('Bearer realm="bobbin"')
      expect(none.headers['content-type']).toMatch('application/problem+json')
      expect(none.json()).toMatchObject({ status: 401, code: 'TOKEN_MISSING' })
      for (const scope of SCOPES) {
        const { bearer: wanted } = needed as { bearer: string[] }
        const missing = wanted.filter((name) => name !== scope)
        if (missing.length === 0) continue
        const refused = await call(bearer(of[scope]!))
        expect(refused.statusCode, `${method} ${url} with ${scope}`).toBe(403)
        expect(refused.json()).toMatchObject({
          code: 'MISSING_SCOPE',
          detail: expect.stringContaining(missing.join(' ')) as string,
        })
        expect(refused.headers['www-authenticate']).toContain(
          `error="insufficient_scope", scope="${missing.join(' ')}"`,
        )
      }
    }
  })

  it('cannot be forgotten: such a route is refused', async () => {
    const { app } = await startApi()
    expect(() => app.get('/v1/forgotten', async () => 'x')).toThrow(
      /GET \/v1\/forgotten names no scope/,
    )
    expect(app.hasRoute({ method: 'GET', url: '/v1/forgotten' })).toBe(false)
  })
})

describe('a token', () => {
  it('lets in what it has the scopes for', async () => {
    const { api, tokens } = await withTokens(['inject'], ['read', 'inject'])
    const inject = await api.app.inject({
      method: 'POST',
      url: '/v1/messages?from=a@example.com&to=b@example.net',
      headers: { ...bearer(tokens[0]!), 'content-type': 'message/rfc822' },
      payload: 'x',
    })
    expect(inject.statusCode).toBe(201)
    const {
      ids: [id],
    } = inject.json<{ ids: string[] }>()
    const read = (token: string) =>
      api.app.inject({ url: `/v1/messages/${id}/content`, headers: bearer(token) })
    expect((await read(tokens[0]!)).statusCode).toBe(403)
    expect((await read(tokens[1]!)).body).toBe('x')
    const share = (token: string, url: string, wrap: (json: object) => object) =>
      api.app.inject({
        method: 'POST',
        url,
        headers: bearer(token),
        payload: wrap({ mailfrom: '', rcptto: ['c@example.net'], refs: id }),
      })
    for (const [url, wrap] of [
      ['/v1/messages', (json: object) => json],
      ['/v1/messages/batch', (json: object) => [json]],
    ] as const) {
      const refused = await share(tokens[0]!, url, wrap)
      expect(refused.json(), url).toMatchObject({ code: 'MISSING_SCOPE' })
      expect((await share(tokens[1]!, url, wrap)).statusCode, url).toBe(201)
    }
    const copy = (token: string) =>
      api.app.inject({ method: 'POST', url: `/v1/messages/${id}/copy`, headers: bearer(token) })
    expect((await copy(tokens[0]!)).json()).toMatchObject({
      detail: expect.stringMatching(/read$/) as string,
    })
    expect((await copy(tokens[1]!)).statusCode).toBe(201)
  })

  it('that is none is refused', async () => {
    const { api } = await withTokens(['read'])
    for (const authorization of [
      'Bearer bobbin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
      'Bearer ',
      'Bearer',
      'Basic YTpi',
      `Bearer ${'x'.repeat(100_000)}`,
      'Bearer a b',
      'Bearer \u00e9',
      '',
    ]) {
      const refused = await api.app.inject({ url: '/v1/messages', headers: { authorization } })
      expect(refused.statusCode).toBe(401)
      expect(refused.json()).toMatchObject({ code: 'TOKEN_INVALID' })
      expect(refused.headers['www-authenticate']).toContain('error="invalid_token"')
      expect(refused.body).not.toContain('AAAA')
    }
  })

  it('is not asked for by health, the document and its page, nor for what is not there', async () => {
    const { api } = await withTokens(['read'])
    for (const url of ['/healthz', '/readyz', '/openapi.json', '/docs/'])
      expect((await api.app.inject({ url })).statusCode, url).toBe(200)
    expect((await api.app.inject({ url: '/v1/nowhere' })).statusCode).toBe(404)
    const head = await api.app.inject({ method: 'HEAD', url: '/v1/messages' })
    expect(head.statusCode).toBe(401)
  })
})

describe('who is refused', () => {
  it('is told before the body is sent, and nothing of it is kept', async () => {
    const { api } = await withTokens(['read'])
    const { port } = await api.listen()
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(
      'POST /v1/messages?from=&to=b@example.net HTTP/1.1\r\nhost: x\r\ncontent-type: message/rfc822\r\ncontent-length: 1000000\r\n\r\nbeginning',
    )
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 401 /)
    socket.destroy()
    expect(await api.spool.stats()).toMatchObject({ messages: 0, bodies: 0 })
  })
})

describe('who has no token', () => {
  it('writes no lines into the log of the service, whatever he asks for', async () => {
    const made = createToken('known', ['read'])
    const tokens = await TokenSet.open({ file: '', lines: [made.line] })
    const written: string[] = []
    const logger = pino({ level: 'info' }, { write: (line: string) => void written.push(line) })
    const api = await startApi({}, { authenticator: tokens!, logger })
    const { port } = await api.listen()
    written.length = 0
    await api.app.inject({ url: '/v1/messages' })
    await api.app.inject({ url: '/v1/messages', headers: bearer('wrong') })
    await api.app.inject({ url: '/nowhere' })
    const socket = connect(port, '127.0.0.1')
    socket.end('nonsense\r\n\r\n')
    expect(await text(socket)).toMatch('HTTP/1.1 400 ')
    expect(written).toEqual([])
    await api.app.inject({ url: '/v1/messages?limit=x', headers: bearer(made.token) })
    expect(written.map((line) => JSON.parse(line) as object)).toMatchObject([
      { msg: 'request refused', status: 400 },
    ])
  })
})

describe('a revoked token', () => {
  it('loses its streams and long polls, and nobody else theirs', async () => {
    const file = join(await temporaryDirectory(), 'tokens')
    const [kept, gone] = [createToken('kept', ['log']), createToken('gone', ['log', 'admin'])]
    await writeFile(file, `# two\n\n${kept.line}\n${gone.line}\n`, { mode: 0o600 })
    const tokens = (await TokenSet.open({ file, lines: [] }))!
    const api = await startApi({}, { authenticator: tokens })
    const { url } = await api.listen()
    const subscribed = await api.app.inject({
      method: 'PUT',
      url: '/v1/journals/mainlog/subscribers/s?whence=end',
      headers: bearer(gone.token),
    })
    expect(subscribed.statusCode).toBe(201)
    const tail = (token: string) =>
      fetch(`${url}/v1/journals/mainlog/tail`, { headers: bearer(token) })
    const keptTail = (await tail(kept.token)).body!.getReader()
    const goneTail = (await tail(gone.token)).body!.getReader()
    await keptTail.read()
    await goneTail.read()
    const poll = new Promise<Error>((resolve, reject) => {
      get(
        `${url}/v1/journals/mainlog/subscribers/s/records?wait=60`,
        { headers: bearer(gone.token) },
        () => reject(new Error('answered')),
      ).on('error', resolve)
    })
    // Until the long poll is under way, too.
    await expect
      .poll(
        () =>
          new Promise((resolve) => {
            api.app.server.getConnections((_error, count) => resolve(count))
          }),
      )
      .toBe(3)

    await writeFile(file, `${kept.line}\n`)
    expect(await tokens.reload()).toEqual({ total: 1, added: [], removed: ['gone'], changed: [] })
    await expect(goneTail.read()).rejects.toThrow()
    expect(await poll).toMatchObject({ code: 'ECONNRESET' })
    expect((await tail(gone.token)).status).toBe(401)
    await api.spool.log({ type: 'heartbeat' })
    expect(Buffer.from((await keptTail.read()).value!).toString()).toMatch(/^id: /)
    await keptTail.cancel()
  })
})

describe('without tokens', () => {
  it('everybody may do everything, and the document says that no token is needed', async () => {
    const api = await startApi()
    await api.app.ready()
    expect((await api.app.inject({ url: '/v1/spool' })).statusCode).toBe(200)
    const { security } = operations(api).find(
      ({ operation }) => operation.operationId === 'spool_stats',
    )!.operation
    expect(security).toEqual([{ bearer: ['read'] }, {}])
  })

  it('a page of another site may not call', async () => {
    const api = await startApi()
    const call = (origin: string) =>
      api.app.inject({
        method: 'POST',
        url: '/v1/spool/check',
        headers: { origin, host: '127.0.0.1:8025' },
      })
    for (const origin of ['https://example.com', 'null', 'http://127.0.0.1:9999', 'nonsense']) {
      const refused = await call(origin)
      expect(refused.statusCode, origin).toBe(403)
      expect(refused.json()).toMatchObject({ code: 'CROSS_ORIGIN' })
    }
    expect((await call('http://127.0.0.1:8025')).statusCode).toBe(202)
  })
})

function app({ app: server }: TestApi) {
  return server.swagger() as { components?: unknown }
}
