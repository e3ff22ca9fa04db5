// Which event goes where, and in which form; the journals are made when they are needed.
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readRecords } from '../../jlog/index.js'
import { type Config, loadConfig, retrySchedule } from '../../src/config.js'
import { eventJournals, eventOptions } from '../../src/event-settings.js'
import { startService, temporaryDirectory } from '../support/service.js'

async function fromFile(text: string): Promise<{ config: Config; file: string }> {
  const data = await temporaryDirectory()
  const file = join(data, 'bobbin.toml')
  await writeFile(file, `data = "${data}"\nlisten = "127.0.0.1:0"\n${text}`)
  return { config: loadConfig({ file, env: {} }), file }
}

async function journal(config: Config, name: string): Promise<string[]> {
  const lines: string[] = []
  for await (const batch of readRecords(join(config.data, 'journals', name))) {
    for (const { payload } of batch) lines.push(payload.toString())
  }
  return lines
}

describe('events', () => {
  it('go to mainlog, but rejections, imports and accounts to their own', () => {
    const { events } = loadConfig({ env: {} })
    const options = eventOptions(events)
    expect(options.journalOf('delivery')).toBe('mainlog')
    expect(options.journalOf('rejection')).toBe('rejectlog')
    expect(options.journalOf('import')).toBe('importlog')
    expect(options.journalOf('authentication')).toBe('acctlog')
    expect(options.journalOf('administration')).toBe('acctlog')
    expect(eventJournals(events)).toEqual(['mainlog', 'rejectlog', 'importlog', 'acctlog'])
  })

  it('go where the configuration says, or nowhere', () => {
    const env = {
      BOBBIN_EVENTS_JOURNAL: 'all',
      BOBBIN_EVENTS_JOURNALS_ATTEMPT: 'none',
      BOBBIN_EVENTS_JOURNALS_REJECTION: '',
      BOBBIN_EVENTS_CONTEXT_MESS: 'campaign, customer',
    }
    const options = eventOptions(loadConfig({ env }).events)
    expect(options.journalOf('attempt')).toBeNull()
    expect(options.journalOf('rejection')).toBe('all')
    expect(options.contextKeys).toEqual({ conn: [], mess: ['campaign', 'customer'] })
  })

  it('with a format that has no such macro are an error of the configuration', () => {
    const env = { BOBBIN_EVENTS_FORMATS_DELIVERY: '%t@%q' }
    expect(() => loadConfig({ env })).toThrow(/events\.formats\.delivery: there is no macro %q/)
  })

  it('make their journal when the first comes, in the form that is set', async () => {
    const { config, file } = await fromFile(
      '[events]\nformat = "ec"\nheartbeat = 0.05\n[events.journals]\nheartbeat = "beats"\n[events.formats]\nreception = "%t %r@%R"\n',
    )
    const { url, kill } = await startService(config.data, {}, ['--config', file])
    expect(await readdir(join(config.data, 'journals'))).not.toContain('rejectlog')
    const injected = await fetch(`${url}/v1/messages?from=a@b.example&to=c%20d@e.example`, {
      method: 'POST',
      headers: { 'content-type': 'message/rfc822' },
      body: 'Subject: x\r\n\r\n',
    })
    expect(injected.status).toBe(201)
    const rejected = await fetch(`${url}/v1/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: '{"type":"rejection","peer":"192.0.2.1","note":"550 no"}\n',
    })
    expect(rejected.status).toBe(200)
    expect(await kill('SIGTERM')).toMatchObject({ code: 0 })
    const [reception] = await journal(config, 'mainlog')
    expect(reception).toMatch(/^\d+ c\\ d@e\.example$/)
    const [rejection] = await journal(config, 'rejectlog')
    expect(rejection).toMatch(/^\d+@@@@J@.*@192\.0\.2\.1@.*@550 no$/)
    for (const line of await journal(config, 'beats')) expect(line).toMatch(/^\d+@@@@M$/)
    expect(await readdir(join(config.data, 'journals'))).not.toContain('importlog')
  })
})

describe('the retry schedule', () => {
  it('is a list or a growing delay', () => {
    const env = { BOBBIN_RETRY_DELAYS: '60, 300', BOBBIN_RETRY_MAX_RETRIES: '3' }
    expect(retrySchedule(loadConfig({ env }))).toEqual({
      delays: [60, 300],
      maxRetries: 3,
      messageExpiration: 432_000,
      neverRetry: false,
    })
    expect(retrySchedule(loadConfig({ env: { BOBBIN_RETRY_NEVER_RETRY: 'true' } }))).toEqual({
      delays: { base: 300, factor: 2, max: 14_400 },
      maxRetries: null,
      messageExpiration: 432_000,
      neverRetry: true,
    })
  })

  it.each([
    [{ BOBBIN_RETRY_MAX: '10' }, /retry\.max/],
    [{ BOBBIN_RETRY_DELAYS: '60,soon' }, /retry\.delays/],
    [{ BOBBIN_RETRY_NEVER_RETRY: 'perhaps' }, /retry\.never_retry/],
  ])('is refused when it cannot work: %j', (env, message) => {
    expect(() => loadConfig({ env })).toThrow(message)
  })
})
