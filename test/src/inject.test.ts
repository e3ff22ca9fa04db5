// `bobbin inject` in a pipe: what it prints, what it repeats, and how it ends.
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { BobbinClient } from '../../api/client/index.js'
import { startApi } from '../support/api.js'
import { startProxy } from '../support/proxy.js'
import { bobbin, startService, temporaryDirectory } from '../support/service.js'

const MAIL = 'Subject: x\r\n\r\nbody\r\n'
const ENVELOPE = ['--from', 'a@example.com', '--to', 'b@example.net']

async function start(url?: string) {
  url ??= (await (await startApi()).listen()).url
  const proxy = await startProxy(url)
  const inject = (args: string[], input: Uint8Array | string = '', env = {}) =>
    bobbin(['inject', '--url', proxy.url, ...ENVELOPE, ...args], { input, env })
  return { proxy, inject, direct: new BobbinClient(url) }
}

const ids = (stdout: Buffer) => stdout.toString().trim().split('\n')

describe('bobbin inject', () => {
  it('tries again while the service is away, and stores each message once', async () => {
    const { proxy, inject, direct } = await start()
    const file = join(await temporaryDirectory(), 'mail.eml')
    await writeFile(file, MAIL)
    proxy.faults.push({ status: 503, headers: { 'retry-after': '0' } }, 'lose the answer', 'cut')
    proxy.faults.push(null, 'lose the answer')
    const { code, stdout } = await inject(['--to', 'c@example.net', '-', file], MAIL)
    expect(code).toBe(0)
    expect(ids(stdout)).toHaveLength(4)
    expect(await direct.spool()).toMatchObject({ messages: 4 })
  })

  it('gives the first answer again for a key that a later run repeats', async () => {
    const { inject, direct } = await start()
    const run = () => inject(['--json', '--idempotency-key', 'pipe, "one"'], MAIL)
    const first = await run()
    expect(JSON.parse(first.stdout.toString())).toMatchObject({ file: '-', result: 'complete' })
    expect((await run()).stdout).toEqual(first.stdout)
    expect(await direct.spool()).toMatchObject({ messages: 1 })
  })

  it('streams what it does not keep, and sends its token', async () => {
    const { url } = await startService(await temporaryDirectory())
    const { proxy, inject, direct } = await start(url)
    const large = randomBytes(6_000_000)
    const { code, stdout } = await inject([], large, { BOBBIN_TOKEN: 'secret' })
    expect(code).toBe(0)
    const [id] = ids(stdout)
    expect((await buffer(await direct.content(id!))).equals(large)).toBe(true)
    expect(proxy.requests[0]!.headers).toMatchObject({ authorization: 'Bearer secret' })
  })

  it('ends with 1 and one line when the message is not stored', async () => {
    const { proxy, inject } = await start()
    proxy.faults.push({ status: 503, body: '{"code":"NOT_READY","detail":"the disk is full"}' })
    const busy = await inject(['--patience', '0'], MAIL)
    expect(busy).toMatchObject({ code: 1, stderr: 'bobbin: the disk is full [NOT_READY]\n' })
    const none = await inject(['/nonexistent.eml'])
    expect(none).toMatchObject({ code: 1, stderr: expect.stringMatching(/^bobbin: .*ENOENT.*\n$/) })
    const away = ['inject', '--url', 'http://127.0.0.1:1', '--patience', '0', ...ENVELOPE]
    expect(await bobbin(away, { input: MAIL })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^bobbin: cannot reach http:\/\/127\.0\.0\.1:1: .*\n$/),
    })
  })

  it('ends with 2 when it is used wrongly', async () => {
    const { inject } = await start()
    for (const args of [
      ['--idempotency-key', 'k', 'a', 'b'],
      ['--url', 'nowhere'],
      ['--patience', 'x'],
    ])
      expect(await inject(args, MAIL)).toMatchObject({ code: 2, stdout: Buffer.alloc(0) })
    expect(await inject([], MAIL, { BOBBIN_TOKEN_FILE: '/nonexistent' })).toMatchObject({ code: 2 })
  })
})
