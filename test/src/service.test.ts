import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { buffer } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { BobbinClient } from '../../api/index.js'
import { corpusMails, ownMails } from '../support/mail.js'
import { bobbin, PROGRAM, startService, temporaryDirectory } from '../support/service.js'

const MiB = 1024 * 1024
const ENVELOPE = { mailfrom: 'sender@example.com', rcptto: ['rcpt@example.net'] }

describe('bobbin serve', () => {
  it('gives every message back byte for byte, also after a restart', async () => {
    const data = await temporaryDirectory()
    const mails = [...(await ownMails()), ...corpusMails()]
    const first = await startService(data)
    const ids = new Map<string, string>()
    for (const { name, bytes } of mails) {
      const {
        ids: [id],
        size,
      } = await new BobbinClient(first.url).inject({ ...ENVELOPE, body: bytes })
      expect(size, name).toBe(bytes.length)
      ids.set(name, id!)
    }
    expect(await first.kill('SIGTERM')).toEqual({ code: 0, signal: null })
    const second = await startService(data)
    for (const { name, bytes } of mails) {
      const body = await new BobbinClient(second.url).content(ids.get(name)!)
      expect((await buffer(body)).equals(bytes), name).toBe(true)
    }
  })

  it('streams 200 MiB in and out in bounded memory', { timeout: 120_000 }, async () => {
    const service = await startService(await temporaryDirectory())
    const client = new BobbinClient(service.url)
    await client.inject({ ...ENVELOPE, body: Buffer.from('warm up') })
    const before = residentBytes(service.pid)
    let peak = 0
    const watch = setInterval(() => {
      peak = Math.max(peak, residentBytes(service.pid))
    }, 20)
    const sent = createHash('sha256')
    const block = Buffer.alloc(64 * 1024)
    async function* body() {
      for (let i = 0; i < (200 * MiB) / block.length; i++) {
        block.fill(`${i} is the number of this block\r\n`)
        sent.update(block)
        yield Buffer.from(block)
      }
    }
    const { ids, sha256, size } = await client.inject({ ...ENVELOPE, body: body() })
    expect(size).toBe(200 * MiB)
    expect(sha256).toBe(sent.digest('hex'))
    const received = createHash('sha256')
    for await (const bytes of await client.content(ids[0]!)) received.update(bytes)
    expect(received.digest('hex')).toBe(sha256)
    clearInterval(watch)
    expect(peak - before).toBeLessThan(64 * MiB)
  })

  it('finishes what it holds on SIGTERM, and on a second one loses nothing either', async () => {
    const data = await temporaryDirectory()
    const service = await startService(data)
    const { port, hostname } = new URL(service.url)
    const slow = connect(Number(port), hostname)
    slow.on('error', () => undefined)
    await once(slow, 'connect')
    slow.write(
      'POST /v1/messages?from=a@example.com&to=b@example.net HTTP/1.1\r\nhost: x\r\ncontent-type: message/rfc822\r\ncontent-length: 12\r\n\r\nfirst ',
    )
    const done = await new BobbinClient(service.url).inject({
      ...ENVELOPE,
      body: Buffer.from('done'),
    })
    service.signal('SIGTERM')
    await expect.poll(() => service.log.some(({ msg }) => msg === 'stopping')).toBe(true)
    slow.write('second')
    const [answer] = (await once(slow, 'data')) as [Buffer]
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 201 /)
    const { ids } = JSON.parse(answer.toString().split('\r\n\r\n')[1]!) as { ids: string[] }
    slow.end()
    expect(await service.ended).toEqual({ code: 0, signal: null })

    const again = await startService(data)
    const client = new BobbinClient(again.url)
    expect((await client.meta(ids[0]!)).size).toBe(12)
    expect((await client.meta(done.ids[0]!)).size).toBe(4)

    const stuck = connect(Number(new URL(again.url).port), hostname)
    stuck.on('error', () => undefined)
    await once(stuck, 'connect')
    stuck.write(
      'POST /v1/messages?from=&to=b@example.net HTTP/1.1\r\nhost: x\r\ncontent-type: message/rfc822\r\ncontent-length: 12\r\n\r\nnever',
    )
    await client.inject({ ...ENVELOPE, body: Buffer.from('acknowledged') })
    again.signal('SIGTERM')
    await expect.poll(() => again.log.some(({ msg }) => msg === 'stopping')).toBe(true)
    again.signal('SIGTERM')
    expect(await again.ended).toEqual({ code: 0, signal: null })
    const stats = await bobbin(['spool', 'stats', '--data', data, '--json'])
    expect(JSON.parse(stats.stdout.toString())).toMatchObject({
      messages: 3,
      outbox: { records: 0 },
    })
  })

  it('refuses a data directory that another process serves, and names it', async () => {
    const data = await temporaryDirectory()
    const first = await startService(data)
    const second = await bobbin(['serve', '--data', data, '--listen', '127.0.0.1:0'])
    expect(second.code).toBe(1)
    expect(second.stderr).toContain(`${first.pid}`)
    expect(second.stderr).toContain('SPOOL_ERR_OWNED')
    expect(second.stderr.trim().split('\n')).toHaveLength(1)
  })

  it('says what is wrong with its settings', async () => {
    const { code, stderr } = await bobbin(['serve'], { env: { BOBBIN_LIMITS_RECIPIENTS: 'many' } })
    expect(code).toBe(2)
    expect(stderr).toMatch(/^bobbin: limits\.recipients: must be integer/)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })

  it('writes ec lines when told to', async () => {
    const data = await temporaryDirectory()
    const service = await startService(data, { BOBBIN_EVENTS_FORMAT: 'ec' })
    const { ids } = await new BobbinClient(service.url).inject({
      mailfrom: 'info@postalengine.com',
      rcptto: ['bo@b@example.fict'],
      body: Buffer.from('x'.repeat(201)),
    })
    await service.kill('SIGTERM')
    const { stdout } = await bobbin(['jlog', 'cat', join(data, 'journals', 'mainlog')])
    const fields = stdout
      .toString()
      .replace(/\n$/, '')
      .split(/(?<!\\)@/)
    expect(fields.slice(1, 2)).toEqual(ids)
    expect(fields.slice(4)).toEqual([
      'R',
      'bo\\@b',
      'example.fict',
      'info',
      'postalengine.com',
      'unknown',
      '201',
      'rest',
      'default',
      'default',
    ])
  })
})

