/**
 * Drives every operation of the service from its OpenAPI document: the example, which has to succeed, and generated requests,
 * good and bad. What is refused is refused for a reason that the document gives; what the document says is wrong is refused;
 * each answer is one that the document names, and fits its schema; and the stores are sound in the end.
 */
import { mkdir } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import fc from 'fast-check'
import { unpack } from 'msgpackr'
import { expect } from 'vitest'
import { inspectJournal } from '../../jlog/index.js'
import { checkSpool } from '../../spool/index.js'
import { startApi, type TestApi } from './api.js'
import { damageSpool } from './damage.js'
import {
  headersOf,
  type Named,
  plainRequest,
  queryOf,
  type Request,
  requestsFor,
} from './document-requests.js'
import type { Schema } from './from-schema.js'
import {
  type Check,
  checkerOf,
  documentOf,
  type Operation,
  operationsOf,
  type Parameter,
} from './openapi.js'
import { temporaryDirectory } from './service.js'

/** Nothing takes so long but what hangs. */
const HANG_MS = 20_000
const ENDLESS = 'text/event-stream'

/** What a path may name and is there; made anew where it was used up. */
async function things(
  api: TestApi,
  { path, operationId }: Operation,
): Promise<Record<string, string[]>> {
  const { spool, journals } = api
  const there: Record<string, string[]> = {
    dictionary: ['conn', 'mess'],
    key: ['ip', 'tag', 'ü/%'],
  }
  const needs = (name: string) => path.includes(`{${name}}`)
  if (path.includes('/messages') || needs('token') || path.includes('/claims')) {
    const fresh = await newMessage(api)
    const { messages } = await spool.list({ limit: 3 })
    there.messages = [fresh, fresh, ...messages.map(({ id }) => id)]
  }
  if (needs('token'))
    there.token = [(await spool.claim({ limit: 1, leaseSeconds: 30 })).lease ?? 'none']
  if (path.includes('/journals')) {
    const names = await journals.names()
    if (!names.includes('log')) {
      await journals.create('log', { unitLimit: 200 })
      await journals.append('log', ['a record', 'another'])
    }
    const fresh = `made-${names.length}-${Math.random().toString(36).slice(2, 8)}`
    there.journals = operationId === 'journal_create' ? [fresh] : ['log', ...names]
    there.sub = ['sub', 'sub', 'other', '~bobbin-relay', 'é']
  }
  if (needs('sub') && operationId !== 'subscriber_add')
    await api.app.inject({ method: 'PUT', url: '/v1/journals/log/subscribers/sub' })
  if (path.includes('/jobs')) {
    const { jobs } = (await api.app.inject({ url: '/v1/jobs' })).json() as {
      jobs: { id: string }[]
    }
    there.jobs = jobs.map(({ id }) => id)
  }
  if (path.includes('/quarantine')) {
    let { entries } = await spool.upkeep.quarantine.list()
    if (entries.length === 0) {
      await fillQuarantine(api)
      entries = (await spool.upkeep.quarantine.list()).entries
    }
    there.quarantine = entries.map(({ name }) => name)
  }
  return there
}

async function newMessage({ spool }: TestApi): Promise<string> {
  const entries = { ip: '192.0.2.1', tag: 'x' }
  const { ids } = await spool.swapOut({
    ...{ mailfrom: 'a@example.com', rcptto: ['b@example.net'] },
    ...{
      body: Buffer.from('Subject: x\r\n\r\nbody\r\n'),
      context: { conn: entries, mess: entries },
    },
  })
  return ids[0] as string
}

/** What a message that cannot be read leaves. */
async function fillQuarantine(api: TestApi): Promise<void> {
  const ids: string[] = []
  for (let i = 0; i < 8; i++) ids.push(await newMessage(api))
  await damageSpool(api, (db) => ids.map((id) => db.flipBody(id)))
  await api.spool.upkeep.repair({ deep: true })
  expect((await api.spool.upkeep.quarantine.list()).entries.length).toBe(8)
}

/** The kind of thing that a path names there. */
function kindOf(name: string, path: string): string {
  if (name === 'id') return path.includes('/jobs/') ? 'jobs' : 'messages'
  if (name === 'name') return path.includes('/quarantine/') ? 'quarantine' : 'journals'
  return name
}

