import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import type { ApiOptions } from '../../api/index.js'
import { MAX_CALLERS, type Refusal, RefusalLog } from '../../api/plugins/refusals.js'
import { readRecords, SAFETY } from '../../jlog/index.js'
import { createToken, TokenSet } from '../../src/tokens.js'
import { startApi, type TestApi } from '../support/api.js'

interface Act {
  type: string
  time: string
  connection_id: string
  user: string
  peer: string
  note: string
}

async function audited(options: Partial<ApiOptions> = {}, format: 'json' | 'ec' = 'json') {
  const api = await startApi(
    {},
    { ownJournals: ['mainlog', 'acctlog'], ...options },
    {
      events: {
        format,
        journalOf: (type) =>
          type === 'administration' || type === 'authentication' ? 'acctlog' : 'mainlog',
      },
    },
  )
  await api.journals.create('acctlog', { safety: SAFETY.safe })
  await api.app.ready()
  return api
}

/** What the journal has, once the relay has taken everything there. */
async function lines({ spool, journals }: TestApi): Promise<string[]> {
  await expect.poll(() => spool.outbox.size().records).toBe(0)
  const found: string[] = []
  for await (const batch of readRecords(await journals.path('acctlog')))
    for (const { payload } of batch) found.push(Buffer.from(payload).toString())
  return found
}

async function acts(api: TestApi): Promise<Act[]> {
  return (await lines(api)).map((line) => JSON.parse(line) as Act)
}

const BACKUP = { name: 'one' }

