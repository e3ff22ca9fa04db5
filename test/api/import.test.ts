// Import over REST: a job below the configured root, with progress, and cancelled or refused.
import { mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { ImportReportJson } from '../../api/index.js'
import { allOf, mail, writeAll } from '../spool/import-support.js'
import { startApi, type TestApi } from '../support/api.js'
import { temporaryDirectory } from '../support/service.js'

interface JobJson {
  id: string
  state: string
  progress: { phase: string; done: number; total: number | null; failed: number; results: object }
  result: ImportReportJson
  error: { code: string; message: string } | null
}

async function start(api: TestApi, payload: object): Promise<JobJson> {
  const response = await api.app.inject({ method: 'POST', url: '/v1/spool/import', payload })
  expect(response.statusCode).toBe(202)
  expect(response.headers.location).toBe(`/v1/jobs/${response.json<JobJson>().id}`)
  return response.json<JobJson>()
}

async function poll(api: TestApi, { id }: JobJson): Promise<JobJson> {
  for (;;) {
    const job = (await api.app.inject({ url: `/v1/jobs/${id}` })).json<JobJson>()
    if (job.state !== 'running') return job
    await setImmediate()
  }
}

async function withSource(count: number): Promise<{ api: TestApi; root: string }> {
  const root = await temporaryDirectory()
  const api = await startApi({}, { importRoot: root })
  const files = Array.from({ length: count }, (_, i) => [`in/new/${i}`, mail(`r${i}@example.com`)])
  await writeAll(root, { ...Object.fromEntries(files), 'in/cur/bad': 'no envelope' })
  return { api, root }
}

it('imports as a job whose progress is polled', async () => {
  const { api, root } = await withSource(30)
  const job = await poll(api, await start(api, { path: 'in', remove: true, suppress_trace: true }))
  expect(job).toMatchObject({
    kind: 'spool_import',
    state: 'done',
    error: null,
    progress: {
      phase: 'importing',
      done: 31,
      total: 31,
      failed: 1,
      results: { 1: 30, 2: 1, 3: 0, 4: 0 },
    },
    result: {
      format: 'maildir',
      source: join(root, 'in'),
      imported: 30,
      failed: 1,
      removed: 30,
      failures: [{ original_id: 'bad', result: 2, reason: expect.stringContaining('sender') }],
    },
  })
  expect(await readdir(join(root, 'in/new'))).toEqual([])
  const again = await start(api, {
    path: join(root, 'in'),
    format: 'maildir',
    mailfrom: '',
    rcptto: ['x@example.com', 'y@example.com'],
    concurrency: 2,
    regenerate_ids: true,
    max_retention: 3600,
  })
  expect((await poll(api, again)).result).toMatchObject({ imported: 1, messages: 2, failed: 0 })
  const metas = await allOf(api.spool)
  expect(metas).toHaveLength(32)
  expect(metas.filter(({ retention }) => retention === 3600)).toHaveLength(2)
})

it('only below the root, wherever a path leads', async () => {
  const { api, root } = await withSource(1)
  await symlink(api.data, join(root, 'link'))
  const refused = async (payload: object) => {
    const response = await api.app.inject({ method: 'POST', url: '/v1/spool/import', payload })
    return [response.statusCode, response.json<{ code: string }>().code]
  }
  expect(await refused({ path: '../elsewhere' })).toEqual([422, 'PATH_OUTSIDE_ROOT'])
  expect(await refused({ path: '/etc' })).toEqual([422, 'PATH_OUTSIDE_ROOT'])
  expect(await refused({ path: 'link' })).toEqual([422, 'PATH_OUTSIDE_ROOT'])
  expect((await refused({ path: 'in', format: 'zip' }))[0]).toBe(400)
  expect((await refused({ path: 'in', concurrency: 1000 }))[0]).toBe(400)
  expect((await refused({ path: 'in', colour: 'red' }))[0]).toBe(400)
  expect((await refused({}))[0]).toBe(400)
  const missing = await poll(api, await start(api, { path: 'none' }))
  expect(missing).toMatchObject({ state: 'failed', error: { code: 'SPOOL_ERR_OPEN' } })
  // A folder that is a link is not looked into.
  await mkdir(join(root, 'sly'))
  await symlink(join(root, 'in/new'), join(root, 'sly/new'))
  await symlink(join(root, 'in/cur'), join(root, 'sly/cur'))
  const sly = await poll(api, await start(api, { path: 'sly' }))
  expect(sly).toMatchObject({ state: 'failed', error: { code: 'SPOOL_ERR_INVALID' } })
  expect((await api.spool.stats()).messages).toBe(0)
})

it('waits while the service sheds load; one at a time; cancelled it can be taken up again', async () => {
  const { api } = await withSource(300)
  const job = await start(api, { path: 'in', concurrency: 1 })
  api.notReady.push({ code: 'low_space', detail: 'no room', retryAfter: 1 })
  for (;;) {
    const { progress } = (await api.app.inject({ url: `/v1/jobs/${job.id}` })).json<JobJson>()
    if (progress?.phase === 'waiting: no room') break
    await setImmediate()
  }
  const again = { method: 'POST', url: '/v1/spool/import', payload: { path: 'in' } } as const
  expect((await api.app.inject(again)).statusCode).toBe(503)
  api.notReady.pop()
  expect((await api.app.inject(again)).statusCode).toBe(409)
  const cancelled = await api.app.inject({ method: 'DELETE', url: `/v1/jobs/${job.id}` })
  expect(cancelled.json()).toMatchObject({ state: 'cancelled' })
  const before = (await allOf(api.spool)).length
  const rest = await poll(api, await start(api, { path: 'in' }))
  expect(rest.result).toMatchObject({ resumed: true, already: before, imported: 300 - before })
})

it('refuses when no root is configured', async () => {
  const api = await startApi()
  const payload = { path: 'in' }
  const response = await api.app.inject({ method: 'POST', url: '/v1/spool/import', payload })
  expect(response.json()).toMatchObject({ status: 422, code: 'NO_ROOT' })
})
