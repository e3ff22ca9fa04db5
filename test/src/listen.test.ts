import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { chmod, mkdir, readdir, stat, unlink, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigError } from '../../src/config-error.js'
import { checkExposure, isLocal, resolveEndpoint } from '../../src/listen.js'
import { createToken } from '../../src/tokens.js'
import { makeCertificate, noCertificates } from '../support/certificates.js'
import { bobbin, PROGRAM, startService, temporaryDirectory } from '../support/service.js'

function getOver(socketPath: string, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode)
    })
      .on('error', reject)
      .end()
  })
}

describe('what is local', () => {
  it.each([
    ['127.0.0.1:1', true],
    ['127.255.3.4:1', true],
    ['[::1]:1', true],
    ['[::ffff:127.0.0.1]:1', true],
    ['localhost:1', true],
    ['unix:/run/bobbin.sock', true],
    ['0.0.0.0:1', false],
    ['[::]:1', false],
    ['[::ffff:0.0.0.0]:1', false],
    ['192.0.2.1:1', false],
    ['128.0.0.1:1', false],
    ['[2001:db8::1]:1', false],
  ])('%s: %s', async (listen, local) => {
    expect(isLocal(await resolveEndpoint(listen))).toBe(local)
  })

  it('needs an address that can be found, and a path that fits', async () => {
    await expect(resolveEndpoint('no.such.host.invalid:1')).rejects.toThrow(ConfigError)
    await expect(resolveEndpoint(`unix:/${'x'.repeat(107)}`)).rejects.toThrow(/too long by 1 bytes/)
    const long = `/${'x'.repeat(106)}`
    expect(await resolveEndpoint(`unix:${long}`)).toEqual({ kind: 'unix', path: long })
  })
})

describe('beyond this machine', () => {
  const endpoint = { kind: 'tcp', host: '0.0.0.0', port: 1 } as const

  it('takes tokens and TLS, both, or the switch', () => {
    const check = (tokens: boolean, tls: boolean, insecure = false) =>
      checkExposure(endpoint, { tokens, tls, insecure })
    expect(check(true, true)).toBeNull()
    expect(() => check(false, true)).toThrow(/without tokens/)
    expect(() => check(false, true)).not.toThrow(/without TLS/)
    expect(() => check(true, false)).toThrow(/without TLS/)
    expect(() => check(false, false)).toThrow(/without tokens .*; without TLS/)
    expect(check(false, false, true)).toMatch(/without tokens .*; without TLS/)
    expect(check(true, true, true)).toBeNull()
  })

  it('the service does not start, says what to do, and makes no data directory', async () => {
    const data = join(await temporaryDirectory(), 'data')
    for (const listen of ['0.0.0.0:0', '[::]:0']) {
      const { code, stderr, stdout } = await bobbin(['serve', '--data', data, '--listen', listen])
      expect(code).toBe(2)
      expect(stdout.toString()).toBe('')
      expect(stderr.trim().split('\n')).toHaveLength(1)
      expect(stderr).toMatch(/^bobbin: listen: .*security\.token_file.*--insecure-listen/)
    }
    await expect(stat(data)).rejects.toThrow('ENOENT')
  })

  it('starts with the switch, and says in the log what is given up', async () => {
    const service = await startService(await temporaryDirectory(), {}, [
      '--listen',
      '0.0.0.0:0',
      '--insecure-listen',
    ])
    expect(service.log).toContainEqual(
      expect.objectContaining({ level: 40, msg: expect.stringContaining('without TLS') as string }),
    )
    expect((await fetch(`http://127.0.0.1:${new URL(service.url).port}/healthz`)).status).toBe(200)
  })

  it.skipIf(noCertificates !== null)('starts with tokens and TLS', async () => {
    const dir = await temporaryDirectory()
    const { cert, key } = await makeCertificate(dir, 'server')
    const service = await startService(
      join(dir, 'data'),
      {
        BOBBIN_SECURITY_TLS_CERT: cert,
        BOBBIN_SECURITY_TLS_KEY: key,
        BOBBIN_SECURITY_TOKENS: createToken('a', ['read']).line,
      },
      ['--listen', '0.0.0.0:0'],
    )
    expect(service.url).toMatch(/^https:/)
    expect(service.log.filter(({ level }) => Number(level) >= 40)).toEqual([])
  })
})