describe('an administrative act', () => {
  it('is in acctlog with who, from where, what and the outcome, when it is answered', async () => {
    const made = createToken('ops', ['admin', 'log', 'deliver', 'inject'])
    const tokens = await TokenSet.open({ file: '', lines: [made.line] })
    const api = await audited({ authenticator: tokens! })
    const call = (method: 'PUT' | 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object) =>
      api.app.inject({
        method,
        url,
        remoteAddress: '192.0.2.7',
        headers: { authorization: `Bearer ${made.token}` },
        ...(payload ? { payload } : {}),
      })
    const injected = await call('POST', '/v1/messages', {
      mailfrom: '',
      rcptto: ['b@example.net'],
      content: 'x',
    })
    const {
      ids: [id],
    } = injected.json<{ ids: string[] }>()
    await call('PUT', '/v1/journals/audited', { safety: 'safe' })
    await call('PUT', '/v1/journals/audited')
    await call('PATCH', '/v1/journals/audited', { segment_size: 1000 })
    await call('PUT', '/v1/journals/audited/subscribers/caf%C3%A9')
    await call('PUT', '/v1/journals/audited/subscribers/caf%C3%A9/checkpoint', {
      id: '00000000:00000000',
    })
    await call('PUT', '/v1/journals/audited/subscribers/caf%C3%A9/checkpoint?rewind=true', {
      id: '00000000:00000000',
    })
    await call('DELETE', '/v1/journals/audited/subscribers/caf%C3%A9')
    await call('DELETE', '/v1/journals/audited')
    await call('DELETE', `/v1/messages/${id}`)
    await call('DELETE', '/v1/spool/quarantine/none')
    const recorded = await acts(api)
    for (const { type, user, peer, time, connection_id } of recorded) {
      expect({ type, user, peer }).toEqual({
        type: 'administration',
        user: 'ops',
        peer: '192.0.2.7',
      })
      expect(Math.abs(Date.parse(time) - Date.now())).toBeLessThan(60_000)
      expect(connection_id).not.toBe('')
    }
    expect(recorded.map(({ note }) => note)).toEqual([
      'journal_create /v1/journals/audited {"safety":"safe"}: 201',
      'journal_create /v1/journals/audited {}: 409 JLOG_ERR_CREATE_EXISTS',
      'journal_alter /v1/journals/audited {"segment_size":1000}: 200',
      'subscriber_add /v1/journals/audited/subscribers/caf%C3%A9: 201',
      'read_checkpoint /v1/journals/audited/subscribers/caf%C3%A9/checkpoint?rewind=true {"id":"00000000:00000000"}: 200',
      'subscriber_remove /v1/journals/audited/subscribers/caf%C3%A9: 204',
      'journal_delete /v1/journals/audited: 204',
      `swap_remove /v1/messages/${id}: 204`,
      'quarantine_purge /v1/spool/quarantine/none: 404 SPOOL_ERR_NOT_FOUND',
    ])
  })

  it('that goes on as a job is there with its beginning and its end', async () => {
    const api = await audited()
    api.app.server.unref()
    const started = await api.app.inject({ method: 'POST', url: '/v1/spool/check' })
    const { id } = started.json<{ id: string }>()
    await expect
      .poll(async () => (await acts(api)).map(({ user, note }) => `${user}: ${note}`))
      .toEqual([
        'anonymous: spool_check /v1/spool/check: 202',
        `anonymous: spool_check job ${id}: done`,
      ])
    await api.app.inject({ method: 'POST', url: '/v1/spool/backup', payload: BACKUP })
    expect((await acts(api)).at(-1)!.note).toBe(
      'spool_backup /v1/spool/backup {"name":"one"}: 422 NO_BACKUP_ROOT',
    )
  })

  it('that cannot go on fails in the log, too', async () => {
    const api = await audited({ backupRoot: '/proc/self' })
    const { id } = (
      await api.app.inject({ method: 'POST', url: '/v1/spool/backup', payload: BACKUP })
    ).json<{ id: string }>()
    await expect
      .poll(async () => (await acts(api)).at(-1)!.note)
      .toMatch(new RegExp(`^spool_backup job ${id}: failed SPOOL_ERR_`))
  })

  it('is each change that takes the scope admin, those still to come included', async () => {
    const api = await audited()
    const { paths = {} } = api.app.swagger()
    const asked: string[] = []
    for (const [path, item] of Object.entries(paths)) {
      for (const [method, operation] of Object.entries(
        item as Record<string, { operationId: string; security: { bearer?: string[] }[] }>,
      )) {
        if (method === 'get' || !operation.security[0]?.bearer?.includes('admin')) continue
        const url = path.replaceAll(/\{[^}]+\}/g, 'none')
        await api.app.inject({ method: method as 'PUT', url })
        asked.push(operation.operationId)
      }
    }
    expect(asked.length).toBeGreaterThan(9)
    const recorded = (await acts(api)).map(({ note }) => note.split(' ')[0]!)
    expect(recorded.filter((_name, i) => !/ job [0-9a-f-]{36}: /.test(recorded[i]!))).toEqual(
      expect.arrayContaining(asked),
    )
  })

  it('has fields that nothing in it can forge, in ec as in json', async () => {
    const api = await audited({}, 'ec')
    await api.app.inject({
      method: 'DELETE',
      url: '/v1/journals/a@b%0A1@@@@C@forged',
      remoteAddress: '::1',
    })
    const [line] = await lines(api)
    expect(line!.split(/(?<!\\)@/).slice(1)).toEqual([
      '',
      '',
      expect.stringMatching(/./),
      'C',
      'anonymous',
      '::1',
      'journal_delete /v1/journals/a\\@b%0A1\\@\\@\\@\\@C\\@forged: 404 JLOG_ERR_OPEN',
    ])
  })

  it('is done and answered when its record cannot be written, and the log of the service has it', async () => {
    const errors: string[] = []
    const logger = pino({ level: 'error' }, { write: (line: string) => void errors.push(line) })
    const api = await audited({ logger })
    await api.spool.close()
    expect((await api.app.inject({ method: 'PUT', url: '/v1/journals/x' })).statusCode).toBe(201)
    expect(JSON.parse(errors[0]!)).toMatchObject({
      msg: 'not in the log of administration',
      user: 'anonymous',
      note: 'journal_create /v1/journals/x {}: 201',
      err: { code: 'SPOOL_ERR_CLOSED' },
    })
  })
})