function fill(
  { path }: Operation,
  wanted: Record<string, Named>,
  there: Record<string, string[]>,
): { url: string; names: Record<string, string> } {
  const names: Record<string, string> = {}
  const url = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const given = wanted[name] as Named
    const known = there[kindOf(name, path)] ?? []
    names[name] = typeof given === 'string' ? given : (known[given % known.length] ?? 'none')
    return encodeURIComponent(names[name])
  })
  return { url, names }
}

/** Events never end: their head is the answer. */
async function headOf(url: string, headers: Record<string, string>) {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { headers, agent: false }, resolve).on('error', reject)
  })
  const isEndless = response.headers['content-type']?.startsWith(ENDLESS)
  const rawPayload = isEndless ? Buffer.alloc(0) : await buffer(response)
  response.destroy()
  return { statusCode: response.statusCode as number, headers: response.headers, rawPayload }
}

interface Answer {
  readonly status: number
  readonly type: string
  /** Names of those that matter. */
  readonly headers: string[]
  readonly bytes: Buffer
}

/** Others are of HTTP itself, or on every answer. */
const OF_THE_ANSWER = [
  ...['etag', 'location', 'retry-after', 'content-range', 'idempotency-replayed'],
  'www-authenticate',
]

async function send(
  api: TestApi,
  base: string,
  { operationId, method }: Operation,
  url: string,
  request: Request,
): Promise<Answer> {
  const headers = headersOf(request)
  const { body } = request
  const answered =
    operationId === 'journal_tail'
      ? headOf(base + url, headers)
      : api.app.inject({
          method: method.toUpperCase() as 'GET',
          url,
          headers,
          ...(body === null ? {} : { payload: body.bytes }),
        })
  const hang = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error(`${method} ${url} hangs`)), HANG_MS).unref()
  })
  const { statusCode, headers: answers, rawPayload } = await Promise.race([answered, hang])
  const [type = ''] = String(answers['content-type'] ?? '').split(';')
  const sent = OF_THE_ANSWER.filter((name) => answers[name] !== undefined)
  return { status: statusCode, type, headers: sent, bytes: rawPayload }
}

/** It is one of those that the document names, as the document says. */
function expectDescribed(operation: Operation, answer: Answer, check: Check, what: string): void {
  const { status, type, bytes } = answer
  const described = operation.responses[status]
  expect(described, what).toBeDefined()
  const { content, headers = {} } = described as NonNullable<typeof described>
  const named = Object.keys(headers).map((name) => name.toLowerCase())
  expect(named, what).toEqual(expect.arrayContaining(answer.headers))
  if (content === undefined) {
    expect(bytes.length, what).toBe(0)
    return
  }
  expect(Object.keys(content), what).toContain(type)
  const { schema = {} } = content[type] as { schema?: Schema }
  if (type === ENDLESS) return
  const text = bytes.toString()
  if (type === 'application/json' || type === 'application/problem+json') {
    const value = JSON.parse(text)
    expect(check(schema, value), what).toBeNull()
    if (status >= 400) {
      expect(value.code, what).toMatch(/^[A-Z][A-Z0-9_]+$/)
      expect(value.status, what).toBe(status)
    }
  } else if (type === 'application/x-ndjson') {
    for (const line of text.split('\n').slice(0, -1)) {
      const value = JSON.parse(line)
      if (schema.type === 'object') expect(check(schema, value), what).toBeNull()
    }
  } else if (type === 'application/msgpack') {
    const records = unpack(bytes) as { data: Buffer }[]
    const values = records.map(({ data, ...rest }) => ({ ...rest, data: data.toString('base64') }))
    expect(check(schema, values), what).toBeNull()
  } else {
    expect(schema.type, what).toBe('string')
  }
}

