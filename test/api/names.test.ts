/** Names that callers choose: none of them leads out of the directory that it is a name in. */
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'
import { temporaryDirectory } from '../support/service.js'

/** As it is: neither fetch nor `inject` sends `..` in a path. */
function send(port: number, method: string, path: string, body?: object) {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const headers = payload === undefined ? {} : { 'content-type': 'application/json' }
    const onResponse = (response: IncomingMessage) => {
      text(response).then((said) => resolve({ status: response.statusCode!, body: said }), reject)
    }
    request({ host: '127.0.0.1', port, method, path, headers, agent: false }, onResponse)
      .on('error', reject)
      .end(payload)
  })
}

/** Every path there is, but for the inside of the spool's own files. */
async function tree(dir: string): Promise<string[]> {
  return (await readdir(dir, { recursive: true })).sort()
}

const HOSTILE = [
  '.',
  '..',
  '%2e',
  '%2e%2e',
  '%2E%2E',
  '..%2f',
  '..%2F..%2Fetc%2Fpasswd',
  '%2e%2e%2f%2e%2e%2foutside',
  '..%5c..%5coutside',
  '%2fetc%2fpasswd',
  'a%2fb',
  'a%2f..%2f..%2foutside',
  '%00',
  'a%00b',
  'mainlog%00',
  'mainlog%2f',
  'mainlog%2f..%2fmainlog',
  'mainlog%0a',
  '%0amainlog',
  '.hidden',
  '.deleted-mainlog',
  '-rf',
  '~',
  '%20',
  'a%20b',
  'caf%C3%A9',
  '%E2%80%AE',
  '%EF%BC%8E%EF%BC%8E%EF%BC%8F',
  '%c0%ae%c0%ae%c0%af',
  '%ff',
  '%u002e%u002e',
  '%252e%252e%252f',
  '%',
  '%zz',
  'x'.repeat(129),
  'x'.repeat(1024),
  'x'.repeat(5000),
]

describe('a journal', () => {
  it('of no name leaves its directory', async () => {
    const api = await startApi()
    const { port } = await api.listen()
    await writeFile(join(api.data, 'outside'), 'precious')
    await mkdir(join(api.data, 'etc'))
    const before = await tree(api.data)
    for (const name of HOSTILE) {
      for (const [method, path, body] of [
        ['PUT', '', undefined],
        ['GET', '', undefined],
        ['PATCH', '', { safety: 'safe' }],
        ['DELETE', '', undefined],
        ['POST', '/records', undefined],
        ['GET', '/tail', undefined],
        ['GET', '/subscribers', undefined],
        ['PUT', '/subscribers/s', undefined],
        ['GET', '/subscribers/s/records', undefined],
      ] as const) {
        const { status, body: said } = await send(port, method, `/v1/journals/${name}${path}`, body)
        expect(status, `${method} ${name}${path}: ${said}`).toBeGreaterThanOrEqual(400)
        expect(status, `${method} ${name}${path}: ${said}`).toBeLessThan(500)
        expect(said).not.toContain(api.data)
      }
    }
    expect(await tree(api.data)).toEqual(before)
    expect(await api.journals.names()).toEqual(['mainlog'])
  })

  it('is made in its directory, whatever its name, or not at all', async () => {
    const api = await startApi({ maxJournals: 100_000 })
    const { port } = await api.listen()
    const before = await tree(api.data)
    const names = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 12 }),
      fc.string({
        unit: fc.constantFrom('a', 'Z', '0', '.', '/', '\\', '-', '_', '%', '\0', '\n'),
      }),
    )
    await fc.assert(
      fc.asyncProperty(names, async (name) => {
        const url = `/v1/journals/${encodeURIComponent(name).replaceAll('.', '%2e')}`
        const { status } = await send(port, 'PUT', url)
        const isName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(name) && !name.includes('\n')
        expect(status).toBe(isName ? 201 : name === '' ? 404 : 400)
        if (!isName) return
        expect(await api.journals.names()).toEqual(['mainlog', name].sort())
        expect((await send(port, 'DELETE', url)).status).toBe(204)
      }),
      { numRuns: 300 },
    )
    expect(await tree(api.data)).toEqual(before)
  })
})

