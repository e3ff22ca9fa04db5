import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { scrape } from '../support/prometheus.js'
import { startService, temporaryDirectory } from '../support/service.js'

const JSON_TYPE = { 'content-type': 'application/json' }

async function call(url: string, method: string, body?: unknown): Promise<unknown> {
  const response = await fetch(url, {
    method,
    ...(body === undefined ? {} : { headers: JSON_TYPE, body: JSON.stringify(body) }),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${text}`)
  return text === '' ? undefined : JSON.parse(text)
}

it('counts what happens to messages, journals and requests', async () => {
  const data = await temporaryDirectory()
  await mkdir(join(data, 'spool', 'quarantine'), { recursive: true })
  await writeFile(join(data, 'spool', 'quarantine', 'body-00-abc.json'), '{}')
  const { url } = await startService(data)
  const content = 'Subject: x\r\n\r\n0123456789'
  const rcptto = ['a@example.net', 'b@example.net', 'c@example.net', 'd@example.net']
  const { ids } = (await call(`${url}/v1/messages`, 'POST', {
    mailfrom: '',
    rcptto,
    content,
  })) as { ids: string[] }
  await call(`${url}/v1/messages`, 'POST', {
    mailfrom: '',
    rcptto: ['later@example.net'],
    content: 'z',
    next_attempt: '2100-01-01T00:00:00Z',
  })
  await fetch(`${url}/v1/messages/${ids[0]}/content`).then((response) => response.text())
  await call(`${url}/v1/claims`, 'POST', { limit: 2, lease_seconds: 60 })
  for (const type of ['delivery', 'transient_failure'] as const) {
    await call(`${url}/v1/messages/${ids[type === 'delivery' ? 0 : 2]}/events`, 'POST', { type })
  }
  await call(`${url}/v1/journals/mainlog/subscribers/re"ports?whence=begin`, 'PUT')
  expect((await fetch(`${url}/v1/messages/${ids[0]}/meta`)).status).toBe(404)

  // The new subscriber is an act of administration, whose record makes a journal of its own.
  await expect
    .poll(async () => {
      const { value } = await scrape(url)
      return [value('bobbin_journals'), value('bobbin_outbox_records')]
    })
    .toEqual([2, 0])
  const { value, metrics } = await scrape(url)
  const samples: Record<string, number> = {
    'bobbin_messages{state="queued"}': 2,
    'bobbin_messages{state="deferred"}': 1,
    'bobbin_messages{state="leased"}': 1,
    bobbin_messages_scheduled: 4,
    bobbin_messages_due: 1,
    bobbin_claims: 1,
    bobbin_messages_stored_total: 5,
    bobbin_messages_removed_total: 1,
    bobbin_contents: 2,
    bobbin_content_bytes: content.length + 1,
    bobbin_content_stored_bytes_total: content.length + 1,
    bobbin_content_removed_bytes_total: 0,
    bobbin_content_reads_total: 1,
    bobbin_content_read_bytes_total: content.length,
    'bobbin_events_total{type="delivery"}': 1,
    'bobbin_events_total{type="transient_failure"}': 1,
    bobbin_quarantine_entries: 1,
    bobbin_spool_read_only: 0,
    bobbin_journals: 2,
    'bobbin_journal_segments{journal="mainlog"}': 1,
    'bobbin_journal_appended_records_total{journal="mainlog"}': 7,
    'bobbin_relay_lag_records{journal="mainlog"}': 0,
    'bobbin_relay_failing{journal="mainlog"}': 0,
    'bobbin_errors_total{code="SPOOL_ERR_NOT_FOUND"}': 1,
  }
  const printed = Object.fromEntries(Object.keys(samples).map((name) => [name, value(name)]))
  expect(printed).toEqual(samples)
  const requests = metrics.get('bobbin_http_request_duration_seconds')!.values
  expect(requests.get('count{method="POST",route="/v1/messages",status="2xx"}')).toBe(2)
  expect(requests.get('count{method="GET",route="/v1/messages/:id/meta",status="4xx"}')).toBe(1)
  for (const name of [
    'bobbin_spool_commit_duration_seconds',
    'bobbin_journal_sync_duration_seconds',
  ])
    expect(metrics.get(name)!.values.get('count'), name).toBeGreaterThan(0)
  for (const name of [
    'bobbin_disk_available_bytes',
    'bobbin_disk_total_bytes',
    'bobbin_spool_file_bytes',
  ])
    expect(value(name), name).toBeGreaterThan(10_000)
  expect(value('bobbin_spool_commit_operations_total')).toBeGreaterThanOrEqual(5)

  // Journals are looked at every few seconds at most.
  await expect
    .poll(
      async () =>
        (await scrape(url)).value(
          'bobbin_journal_subscriber_lag_records{journal="mainlog",subscriber="re\\"ports"}',
        ),
      { timeout: 15_000, interval: 500 },
    )
    .toBe(7)
})

it('says the same over a restart, where it is of the spool and not of the process', async () => {
  const data = await temporaryDirectory()
  const first = await startService(data)
  const send = (rcptto: string[]) =>
    call(`${first.url}/v1/messages`, 'POST', { mailfrom: '', rcptto, content: 'x' })
  const { ids } = (await send(['a@example.net', 'b@example.net'])) as { ids: string[] }
  await call(`${first.url}/v1/messages/${ids[0]}/events`, 'POST', { type: 'transient_failure' })
  await call(`${first.url}/v1/claims`, 'POST', { limit: 1, lease_seconds: 60 })
  await first.kill('SIGKILL')
  const { url } = await startService(data)
  const { value } = await scrape(url)
  expect(value('bobbin_messages{state="deferred"}')).toBe(1)
  expect(value('bobbin_messages{state="leased"}')).toBe(1)
  expect(value('bobbin_messages{state="queued"}')).toBe(0)
  expect(value('bobbin_messages_stored_total')).toBe(0)
})

it('has a bounded number of series, whatever the number of journals and subscribers', async () => {
  const { url } = await startService(await temporaryDirectory())
  for (let i = 0; i < 60; i++) await call(`${url}/v1/journals/j${i}`, 'PUT')
  for (let i = 0; i < 120; i++) {
    await call(
      `${url}/v1/journals/${i % 2 ? 'mainlog' : 'j0'}/subscribers/s${i}?whence=begin`,
      'PUT',
    )
  }
  const { metrics, value } = await scrape(url)
  // With mainlog, and acctlog, where their making is recorded.
  expect(value('bobbin_journals')).toBe(62)
  expect(metrics.get('bobbin_journal_bytes')!.values.size).toBe(50)
  expect(value('bobbin_journal_bytes{journal="mainlog"}')).toBeDefined()
  expect(metrics.get('bobbin_journal_subscriber_lag_bytes')!.values.size).toBe(100)
  expect(value('bobbin_journal_subscribers{journal="mainlog"}')).toBe(60)
  // A path of its own each, and one route.
  for (let i = 0; i < 20; i++) await fetch(`${url}/v1/messages/${i}-${Math.random()}`)
  await delay(1)
  const routes = (await scrape(url)).metrics.get('bobbin_http_request_duration_seconds')!.values
  const series = [...routes.keys()].filter((labels) => labels.startsWith('count'))
  expect(series).toContain('count{method="GET",route="/v1/messages/:id",status="4xx"}')
  expect(series.length).toBeLessThan(10)
})

it('is documented, metric by metric, as it is printed', async () => {
  const doc = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')
  const rows = [...doc.matchAll(/^\| `(\w+)` \| (\w+) \| [^|]* \| (.*) \|$/gm)]
  const documented = rows.map(([, name, type, help]) => `${name} ${type} ${help}`)
  const { url } = await startService(await temporaryDirectory())
  const { metrics } = await scrape(url)
  const printed = [...metrics.values()].map(({ name, type, help }) => `${name} ${type} ${help}`)
  expect(documented.sort()).toEqual(printed.sort())
  for (const { name, type } of metrics.values()) {
    expect(name).toMatch(/^bobbin_[a-z0-9_]+$/)
    expect(name.endsWith('_total'), name).toBe(type === 'counter')
  }
})