describe('a refused login', () => {
  it('is in acctlog, once, and then counted', async () => {
    const made = createToken('reader', ['read'])
    const tokens = await TokenSet.open({ file: '', lines: [made.line] })
    const api = await audited({ authenticator: tokens! })
    const call = (remoteAddress: string, token?: string, url = '/v1/spool?x=1') =>
      api.app.inject({
        method: 'GET',
        url,
        remoteAddress,
        headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      })
    for (let i = 0; i < 100; i++) await call('192.0.2.1', `guess-${i}`)
    await call('192.0.2.2')
    await call('192.0.2.2', made.token)
    await call('192.0.2.2', made.token, '/v1/journals')
    await api.app.inject({
      method: 'DELETE',
      url: '/v1/journals/mainlog',
      headers: { authorization: `Bearer ${made.token}` },
    })
    await call('192.0.2.2', undefined, '/healthz')
    const seen = (records: Act[]) =>
      records.map(({ type, user, peer, note }) => `${type} ${user} ${peer}: ${note}`)
    const first = [
      'authentication anonymous 192.0.2.1: GET /v1/spool?x=1: 401 TOKEN_INVALID',
      'authentication anonymous 192.0.2.2: GET /v1/spool?x=1: 401 TOKEN_MISSING',
      'authentication reader 192.0.2.2: GET /v1/journals: 403 MISSING_SCOPE',
      'authentication reader 127.0.0.1: DELETE /v1/journals/mainlog: 403 MISSING_SCOPE',
    ]
    await expect.poll(async () => seen(await acts(api))).toEqual(first)
    expect((await lines(api)).join()).not.toContain('guess')
    // What has been counted is not forgotten when the service stops.
    await api.app.close()
    expect(seen(await acts(api))).toEqual([
      ...first,
      'authentication anonymous 192.0.2.1: refused 99 times more',
    ])
  })

  it('that forges what the service has logged is one, too', async () => {
    const made = createToken('logger', ['log'])
    const tokens = await TokenSet.open({ file: '', lines: [made.line] })
    const api = await audited({ authenticator: tokens! })
    await api.journals.create('own')
    const append = (name: string) =>
      api.app.inject({
        method: 'POST',
        url: `/v1/journals/${name}/records`,
        headers: {
          authorization: `Bearer ${made.token}`,
          'content-type': 'application/octet-stream',
        },
        payload: 'a record',
      })
    expect((await append('own')).statusCode).toBe(201)
    for (const name of ['acctlog', 'mainlog']) {
      const refused = await append(name)
      expect(refused.statusCode).toBe(403)
      expect(refused.json()).toMatchObject({ code: 'MISSING_SCOPE' })
    }
    await expect
      .poll(async () => (await acts(api)).map(({ user, note }) => `${user} ${note}`))
      .toEqual(['logger POST /v1/journals/acctlog/records: 403 MISSING_SCOPE'])
  })

  it('costs a bounded number of records, however many there are from however many', async () => {
    const records: Refusal[] = []
    const spool = { log: async (event: object) => void records.push(event as Refusal) }
    const log = new RefusalLog(spool as never, pino({ level: 'silent' }), 60_000)
    const refuse = (n: number) =>
      log.add({ user: 'anonymous', peer: `192.0.2.${n % 250}`, connectionId: '', note: 'x' })
    for (let i = 0; i < 100_000; i++) refuse(i)
    expect(records).toHaveLength(MAX_CALLERS)
    await log.close()
    expect(records).toHaveLength(2 * MAX_CALLERS + 1)
    const counted = records
      .map(({ note }) => Number(/^refused (\d+) times more/.exec(note)?.[1] ?? 1))
      .reduce((sum, count) => sum + count)
    expect(counted).toBe(100_000)
    // The next window begins anew.
    refuse(0)
    expect(records).toHaveLength(2 * MAX_CALLERS + 2)
    await log.close()
    expect(records).toHaveLength(2 * MAX_CALLERS + 2)
  })
})