describe('the command line', () => {
  it('injects, lists, shows and prints, from the service and from the files alike', async () => {
    const data = await temporaryDirectory()
    const service = await startService(data)
    const file = join(await temporaryDirectory(), 'a.eml')
    const mail = Buffer.from('Subject: x\r\n\r\nbody \0 \xff\r\n', 'latin1')
    await writeFile(file, mail)
    const inject = [
      'inject',
      '--url',
      service.url,
      '--from',
      'a@example.com',
      '--to',
      'b@example.net',
      '--to',
      'c@example.org',
    ]
    const fromFile = await bobbin([...inject, file])
    expect(fromFile).toMatchObject({ code: 0, stderr: '' })
    const ids = fromFile.stdout.toString().trim().split('\n')
    expect(ids).toHaveLength(2)
    const fromInput = await bobbin([...inject, '--json'], { input: mail })
    expect(JSON.parse(fromInput.stdout.toString())).toMatchObject({
      result: 'complete',
      size: mail.length,
    })

    for (const where of [
      ['--url', service.url],
      ['--data', data],
    ]) {
      const list = await bobbin(['spool', 'list', ...where, '--json'])
      const metas = list.stdout
        .toString()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { id: string; rcptto: string })
      expect(metas).toHaveLength(4)
      expect(metas.slice(0, 2).map(({ id }) => id)).toEqual(ids)
      const filtered = await bobbin(['spool', 'list', ...where, '--domain', 'example.org'])
      expect(filtered.stdout.toString().trim().split('\n')).toHaveLength(2)
      expect((await bobbin(['spool', 'cat', ids[0]!, ...where])).stdout.equals(mail)).toBe(true)
      const show = await bobbin(['spool', 'show', ids[1]!, ...where, '--json'])
      expect(JSON.parse(show.stdout.toString())).toMatchObject({
        id: ids[1],
        rcptto: 'c@example.org',
        mailfrom: 'a@example.com',
      })
      const stats = await bobbin(['spool', 'stats', ...where, '--json'])
      expect(JSON.parse(stats.stdout.toString())).toMatchObject({
        messages: 4,
        bodies: 2,
        bytes: 2 * mail.length,
      })
      const unknown = await bobbin([
        'spool',
        'show',
        '019a0000-0000-7000-8000-000000000000',
        ...where,
      ])
      expect(unknown.code).toBe(1)
      expect(unknown.stderr).toMatch(/^bobbin: .*SPOOL_ERR_NOT_FOUND/)
    }
  })

  it('answers wrong usage with status 2, and failure with 1', async () => {
    expect((await bobbin(['spool', 'nonsense'])).code).toBe(2)
    expect((await bobbin(['spool', 'list', '--state', 'nonsense'])).code).toBe(2)
    expect((await bobbin(['inject', '--to', 'b@example.net'])).code).toBe(2)
    expect((await bobbin(['--help'])).code).toBe(0)
    const unreachable = await bobbin(
      [
        'inject',
        '--url',
        'http://127.0.0.1:9',
        '--patience',
        '0',
        '--from',
        '',
        '--to',
        'b@example.net',
      ],
      { input: 'x' },
    )
    expect(unreachable.code).toBe(1)
    expect(unreachable.stderr).toMatch(/^bobbin: cannot reach http:\/\/127\.0\.0\.1:9/)
  })

  it('tails the journal while the service writes it', async () => {
    const data = await temporaryDirectory()
    const service = await startService(data)
    const tail = spawn(process.execPath, [
      PROGRAM,
      'jlog',
      'tail',
      join(data, 'journals', 'mainlog'),
      '--from',
      'begin',
    ])
    try {
      const lines = createInterface({ input: tail.stdout })[Symbol.asyncIterator]()
      for (let i = 0; i < 3; i++) {
        const { ids } = await new BobbinClient(service.url).inject({
          ...ENVELOPE,
          body: Buffer.from(`${i}`),
        })
        const { value } = await lines.next()
        expect(JSON.parse(value as string)).toMatchObject({ type: 'reception', id: ids[0] })
      }
    } finally {
      tail.kill('SIGTERM')
      await once(tail, 'exit')
    }
  })

  it('makes and reads journals of its own', async () => {
    const dir = join(await temporaryDirectory(), 'log')
    expect(await bobbin(['jlog', 'create', dir])).toMatchObject({ code: 0, stderr: '' })
    expect(await readdir(dir)).toContain('metastore')
    await bobbin(['jlog', 'append', dir, '--lines'], { input: 'one\ntwo\nthree' })
    await bobbin(['jlog', 'append', dir], { input: 'one\nrecord\n' })
    const text = await bobbin(['jlog', 'cat', dir])
    expect(text.stdout.toString()).toBe('one\ntwo\nthree\none\nrecord\n')
    const json = await bobbin(['jlog', 'cat', dir, '--json'])
    const records = json.stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: string; size: number; data: string })
    expect(records.map(({ id }) => id)).toEqual([
      '00000000:00000001',
      '00000000:00000002',
      '00000000:00000003',
      '00000000:00000004',
    ])
    expect(Buffer.from(records[3]!.data, 'base64').toString()).toBe('one\nrecord\n')
    const info = await bobbin(['jlog', 'info', dir, '--json'])
    expect(JSON.parse(info.stdout.toString())).toMatchObject({
      first: '00000000:00000001',
      last: '00000000:00000004',
    })
    const again = await bobbin(['jlog', 'create', dir])
    expect(again.code).toBe(1)
    expect(again.stderr).toContain('JLOG_ERR_CREATE_EXISTS')
  })
})

function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024
}
