// Every call of the client, against the service.
import { createHash, randomBytes } from 'node:crypto'
import { getEventListeners } from 'node:events'
import { createReadStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { afterAll, describe, expect, it } from 'vitest'
import { BobbinClient, ClientError } from '../../../api/client/index.js'
import { startApi, type TestApi } from '../../support/api.js'
import { ownMails } from '../../support/mail.js'

const ENVELOPE = { mailfrom: 'a@example.com', rcptto: ['b@example.net'] }
const MAIL = Buffer.from('Subject: x\r\n\r\nbody\r\n')
const UNKNOWN = '019a0000-0000-7000-8000-000000000000'

/** `METHOD /path` of every request, and the operations that there are. */
const requested = new Set<string>()
let operations: Record<string, Record<string, { operationId: string }>> = {}

async function start(): Promise<{ api: TestApi; client: BobbinClient }> {
  const api = await startApi()
  const { url } = await api.listen()
  operations = api.app.swagger().paths as typeof operations
  api.app.server.on('request', ({ method, url }) =>
    requested.add(`${method} ${url?.split('?')[0]}`),
  )
  return { api, client: new BobbinClient(url) }
}

async function* pieces(bytes: Buffer, size = 10_000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function refusal(call: Promise<unknown>): Promise<ClientError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(ClientError)
  return error as ClientError
}

describe('messages', () => {
  it('go in and out byte for byte, as bytes, a stream, or a function that opens one', async () => {
    const { api, client } = await start()
    const large = randomBytes(1_500_000)
    const file = join(api.data, 'large.eml')
    await writeFile(file, large)
    const mails = await ownMails()
    const bodies = [
      ...mails.map(({ bytes }) => ({ body: bytes, bytes })),
      { body: pieces(large), bytes: large },
      { body: createReadStream(file), bytes: large },
      { body: () => createReadStream(file), bytes: large },
    ]
    for (const { body, bytes } of bodies) {
      const { result, ids, size, sha256 } = await client.inject({ ...ENVELOPE, body })
      expect({ result, size, sha256 }).toEqual({
        result: 'complete',
        size: bytes.length,
        sha256: createHash('sha256').update(bytes).digest('hex'),
      })
      expect((await buffer(await client.content(ids[0]!))).equals(bytes)).toBe(true)
    }
    const listed = []
    for await (const { id } of client.list({ domain: 'example.net' })) listed.push(id)
    expect(listed).toHaveLength(bodies.length)
    expect(await client.spool()).toMatchObject({ messages: bodies.length, read_only: null })
  })

  it('carry their envelope, and share a content by reference', async () => {
    const { client } = await start()
    const fields = { batch_id: 'batch', connection_id: 'conn', protocol: 'esmtp', binding: 'vip' }
    const { ids } = await client.inject({
      ...{ mailfrom: '', rcptto: ['b@example.net', 'jörg@bücher.example'], body: MAIL },
      ...{ ...fields, retention: 60, next_attempt: '2030-01-01T00:00:00.000Z' },
    })
    expect(await client.meta(ids[1]!)).toMatchObject({
      ...fields,
      ...{ mailfrom: '', rcptto: 'jörg@bücher.example', retention: 60 },
      next_attempt: '2030-01-01T00:00:00.000Z',
    })
    const shared = await client.inject({
      ...ENVELOPE,
      refs: ids[0]!,
      context: { mess: { k: 'v' } },
    })
    expect(await client.spool()).toMatchObject({ messages: 3, bodies: 1 })
    expect(await client.context(shared.ids[0]!, 'mess').entries()).toEqual({ k: 'v' })
  })

  it('take their dictionaries and many recipients along, streamed', async () => {
    const { client } = await start()
    const context = { conn: { ip: '192.0.2.1' }, mess: { 'ü"': '\r\n' } }
    const rcptto = Array.from({ length: 1000 }, (_, i) => `recipient${i}@example.net`)
    const large = randomBytes(700_000)
    for (const body of [large, pieces(large), () => pieces(large)]) {
      const { ids, size } = await client.inject({ ...ENVELOPE, body, context })
      expect(size).toBe(large.length)
      expect((await buffer(await client.content(ids[0]!))).equals(large)).toBe(true)
      expect(await client.meta(ids[0]!)).toMatchObject({ context })
    }
    const { ids } = await client.inject({ ...ENVELOPE, rcptto, body: MAIL })
    expect(await client.meta(ids[999]!)).toMatchObject({
      rcptto: rcptto[999],
      context: { mess: {} },
    })
  })

  it('go in by several, all or none', async () => {
    const { client } = await start()
    const results = await client.injectBatch([
      { ...ENVELOPE, body: MAIL },
      { ...ENVELOPE, rcptto: ['c@example.net', 'd@example.net'], body: Buffer.from([0, 255]) },
    ])
    expect(results.map(({ ids }) => ids.length)).toEqual([1, 2])
    expect(await buffer(await client.content(results[1]!.ids[1]!))).toEqual(Buffer.from([0, 255]))
    const bad = [
      { ...ENVELOPE, body: MAIL },
      { ...ENVELOPE, refs: UNKNOWN },
    ]
    expect(await refusal(client.injectBatch(bad))).toMatchObject({ status: 404 })
    expect(await client.spool()).toMatchObject({ messages: 3 })
  })

  it('are read in part: a range, the header, the MIME structure', async () => {
    const { client } = await start()
    const { ids } = await client.inject({ ...ENVELOPE, body: MAIL })
    const id = ids[0]!
    const range = await client.content(id, { start: 9, end: 14 })
    expect(await buffer(range)).toEqual(MAIL.subarray(9, 14))
    expect(await client.headers(id)).toBe('Subject: x\r\n')
    expect(await client.structure(id)).toMatchObject({ size: MAIL.length, root: { path: '1' } })
    expect(await refusal(client.content(id, { start: 99 }))).toMatchObject({ status: 416 })
  })

  it('are changed, under conditions, copied and removed', async () => {
    const { client } = await start()
    const { ids, sha256 } = await client.inject({ ...ENVELOPE, body: MAIL })
    const id = ids[0]!
    const { version } = await client.meta(id)
    const changed = await client.changeMeta(id, { binding: 'x' }, { ifVersion: version })
    expect(changed).toMatchObject({ result: 'complete', meta: { binding: 'x' } })
    const stale = client.changeMeta(id, { binding: 'y' }, { ifVersion: version })
    expect(await refusal(stale)).toMatchObject({ status: 412, code: 'SPOOL_ERR_VERSION' })
    expect(await client.changeMeta(id, { retries: 3 }, { force: false })).toMatchObject({
      result: 'partial',
    })

    const copy = await client.copy(id, { share: true })
    const replaced = await client.replaceContent(id, pieces(Buffer.from('new')), {
      ifSha256: sha256,
    })
    expect(replaced).toMatchObject({ result: 'complete', size: 3 })
    expect(await refusal(client.dropContent(id, { ifSha256: sha256 }))).toMatchObject({
      status: 412,
    })
    await client.dropContent(id)
    expect(await client.meta(id)).toMatchObject({ sha256: null })
    expect(await buffer(await client.content(copy.ids[0]!))).toEqual(MAIL)

    const now = (await client.meta(id)).version
    expect(await refusal(client.remove(id, { ifVersion: now + 1 }))).toMatchObject({
      status: 412,
    })
    await client.remove(id, { ifVersion: now })
    expect(await refusal(client.meta(id))).toMatchObject({
      ...{ status: 404, code: 'SPOOL_ERR_NOT_FOUND', temporary: false },
    })
    expect(await refusal(client.remove(id))).toMatchObject({ status: 404 })
    const { lease } = await client.claim()
    await client.remove(copy.ids[0]!, { whenFree: true })
    expect(await client.meta(copy.ids[0]!)).toMatchObject({ id: copy.ids[0] })
    await client.releaseClaim(lease!)
    expect(await refusal(client.meta(copy.ids[0]!))).toMatchObject({ status: 404 })
  })

  it('have two dictionaries', async () => {
    const { client } = await start()
    const { ids } = await client.inject({ ...ENVELOPE, body: MAIL })
    const mess = client.context(ids[0]!, 'mess')
    expect(await mess.set('a/b ?', 'ü\n')).toMatchObject({ result: 'complete' })
    expect(await mess.get('a/b ?')).toBe('ü\n')
    expect(await mess.get('none')).toBeUndefined()
    expect(await refusal(mess.set('a/b ?', 'other'))).toMatchObject({ status: 409 })
    const { version } = await mess.set('a/b ?', 'other', { replace: true })
    expect(await refusal(mess.delete('a/b ?', { ifVersion: version - 1 }))).toMatchObject({
      status: 412,
    })
    await mess.delete('a/b ?', { ifVersion: version })
    await mess.setAll({ x: '1', y: '2' })
    expect(await mess.entries()).toEqual({ x: '1', y: '2' })
    expect(await client.context(ids[0]!, 'conn').entries()).toEqual({})
    await mess.clean({ force: false })
    expect(await mess.entries()).toEqual({})
  })
})

describe('claims and reports', () => {
  it('lease, extend, report one and many, and release', async () => {
    const { client } = await start()
    const rcptto = Array.from({ length: 5 }, (_, i) => `r${i}@example.net`)
    const { ids } = await client.inject({ ...ENVELOPE, rcptto, body: MAIL })
    const { lease, messages } = await client.claim({ limit: 4, lease_seconds: 60, owner: 'test' })
    expect(messages.map(({ id }) => id)).toEqual(ids.slice(0, 4))
    expect(await client.extendClaim(lease!, 600)).toMatchObject({ lease, ids: ids.slice(0, 4) })

    const report = { lease: lease!, peer: '192.0.2.1' }
    const delivered = await client.report(ids[0]!, { type: 'delivery', ...report })
    expect(delivered).toMatchObject({ result: 'complete', outcome: 'removed' })
    const deferred = await client.report(ids[1]!, {
      ...{ type: 'transient_failure', ...report, stage: 9, note: '451 later' },
      next_attempt: '2030-01-01T00:00:00.000Z',
    })
    expect(deferred).toMatchObject({
      ...{ outcome: 'deferred', next_attempt: '2030-01-01T00:00:00.000Z' },
    })
    expect(await client.report(ids[2]!, { type: 'attempt', ...report })).toMatchObject({
      outcome: 'logged',
    })
    const { results, failed } = await client.reportAll([
      { id: ids[2]!, type: 'permanent_failure', ...report, note: '550 no' },
      { id: UNKNOWN, type: 'delivery' },
      { type: 'rejection', mailfrom: 'x@example.com', note: 'unwanted' },
    ])
    expect(failed).toBe(1)
    expect(results).toMatchObject([
      { id: ids[2], result: 'complete', outcome: 'removed' },
      { id: UNKNOWN, result: 'error', status: 404, code: 'SPOOL_ERR_NOT_FOUND' },
      { result: 'complete', outcome: 'logged' },
    ])
    expect(
      await refusal(client.report(ids[0]!, { type: 'delivery', lease: UNKNOWN })),
    ).toMatchObject({ status: 404 })
    const stolen = client.report(ids[3]!, { type: 'delivery', lease: UNKNOWN })
    expect(await refusal(stolen)).toMatchObject({ status: 409, code: 'SPOOL_ERR_LEASE' })

    await client.releaseClaim(lease!)
    expect(await refusal(client.extendClaim(lease!, 60))).toMatchObject({ status: 404 })
    expect(await client.claim()).toMatchObject({ messages: [{ id: ids[3] }, { id: ids[4] }] })
  })
})

describe('journals', () => {
  it('are made, described, altered, appended to, read and deleted', async () => {
    const { client } = await start()
    const { journals } = client
    const made = await journals.create('log', { segment_size: 1000, compression: 'lz4' })
    expect(made).toMatchObject({ name: 'log', segment_size: 1000, compression: 'lz4', records: 0 })
    expect(await refusal(journals.create('log'))).toMatchObject({ status: 409 })
    expect(await journals.alter('log', { safety: 'safe' })).toMatchObject({ safety: 'safe' })
    expect((await journals.list()).map(({ name }) => name)).toEqual(['log', 'mainlog'])

    const binary = randomBytes(300)
    const records = ['one', binary, 'line\nbreak', '']
    expect(await journals.append('log', records)).toEqual({
      ...{ first: '00000000:00000001', last: '00000000:00000004', count: 4 },
    })
    expect(await journals.describe('log')).toMatchObject({ records: 4 })

    await journals.addSubscriber('log', 'a/ü')
    await journals.addSubscriber('log', 'late', { whence: 'end' })
    expect(await refusal(journals.addSubscriber('log', 'late'))).toMatchObject({ status: 409 })
    expect(await journals.read('log', 'late')).toEqual([])
    const read = await journals.read('log', 'a/ü')
    expect(read.map(({ data }) => data)).toEqual(records.map((r) => Buffer.from(r as string)))
    expect(read[0]!.text()).toBe('one')
    expect(read[0]!.sec).toBeGreaterThan(1_700_000_000)
    expect(await journals.read('log', 'a/ü', { limit: 1 })).toHaveLength(1)

    for await (const { id } of client.tail('log', { from: read[1]!.id })) {
      expect(id).toBe(read[2]!.id)
      break
    }
    await journals.checkpoint('log', 'a/ü', read[2]!.id)
    expect(await journals.read('log', 'a/ü')).toHaveLength(1)
    const back = () => journals.checkpoint('log', 'a/ü', read[0]!.id)
    expect(await refusal(back())).toMatchObject({ code: 'CHECKPOINT_BACKWARDS' })
    await journals.checkpoint('log', 'a/ü', read[0]!.id, { rewind: true })
    expect(await journals.subscribers('log')).toMatchObject([
      { name: 'a/ü', lag_records: 3 },
      { name: 'late', lag_records: 0 },
    ])
    await journals.removeSubscriber('log', 'late')
    expect(await journals.inspect('log')).toMatchObject({ sound: true, records: 4 })
    const repair = await journals.repair<{ changed: boolean }>('log', { dryRun: true })
    expect(repair).toMatchObject({ changed: false })
    expect(await journals.clean('log')).toEqual([])
    expect(await journals.subscribers('log')).toHaveLength(1)
    await journals.delete('log')
    expect(await refusal(journals.describe('log'))).toMatchObject({ code: 'JLOG_ERR_OPEN' })
  })
})

describe('upkeep', () => {
  it('runs jobs to their end, with progress, and lists what is in quarantine', async () => {
    const { api, client } = await start()
    await client.inject({ ...ENVELOPE, body: MAIL })
    const report = await client.jobs.run<{ found: number; messages: number }>('/v1/spool/check', {
      query: { deep: true },
    })
    expect(report).toMatchObject({ found: 0, messages: 1 })
    const [job] = await client.jobs.list()
    expect(job).toMatchObject({ kind: 'spool_check', state: 'done' })
    expect(await client.jobs.poll(job!.id)).toEqual(job)
    expect(await client.jobs.cancel(job!.id)).toEqual(job)
    expect(await client.jobs.run('/v1/spool/compact')).toHaveProperty('after')
    const backup = client.jobs.run('/v1/spool/backup', { json: { name: 'now' } })
    expect(await refusal(backup)).toMatchObject({ status: 422, code: 'NO_BACKUP_ROOT' })
    const root = client.jobs.run('/v1/spool/import', { json: { path: 'old' } })
    expect(await refusal(root)).toMatchObject({ status: 422 })
    expect(await client.jobs.run('/v1/spool/repair')).toMatchObject({ after: { found: 0 } })
    for await (const entry of client.quarantine.list()) expect.unreachable(entry.name)
    expect(await refusal(client.quarantine.show('none'))).toMatchObject({ status: 404 })
    expect(await refusal(client.quarantine.release('none'))).toMatchObject({ status: 404 })
    expect(await refusal(client.quarantine.purge('none'))).toMatchObject({ status: 404 })
    expect(await refusal(client.quarantine.content('none'))).toMatchObject({ status: 404 })

    expect(await client.notReady()).toBeNull()
    api.notReady.push({ code: 'low_space', detail: 'the disk is full', retryAfter: 1 })
    expect(await client.notReady()).toContain('the disk is full')
  })
})

describe('a refusal', () => {
  it('has the status, code, detail, places and request id of the problem', async () => {
    const { client } = await start()
    const error = await refusal(client.inject({ ...ENVELOPE, rcptto: [], body: MAIL }))
    expect(error).toMatchObject({ status: 400, temporary: false })
    const invalid = await refusal(client.claim({ limit: 0 }))
    expect(invalid).toMatchObject({ status: 400, code: 'FST_ERR_VALIDATION' })
    expect(invalid.errors).toMatchObject([{ where: 'body.limit' }])
    expect(invalid.requestId).toBeTruthy()
  })

  it('of a body that is too large comes while it is sent', async () => {
    const { client } = await start()
    let stop = () => {}
    const stopped = new Promise<void>((resolve) => {
      stop = resolve
    })
    async function* endless(): AsyncGenerator<Buffer> {
      try {
        for (;;) yield Buffer.alloc(65_536, 'x')
      } finally {
        stop()
      }
    }
    expect(await refusal(client.inject({ ...ENVELOPE, body: endless() }))).toMatchObject({
      ...{ status: 413, code: 'SPOOL_ERR_TOO_LARGE' },
    })
    await stopped
  })

  it('of the source is the source’s own error', async () => {
    const { client } = await start()
    const body = () => createReadStream('/nonexistent/mail.eml')
    await expect(client.inject({ ...ENVELOPE, body })).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it.each(['nonsense', 'ftp://example.com'])('is a TypeError for the URL %s', (url) => {
    expect(() => new BobbinClient(url)).toThrow(TypeError)
  })
})

it('speaks over a Unix socket', async () => {
  const api = await startApi()
  const path = join(api.data, 'bobbin.sock')
  await api.app.listen({ path })
  const client = new BobbinClient(`unix:${path}`)
  const large = randomBytes(500_000)
  for (const body of [MAIL, pieces(large)]) {
    const { ids } = await client.inject({ ...ENVELOPE, body })
    const bytes = await buffer(await client.content(ids[0]!))
    expect(bytes.equals(body === MAIL ? MAIL : large)).toBe(true)
    await client.remove(ids[0]!)
  }
  expect(await refusal(client.meta(UNKNOWN))).toMatchObject({ status: 404 })
  const gone = new BobbinClient(`unix:${path}.gone`, { retry: false })
  expect(await refusal(gone.spool())).toMatchObject({ status: 0, code: 'UNREACHABLE' })
  api.app.server.closeAllConnections()
})

it('leaves no listener on a signal that many calls share', async () => {
  const { client } = await start()
  const controller = new AbortController()
  let warned = 0
  const onWarning = () => warned++
  process.on('warning', onWarning)
  const calls = Array.from({ length: 50 }, () => client.spool({ signal: controller.signal }))
  await Promise.all(calls)
  // Warnings are told in the next turn.
  await new Promise(setImmediate)
  process.off('warning', onWarning)
  expect(warned).toBe(0)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

/** For a monitor or a generator, or the same as another. */
const OF_NO_USE_HERE = ['metrics', 'liveness', 'describe', 'message_get']

afterAll(() => {
  const missed: string[] = []
  for (const [path, methods] of Object.entries(operations)) {
    for (const [method, { operationId }] of Object.entries(methods)) {
      const pattern = new RegExp(`^${method} ${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`, 'i')
      const found = [...requested].some((request) => pattern.test(request))
      if (!found && !OF_NO_USE_HERE.includes(operationId)) missed.push(operationId)
    }
  }
  expect(missed).toEqual([])
})