/** Whether the request is what the document asks for: null when the document does not tell. */
function isAsDescribed(
  { parameters, content }: Operation,
  { path, url }: { path: Record<string, string>; url: string },
  { extra, body }: Request,
  check: Check,
  checkText: Check,
): boolean | null {
  const given = new URLSearchParams(url.split('?')[1] ?? '')
  const fits = (where: Parameter['in'], values: Record<string, unknown>) => {
    const known = parameters.filter((one) => one.in === where)
    const schema = {
      type: 'object',
      properties: Object.fromEntries(known.map((one) => [one.name, one.schema])),
      required: known.filter(({ required }) => required).map(({ name }) => name),
    }
    return checkText(schema, values) === null
  }
  const query = Object.fromEntries(
    [...new Set(given.keys())].map((name) => {
      const all = given.getAll(name)
      return [name, all.length === 1 ? all[0] : all]
    }),
  )
  if (!fits('query', query) || !fits('path', path)) return false
  const isJson = body?.type === 'application/json'
  if (isJson && content[body.type] !== undefined) {
    let value: unknown
    try {
      value = JSON.parse(body.bytes.toString())
    } catch {
      return false
    }
    if (check(content[body.type]?.schema ?? {}, value) !== null) return false
  }
  // Another type is for its handler to read.
  return extra === null && (isJson || Object.keys(content).length === 0) ? true : null
}

/** `runs` generated requests to each operation, beside its example. */
export async function driveOperations(runs: number): Promise<void> {
  const [backupRoot, importRoot] = [await temporaryDirectory(), await temporaryDirectory()]
  await mkdir(join(importRoot, 'old-queue'))
  const api = await startApi({ maxBufferedBody: 20_000 }, { backupRoot, importRoot })
  const { url: base } = await api.listen()
  await fillQuarantine(api)
  const document = await documentOf(api)
  const [check, checkText] = [checkerOf(document), checkerOf(document, true)]
  // What takes things away comes last.
  const operations = operationsOf(document)
  operations.sort((a, b) => +(a.method === 'delete') - +(b.method === 'delete'))
  for (const operation of operations) {
    let isFirst = true
    const drive = async (request: Request) => {
      const path = fill(operation, request.names, await things(api, operation))
      const url = path.url + queryOf(request.query, request.extra)
      const answer = await send(api, base, operation, url, request)
      const { status, bytes } = answer
      const sent = request.body === null ? '' : ` ${request.body.type} ${request.body.bytes}`
      const what = `${operation.method} ${url}${sent}: ${status} ${bytes.subarray(0, 500)}`
      expect(status, what).toBeLessThan(isFirst ? 400 : 500)
      isFirst = false
      const code = status < 400 ? null : JSON.parse(bytes.toString()).code
      // What leads to another route, or to none, is not this operation's.
      if (code === 'NOT_FOUND') return
      expectDescribed(operation, answer, check, what)
      const verdict = isAsDescribed(operation, { path: path.names, url }, request, check, checkText)
      if (verdict === false) expect(status, what).toBeGreaterThanOrEqual(400)
      if (verdict === true) expect(code, what).not.toBe('FST_ERR_VALIDATION')
    }
    await fc.assert(fc.asyncProperty(requestsFor(operation, document), drive), {
      numRuns: runs + 1,
      examples: [[plainRequest(operation)]],
    })
  }
  await expectSound(api)
}

async function expectSound(api: TestApi): Promise<void> {
  const jobs = async () =>
    ((await api.app.inject({ url: '/v1/jobs' })).json() as { jobs: JobState[] }).jobs
  await expect
    .poll(async () => (await jobs()).filter(({ state }) => state === 'running'), {
      timeout: HANG_MS,
    })
    .toEqual([])
  for (const { kind, error } of await jobs()) {
    if (error !== null) expect(error.code, kind).toMatch(/^(SPOOL|JLOG)_ERR_/)
  }
  for (const name of await api.journals.names()) {
    const found = await inspectJournal(join(api.data, 'journals', name))
    expect(found, `${name}: ${JSON.stringify(found)}`).toMatchObject({ sound: true })
  }
  expect((await api.app.inject({ url: '/readyz' })).statusCode).toBe(200)
  await api.close()
  const report = await checkSpool(join(api.data, 'spool'), { deep: true })
  expect(report.problems).toEqual([])
}

interface JobState {
  readonly kind: string
  readonly state: string
  readonly error: { readonly code: string } | null
}
