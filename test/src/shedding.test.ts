// What the service does when there is more than it can take: on a disk that hangs, one that fills, and in a flood.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { Flood } from '../support/flood.js'
import { scrape } from '../support/prometheus.js'
import {
  bobbin,
  type RunningService,
  startService,
  temporaryDirectory,
} from '../support/service.js'

const run = promisify(execFile)
const MiB = 1024 * 1024

interface Answer {
  status: number
  retryAfter: string | null
  body: { code?: string; reasons?: { code: string }[]; ids?: string[]; messages?: unknown[] }
}

const JSON_TYPE = { 'content-type': 'application/json' }

async function call(
  url: string,
  method = 'GET',
  body?: unknown,
  headers: Record<string, string> = JSON_TYPE,
): Promise<Answer> {
  const response = await fetch(url, {
    method,
    ...(body === undefined
      ? {}
      : { headers, body: headers === JSON_TYPE ? JSON.stringify(body) : String(body) }),
  })
  const text = await response.text()
  return {
    status: response.status,
    retryAfter: response.headers.get('retry-after'),
    body: text.startsWith('{') ? JSON.parse(text) : {},
  }
}

function works(program: string, args: string[]): Promise<boolean> {
  return run(program, args).then(
    () => true,
    () => false,
  )
}

function inject({ url }: RunningService, content = 'x'): Promise<Answer> {
  return call(`${url}/v1/messages`, 'POST', { mailfrom: '', rcptto: ['a@example.net'], content })
}

async function reasons({ url }: RunningService): Promise<string[]> {
  const { status, body } = await call(`${url}/readyz`)
  const codes = (body.reasons ?? []).map(({ code }) => code)
  expect(status).toBe(codes.length === 0 ? 200 : 503)
  return codes
}

/** What goes on whatever the reason: reading, and what makes room. Uses two messages up. */
async function expectServed({ url }: RunningService, [first, second]: string[]): Promise<void> {
  expect((await call(`${url}/v1/messages/${first}/meta`)).status).toBe(200)
  expect((await call(`${url}/v1/messages/${first}/content`)).status).toBe(200)
  const claimed = await call(`${url}/v1/claims`, 'POST', { limit: 1, lease_seconds: 60 })
  expect(claimed.body.messages).toHaveLength(1)
  expect(
    (await call(`${url}/v1/messages/${first}/events`, 'POST', { type: 'delivery' })).status,
  ).toBe(200)
  expect((await call(`${url}/v1/messages/${second}`, 'DELETE')).status).toBe(204)
}

function expectShed(answer: Answer, reason: string): void {
  expect(answer.status).toBe(503)
  expect(answer.retryAfter).toMatch(/^[1-9]\d*$/)
  expect(answer.body.code).toBe('NOT_READY')
  expect(answer.body.reasons!.map(({ code }) => code)).toContain(reason)
}

it('sheds while the disk is slow, serves the rest, and heals by itself', {
  timeout: 60_000,
}, async ({ skip }) => {
  if (!(await works('strace', ['-qq', '-o', '/dev/null', 'true']))) skip('no strace: no slow disk')
  const service = await startService(await temporaryDirectory(), {
    BOBBIN_SHED_COMMIT_DELAY: '0.3',
    BOBBIN_SHED_EVENT_LOOP_DELAY: '0',
  })
  const { url } = service
  const ids = (await inject(service)).body.ids!
  // The disk may be slow without us, for a moment.
  await expect.poll(() => reasons(service), { timeout: 20_000 }).toEqual([])
  const slow = spawn('strace', [
    ...['-f', '-qq', '-o', '/dev/null', '-p', String(service.pid)],
    ...['-e', 'trace=fdatasync', '-e', 'inject=fdatasync:delay_enter=2000000'],
  ])
  const done = once(slow, 'exit')
  try {
    // It may take a moment to attach; a write before that is fast.
    let waiting: Promise<Answer>[] = []
    await expect
      .poll(
        () => {
          waiting = [...waiting, inject(service)]
          return reasons(service)
        },
        { interval: 200, timeout: 20_000 },
      )
      .toEqual(['commits_late'])
    const { value } = await scrape(url)
    expectShed(await inject(service), 'commits_late')
    expect((await call(`${url}/v1/messages/${ids[0]}/content`)).status).toBe(200)
    expect((await call(`${url}/healthz`)).status).toBe(200)
    expect(value('bobbin_spool_waiting_seconds')).toBeGreaterThan(0.1)
    expect(value('bobbin_not_ready{reason="commits_late"}')).toBe(1)
    expect(value('bobbin_ready')).toBe(0)
    slow.kill('SIGINT')
    await done
    // What was sent before that is late, not lost.
    for (const { status } of await Promise.all(waiting)) expect([201, 503]).toContain(status)
    expect((await waiting[0])!.status).toBe(201)
  } finally {
    slow.kill('SIGKILL')
    await done
  }
  await expect.poll(() => reasons(service), { timeout: 20_000 }).toEqual([])
  expect((await inject(service)).status).toBe(201)
  const changes = service.log.filter(({ msg }) => /^(no )?messages are taken/.test(String(msg)))
  expect(changes).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ reasons: ['commits_late'] }),
      expect.objectContaining({ msg: 'messages are taken again' }),
    ]),
  )
})

