// Check, repair and quarantine over REST, as jobs, on a spool that is damaged while it is served.
import { setImmediate } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'
import { damageSpool } from '../support/damage.js'

const MAIL = Buffer.from('Subject: x\r\n\r\nbody\r\n')

async function store(api: TestApi, to = 'b@example.net'): Promise<string> {
  const response = await api.app.inject({
    method: 'POST',
    url: `/v1/messages?from=a@example.com&to=${to}`,
    headers: { 'content-type': 'message/rfc822' },
    payload: MAIL,
  })
  return response.json<{ ids: string[] }>().ids[0]!
}

interface JobJson {
  id: string
  state: string
  result: { found: number; counts: object; after: { found: number } }
}

async function run(api: TestApi, url: string): Promise<JobJson> {
  const response = await api.app.inject({ method: 'POST', url })
  expect(response.statusCode).toBe(202)
  const location = response.headers.location as string
  expect(location).toBe(`/v1/jobs/${response.json<JobJson>().id}`)
  for (;;) {
    const job = (await api.app.inject({ url: location })).json<JobJson>()
    if (job.state !== 'running') return job
    // An injected request alone gives nobody else a turn.
    await setImmediate()
  }
}

it('checks a spool that is served, and polls the job', async () => {
  const api = await startApi()
  await store(api)
  const job = await run(api, '/v1/spool/check?deep=true')
  expect(job).toMatchObject({
    kind: 'spool_check',
    state: 'done',
    error: null,
    result: { messages: 1, bodies: 1, bytes: MAIL.length, found: 0, counts: {}, problems: [] },
  })
  const list = (await api.app.inject({ url: '/v1/jobs' })).json<{ jobs: JobJson[] }>()
  expect(list.jobs.map(({ id }) => id)).toEqual([job.id])
  expect((await api.app.inject({ url: '/v1/jobs/none' })).statusCode).toBe(404)
  expect((await api.app.inject({ method: 'DELETE', url: '/v1/jobs/none' })).statusCode).toBe(404)
  const cancelled = await api.app.inject({ method: 'DELETE', url: `/v1/jobs/${job.id}` })
  expect(cancelled.json()).toMatchObject({ state: 'done' })
})

it('repairs a spool that is served; quarantine is listed, shown, released and purged', async () => {
  const api = await startApi()
  const ids = [await store(api, 'b@example.net'), await store(api), await store(api)]
  await damageSpool(api, (db) => [
    db.corruptMeta(ids[0] as string),
    db.removeQueueRow(ids[1] as string),
    db.flipBody(ids[2] as string),
  ])
  const found = await run(api, '/v1/spool/check?deep=true')
  expect(Object.keys(found.result.counts).toSorted()).toEqual(
    expect.arrayContaining(['body-hash-wrong', 'message-without-queue', 'meta-undecodable']),
  )
  const job = await run(api, '/v1/spool/repair')
  expect(job).toMatchObject({ state: 'done', result: { after: { found: 0 }, quarantined: 3 } })
  expect((await api.app.inject({ url: `/v1/messages/${ids[1]}` })).statusCode).toBe(200)
  expect((await api.app.inject({ url: `/v1/messages/${ids[0]}` })).statusCode).toBe(404)

  const base = '/v1/spool/quarantine'
  const first = (await api.app.inject({ url: `${base}?limit=1` })).json()
  expect(first.entries).toHaveLength(1)
  const rest = (await api.app.inject({ url: `${base}?cursor=${first.cursor}` })).json()
  // With the body whose message could not be read.
  const all = [...first.entries, ...rest.entries]
  expect(all.map(({ kind }) => kind)).toEqual(['body', 'message', 'message'])
  const entries = all.slice(1)
  expect(entries.map(({ key }) => key)).toEqual(
    [ids[0], ids[2]].map((id) => (id as string).replaceAll('-', '')),
  )
  const [noMeta, wrongBody] = entries
  expect(noMeta).toMatchObject({ kind: 'message', meta: null })
  expect(wrongBody).toMatchObject({ meta: { id: ids[2], rcptto: 'b@example.net' } })
  const shown = await api.app.inject({ url: `${base}/${wrongBody.name}` })
  expect(shown.json()).toEqual(wrongBody)
  const content = await api.app.inject({ url: `${base}/${wrongBody.name}/content` })
  expect(content.rawPayload.length).toBe(MAIL.length)
  expect(content.rawPayload.equals(MAIL)).toBe(false)

  const release = (name: string, query = '') =>
    api.app.inject({ method: 'POST', url: `${base}/${name}/release${query}` })
  expect((await release(noMeta.name)).json()).toMatchObject({ status: 400 })
  expect((await release(wrongBody.name)).json()).toMatchObject({ status: 400 })
  const released = await release(wrongBody.name, '?force=true')
  expect(released.statusCode).toBe(201)
  const { id } = released.json<{ id: string }>()
  expect(await api.spool.meta(id)).toMatchObject({ mailfrom: 'a@example.com', size: MAIL.length })
  expect((await release(wrongBody.name, '?force=true')).statusCode).toBe(404)

  const purge = () => api.app.inject({ method: 'DELETE', url: `${base}/${noMeta.name}` })
  expect((await purge()).statusCode).toBe(204)
  expect((await purge()).json()).toMatchObject({ status: 404, code: 'SPOOL_ERR_NOT_FOUND' })
  const left = (await api.app.inject({ url: base })).json()
  expect(left).toEqual({ entries: [all[0]], cursor: null })
  expect((await run(api, '/v1/spool/check?deep=true')).result.found).toBe(0)
})

it('a message that cannot be read goes to quarantine when somebody tries to', async () => {
  const api = await startApi()
  const ids = [await store(api), await store(api)]
  await damageSpool(api, (db) => [
    db.removeBody(ids[0] as string),
    db.corruptMeta(ids[1] as string),
  ])
  expect((await api.app.inject({ url: `/v1/messages/${ids[0]}/content` })).statusCode).toBe(500)
  expect((await api.app.inject({ url: '/v1/messages' })).json<{ messages: [] }>().messages).toEqual(
    [expect.objectContaining({ id: ids[0] })],
  )
  await api.spool.upkeep.idle()
  const list = (await api.app.inject({ url: '/v1/spool/quarantine' })).json()
  expect(list.entries).toHaveLength(2)
  expect((await api.app.inject({ url: `/v1/messages/${ids[0]}` })).statusCode).toBe(404)
  expect((await run(api, '/v1/spool/repair')).result.after.found).toBe(0)
})

it('one job of a kind at a time, and all of them cancelled at the end', async () => {
  const api = await startApi()
  await store(api)
  const [a, b] = await Promise.all([
    api.app.inject({ method: 'POST', url: '/v1/spool/check' }),
    api.app.inject({ method: 'POST', url: '/v1/spool/check' }),
  ])
  expect([a.statusCode, b.statusCode].toSorted()).toEqual([202, 409])
  await api.close()
})