describe('a subscriber', () => {
  const names = [
    '.',
    '..',
    '../../outside',
    '/etc/passwd',
    'a\0b',
    'line\nbreak',
    '~',
    'café',
    '🧵',
    '\u202e',
    'x'.repeat(126),
    '%2e%2e%2f',
    ' ',
  ]

  it('of any name is a file of its journal, and comes back as it went in', async () => {
    const api = await startApi()
    const { port } = await api.listen()
    const at = (name: string) =>
      `/v1/journals/mainlog/subscribers/${encodeURIComponent(name).replaceAll('.', '%2e')}`
    const before = await tree(api.data)
    for (const name of names)
      expect(await send(port, 'PUT', at(name)), name).toMatchObject({ status: 201 })
    const added = (await tree(api.data)).filter((path) => !before.includes(path))
    expect(added).toEqual(
      names.map((name) => `journals/mainlog/cp.${Buffer.from(name).toString('hex')}`).sort(),
    )
    const listed = await api.app.inject({ url: '/v1/journals/mainlog/subscribers' })
    const { subscribers } = listed.json<{ subscribers: { name: string }[] }>()
    expect(subscribers.map(({ name }) => name).sort()).toEqual([...names].sort())
    for (const name of names) {
      const copied = `${at('copy')}?whence=copy:${encodeURIComponent(name)}`
      expect((await send(port, 'PUT', copied)).status, name).toBe(201)
      expect((await send(port, 'DELETE', at('copy'))).status).toBe(204)
      expect((await send(port, 'GET', `${at(name)}/records`)).status, name).toBe(200)
      expect((await send(port, 'DELETE', at(name))).status, name).toBe(204)
    }
    expect(await tree(api.data)).toEqual(before)
  })

  it('is refused when its name is no text, or too long for a file', async () => {
    const api = await startApi()
    const { port } = await api.listen()
    const before = await tree(api.data)
    for (const name of [
      '%ff',
      '%c0%ae',
      '%',
      'x'.repeat(127),
      'x'.repeat(5000),
      '%C3%A9'.repeat(64),
    ]) {
      const { status, body } = await send(port, 'PUT', `/v1/journals/mainlog/subscribers/${name}`)
      expect(status, `${name}: ${body}`).toBeGreaterThanOrEqual(400)
      expect(status, `${name}: ${body}`).toBeLessThan(500)
    }
    const copy = '/v1/journals/mainlog/subscribers/s?whence=copy:..%2f..%2foutside'
    expect((await send(port, 'PUT', copy)).status).toBe(404)
    expect(await tree(api.data)).toEqual(before)
  })
})

describe('other names in a path', () => {
  it('lead nowhere either', async () => {
    const api = await startApi()
    const { port } = await api.listen()
    await writeFile(join(api.data, 'outside.json'), '{"name":"outside"}')
    const before = await tree(api.data)
    for (const name of [...HOSTILE, '..%2f..%2foutside']) {
      for (const [method, path] of [
        ['GET', `/v1/spool/quarantine/${name}`],
        ['GET', `/v1/spool/quarantine/${name}/content`],
        ['POST', `/v1/spool/quarantine/${name}/release`],
        ['DELETE', `/v1/spool/quarantine/${name}`],
        ['GET', `/v1/jobs/${name}`],
        ['DELETE', `/v1/jobs/${name}`],
        ['GET', `/v1/messages/${name}/meta`],
        ['DELETE', `/v1/messages/${name}`],
        ['GET', `/v1/messages/${name}/context/conn/${name}`],
        ['DELETE', `/v1/claims/${name}`],
        ['GET', `/docs/static/${name}`],
      ] as const) {
        const { status, body } = await send(port, method, path)
        // The page of the document leads from one path of its own to another.
        const isPage = path.startsWith('/docs') && status < 400
        if (isPage) expect(body).not.toMatch(/precious|root:/)
        else expect(status, `${method} ${path}: ${body}`).toBeGreaterThanOrEqual(400)
        expect(status, `${method} ${path}: ${body}`).toBeLessThan(500)
      }
    }
    expect(await tree(api.data)).toEqual(before)
  })

  it('of a backup stay below their root, though a link leads out of it', async () => {
    const base = await temporaryDirectory()
    const [backups, outside] = [join(base, 'backups'), join(base, 'outside')]
    await mkdir(backups)
    await mkdir(outside)
    await symlink(outside, join(backups, 'link'))
    await symlink(join(outside, 'new'), join(backups, 'dangling'))
    const api = await startApi({}, { backupRoot: backups })
    const backup = (name: string) =>
      api.app.inject({ method: 'POST', url: '/v1/spool/backup', payload: { name } })
    for (const name of ['..', '.', '../outside/x', '/etc', 'a/b', 'a\0b', '', 'x'.repeat(129), 'é'])
      expect((await backup(name)).statusCode, name).toBe(400)
    for (const name of ['link', 'dangling']) expect((await backup(name)).statusCode).toBe(422)
    expect((await backup('good')).statusCode).toBe(202)
    await finished(api)
    expect(await readdir(outside)).toEqual([])
    expect((await readdir(backups)).sort()).toEqual(['dangling', 'good', 'link'])
  })
})

async function finished({ app }: TestApi): Promise<void> {
  await expect
    .poll(async () => {
      const { jobs } = (await app.inject({ url: '/v1/jobs' })).json<{ jobs: { state: string }[] }>()
      return jobs.map(({ state }) => state)
    })
    .toEqual(['done'])
}