describe('a Unix socket', () => {
  it('has its mode, answers, and is gone afterwards', async () => {
    const dir = await temporaryDirectory()
    const path = join(dir, 'bobbin.sock')
    const service = await startService(join(dir, 'data'), { BOBBIN_SECURITY_SOCKET_MODE: '0600' }, [
      '--listen',
      `unix:${path}`,
    ])
    expect(service.url).toBe(`unix:${path}`)
    const found = await stat(path)
    expect(found.isSocket()).toBe(true)
    expect(found.mode & 0o777).toBe(0o600)
    expect(await readdir(dir)).toEqual(['bobbin.sock', 'data'])
    expect(await getOver(path, '/v1/spool')).toBe(200)
    expect(await service.kill('SIGTERM')).toEqual({ code: 0, signal: null })
    expect(await readdir(dir)).toEqual(['data'])
  })

  it('is taken over from a service that died, and not from one that answers', async () => {
    const dir = await temporaryDirectory()
    const path = join(dir, 'bobbin.sock')
    const listen = ['--listen', `unix:${path}`]
    const dead = await startService(join(dir, 'data'), {}, listen)
    await dead.kill('SIGKILL')
    expect((await stat(path)).isSocket()).toBe(true)
    const alive = await startService(join(dir, 'data'), {}, listen)
    expect(await getOver(path, '/healthz')).toBe(200)
    expect((await stat(path)).mode & 0o777).toBe(0o660)
    const other = await bobbin(['serve', '--data', join(dir, 'other'), ...listen])
    expect(other.code).toBe(1)
    expect(other.stderr).toMatch(/another process answers there/)
    expect(await getOver(path, '/healthz')).toBe(200)
    expect((await readdir(dir)).sort()).toEqual(['bobbin.sock', 'data', 'other'])
    await alive.kill('SIGTERM')
  })

  it('does not take the place of a file, nor remove what has taken its own', async () => {
    const dir = await temporaryDirectory()
    const path = join(dir, 'bobbin.sock')
    const listen = ['--listen', `unix:${path}`]
    await writeFile(path, 'precious')
    const refused = await bobbin(['serve', '--data', join(dir, 'data'), ...listen])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(/it is there and no socket/)
    expect((await stat(path)).size).toBe(8)

    const second = join(dir, 'second.sock')
    const service = await startService(join(dir, 'data'), {}, ['--listen', `unix:${second}`])
    await unlink(second)
    const successor = createServer().listen(second)
    await once(successor, 'listening')
    await service.kill('SIGTERM')
    expect((await stat(second)).isSocket()).toBe(true)
    successor.close()
  })

  it('is not made where there is no such directory', async () => {
    const dir = await temporaryDirectory()
    const { code, stderr } = await bobbin([
      'serve',
      '--data',
      join(dir, 'data'),
      '--listen',
      `unix:${join(dir, 'no', 'sock')}`,
    ])
    expect(code).toBe(1)
    expect(stderr).toContain('ENOENT')
  })
})

describe('SIGHUP', () => {
  it('reads the tokens again; wrong ones leave the old ones', async () => {
    const dir = await temporaryDirectory()
    const file = join(dir, 'tokens')
    const [a, b] = [createToken('a', ['read']), createToken('b', ['read'])]
    await writeFile(file, `${a.line}\n`, { mode: 0o600 })
    const service = await startService(join(dir, 'data'), { BOBBIN_SECURITY_TOKEN_FILE: file })
    const status = async ({ token }: { token: string }) =>
      (await fetch(`${service.url}/v1/spool`, { headers: { authorization: `Bearer ${token}` } }))
        .status
    expect([await status(a), await status(b)]).toEqual([200, 401])
    const logged = (message: RegExp) => service.log.some(({ msg }) => message.test(String(msg)))
    const hangUp = async (message: RegExp) => {
      service.signal('SIGHUP')
      await expect.poll(() => logged(message)).toBe(true)
    }
    await writeFile(file, `${b.line}\n`)
    await hangUp(/read again: 1 tokens, added b, removed a/)
    expect([await status(a), await status(b)]).toEqual([401, 200])
    await writeFile(file, 'nonsense')
    await hangUp(/the old ones stay: .*tokens:1: not NAME/)
    await chmod(file, 0o606)
    await hangUp(/the old ones stay: .*others may write/)
    expect([await status(a), await status(b)]).toEqual([401, 200])
    await service.kill('SIGTERM')
    const { stdout } = await bobbin(['jlog', 'cat', join(dir, 'data', 'journals', 'acctlog')])
    const acts = stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { user: string; peer: string; note: string })
      .filter(({ note }) => note.startsWith('reload'))
    expect(acts.map(({ user, peer, note }) => `${user} ${peer}: ${note}`)).toEqual([
      'service local: reload tokens: done: 1 tokens, added b, removed a',
      expect.stringMatching(/^service local: reload tokens: failed: .*tokens:1: not NAME/),
      expect.stringMatching(/^service local: reload tokens: failed: .*others may write/),
    ])
  })

  it('changes nothing where there is nothing to read', async () => {
    const dir = await temporaryDirectory()
    await mkdir(join(dir, 'data'))
    const service = await startService(join(dir, 'data'))
    service.signal('SIGHUP')
    await expect.poll(() => service.log.some(({ signal }) => signal === 'SIGHUP')).toBe(true)
    expect((await fetch(`${service.url}/v1/spool`)).status).toBe(200)
  })
})

describe('a log that cannot be written', () => {
  it('does not end the service', async () => {
    const dir = await temporaryDirectory()
    const path = join(dir, 'bobbin.sock')
    const full = openSync('/dev/full', 'w')
    const child = spawn(
      process.execPath,
      [PROGRAM, 'serve', '--data', join(dir, 'data'), '--listen', `unix:${path}`],
      { stdio: ['ignore', full, 'ignore'] },
    )
    closeSync(full)
    const ended = once(child, 'exit')
    try {
      await expect
        .poll(() => getOver(path, '/healthz').catch(() => null), { timeout: 15_000 })
        .toBe(200)
      child.kill('SIGHUP')
      expect(await getOver(path, '/v1/spool')).toBe(200)
      child.kill('SIGTERM')
      expect(await ended).toEqual([0, null])
    } finally {
      child.kill('SIGKILL')
    }
  })
})