it('sheds while the disk is nearly full, serves what makes room, and heals by itself', {
  timeout: 60_000,
}, async ({ skip }) => {
  const disk = join(await temporaryDirectory(), 'disk')
  await mkdir(disk)
  const mounted = await works('mount', ['-t', 'tmpfs', '-o', `size=${160 * MiB}`, 'tmpfs', disk])
  if (!mounted) skip('no tmpfs of a given size: not root')
  let service: RunningService | undefined
  try {
    service = await startService(join(disk, 'data'), {
      BOBBIN_SPOOL_MIN_FREE: String(64 * MiB),
      BOBBIN_SPOOL_RESUME_FREE: String(96 * MiB),
      BOBBIN_SHED_EVENT_LOOP_DELAY: '0',
      BOBBIN_SHED_COMMIT_DELAY: '0',
    })
    const { url } = service
    const ids: string[] = []
    for (let i = 0; i < 4; i++) ids.push(...(await inject(service)).body.ids!)
    const ballast = join(disk, 'ballast')
    await writeFile(ballast, Buffer.alloc(110 * MiB, 1))
    await expect.poll(() => reasons(service!), { timeout: 10_000 }).toEqual(['low_space'])
    expectShed(await inject(service), 'low_space')
    expectShed(await call(`${url}/v1/messages/${ids[0]}/copy`, 'POST'), 'low_space')
    const headers = { 'content-type': 'application/octet-stream' }
    const records = `${url}/v1/journals/mainlog/records`
    expectShed(await call(records, 'POST', 'a record', headers), 'low_space')
    await expectServed(service, ids)
    // Above the lower mark, and not yet above the higher one: it does not flap.
    await truncate(ballast, 80 * MiB)
    await expect
      .poll(async () => (await scrape(url)).value('bobbin_disk_available_bytes'), {
        timeout: 10_000,
      })
      .toBeGreaterThan(70 * MiB)
    expect(await reasons(service)).toEqual(['low_space'])
    await rm(ballast)
    await expect.poll(() => reasons(service!), { timeout: 10_000 }).toEqual([])
    expect((await inject(service)).status).toBe(201)
    expect((await scrape(url)).value('bobbin_sheds_total{reason="low_space"}')).toBe(3)
    expect(await service.kill('SIGTERM')).toEqual({ code: 0, signal: null })
  } finally {
    await service?.kill('SIGKILL')
    await run('umount', [disk])
  }
})

it('sheds while it holds more memory than it may', async () => {
  const service = await startService(await temporaryDirectory(), { BOBBIN_SHED_MEMORY: '10000000' })
  await expect.poll(() => reasons(service)).toEqual(['memory_high'])
  expectShed(await inject(service), 'memory_high')
  expect((await call(`${service.url}/v1/messages`)).status).toBe(200)
})

it('in a flood of three times what it can take memory stays bounded, and what is acknowledged is on the disk', {
  timeout: 90_000,
}, async () => {
  const data = await temporaryDirectory()
  const service = await startService(data, {
    BOBBIN_SHED_IN_FLIGHT: String(2 * MiB),
    // On a slow machine these would come first.
    BOBBIN_SHED_COMMIT_DELAY: '0',
    BOBBIN_SHED_EVENT_LOOP_DELAY: '0',
  })
  const bodyBytes = 8 * 1024
  const flood = await Flood.connect(service.url, 64, bodyBytes)
  await flood.measure(1000, 192)
  const capacity = await flood.measure(1000, 192)
  await flood.settled()
  expect(flood.answers.statuses.size).toBe(1)
  const idle = heldBytes(service.pid)
  let peak = 0
  const watch = setInterval(() => {
    peak = Math.max(peak, heldBytes(service.pid))
  }, 20)
  const before = flood.answers.sent
  // Where the machine had little time for it while it was measured, that was not three times yet.
  for (let times = 3; (flood.answers.statuses.get(503) ?? 0) <= 100; times *= 2)
    await flood.run(times * capacity, 2000)
  const { statuses, ids, codes, sent, withoutRetryAfter } = flood.answers
  const offered = sent - before
  await flood.settled()
  clearInterval(watch)
  const afterwards: string[] = []
  await expect
    .poll(
      async () => {
        const { status, body } = await inject(service)
        afterwards.push(...(body.ids ?? []))
        return status
      },
      { timeout: 20_000, interval: 200 },
    )
    .toBe(201)
  flood.close()
  await service.kill('SIGKILL')

  console.log(
    `capacity ${Math.round(capacity)}/s, offered ${offered}, answers ${JSON.stringify([...statuses])}, memory ${Math.round(idle / MiB)} to ${Math.round(peak / MiB)} MiB`,
  )
  expect([...statuses.keys()].sort()).toEqual([201, 503])
  expect(statuses.get(503)).toBeGreaterThan(100)
  expect(withoutRetryAfter).toBe(0)
  expect([...codes]).toContain('TOO_MUCH_IN_FLIGHT')
  expect(peak - idle).toBeLessThan(150 * MiB)
  const listed = await bobbin(['spool', 'list', '--data', data, '--json'])
  const there = new Set(listed.stdout.toString().match(/(?<="id":")[^"]+/g))
  expect([...ids, ...afterwards].filter((id) => !there.has(id))).toEqual([])
  // Refused is not stored.
  expect(there.size).toBe(ids.length + afterwards.length)
  expect((await bobbin(['spool', 'check', '--data', data])).code).toBe(0)
})

/** Memory that the pages of the spool's file are not part of. */
function heldBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  return Number(/RssAnon:\s+(\d+) kB/.exec(status)![1]) * 1024
}
