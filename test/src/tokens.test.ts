import { createHash } from 'node:crypto'
import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigError } from '../../src/config-error.js'
import { createToken, parseToken, TokenSet } from '../../src/tokens.js'
import { bobbin, startService, temporaryDirectory } from '../support/service.js'

const HEX = 'ab'.repeat(32)

async function tokenFile(text: string): Promise<string> {
  const file = join(await temporaryDirectory(), 'tokens')
  await writeFile(file, text, { mode: 0o600 })
  return file
}

describe('tokens', () => {
  it('are stored as their hash, and known again by it', async () => {
    const { token, line } = createToken('mta-1', ['inject', 'read', 'inject'])
    expect(token).toMatch(/^bobbin_[A-Za-z0-9_-]{43}$/)
    expect(line).toBe(
      `mta-1:inject+read:sha256:${createHash('sha256').update(token).digest('hex')}`,
    )
    expect(createToken('mta-1', ['read']).token).not.toBe(token)
    const tokens = (await TokenSet.open({ file: '', lines: [line] }))!
    const caller = tokens.authenticate(token)!
    expect(caller.name).toBe('mta-1')
    expect([...caller.scopes]).toEqual(['inject', 'read'])
    for (const other of ['', token.slice(1), `${token}x`, token.toLowerCase(), line])
      expect(tokens.authenticate(other)).toBeUndefined()
  })

  it.each([
    ['secret-that-must-not-be-shown', /not NAME:SCOPE\+SCOPE:sha256:HEX/],
    [`a:read:sha256:${HEX}00`, /not NAME/],
    [`a:read:md5:${HEX}`, /not NAME/],
    [`a b:read:sha256:${HEX}`, /a name is/],
    [`anonymous:read:sha256:${HEX}`, /none of anonymous/],
    [`a::sha256:${HEX}`, /"" is no scope/],
    [`a:read+root:sha256:${HEX}`, /"root" is no scope; there are inject, read/],
  ])('that are wrong are refused, without showing them: %s', (line, message) => {
    expect(() => parseToken(line, 'FILE:3')).toThrow(message)
    expect(() => parseToken(line, 'FILE:3')).toThrow(/^FILE:3: /)
    expect(() => parseToken(line, 'FILE:3')).not.toThrow(/must-not-be-shown|abab/)
    expect(() => parseToken(line, 'FILE:3')).toThrow(ConfigError)
  })

  it('come from a file that others may not write to', async () => {
    const { token, line } = createToken('a', ['read'])
    const file = await tokenFile(`# tokens\r\n\n  ${line}\r\n`)
    expect((await TokenSet.open({ file, lines: [] }))!.authenticate(token)?.name).toBe('a')
    await chmod(file, 0o620)
    await expect(TokenSet.open({ file, lines: [] })).rejects.toThrow(/others may write to it/)
    await expect(TokenSet.open({ file: `${file}.not`, lines: [] })).rejects.toThrow(/ENOENT/)
    const twice = await tokenFile(`${line}\n${line.replace('a:', 'b:')}\n`)
    await expect(TokenSet.open({ file: twice, lines: [] })).rejects.toThrow(/same token/)
    await expect(TokenSet.open({ file: '', lines: [line, line] })).rejects.toThrow(/two tokens/)
    expect(await TokenSet.open({ file: '', lines: [] })).toBeNull()
  })

  it('are read anew whole, or stay as they were', async () => {
    const [a, b, c] = [
      createToken('a', ['read']),
      createToken('b', ['read']),
      createToken('c', ['log']),
    ]
    const file = await tokenFile(`${a.line}\n${b.line}\n`)
    const tokens = (await TokenSet.open({ file, lines: [] }))!
    const before = { a: tokens.authenticate(a.token)!, b: tokens.authenticate(b.token)! }
    await writeFile(file, `${a.line}\nnonsense\n`)
    await expect(tokens.reload()).rejects.toThrow(/:2: not NAME/)
    expect(tokens.authenticate(b.token)).toBe(before.b)
    await writeFile(file, `${c.line}\n${b.line.replace(':read:', ':read+log:')}\n${a.line}\n`)
    expect(await tokens.reload()).toEqual({
      total: 3,
      added: ['c'],
      removed: [],
      changed: ['b'],
    })
    expect(tokens.authenticate(a.token)).toBe(before.a)
    expect(before.a.revoked.aborted).toBe(false)
    expect(before.b.revoked.aborted).toBe(true)
    expect(tokens.authenticate(b.token)!.revoked.aborted).toBe(false)
    await writeFile(file, '')
    expect(await tokens.reload()).toMatchObject({ total: 0, removed: ['c', 'b', 'a'] })
    expect(before.a.revoked.aborted).toBe(true)
    expect(tokens.authenticate(a.token)).toBeUndefined()
  })
})

describe('bobbin token', () => {
  it('makes a token, stores its line, lists it, and the service knows it', async () => {
    const file = join(await temporaryDirectory(), 'tokens')
    const made = await bobbin([
      'token',
      'create',
      '--scope',
      'read',
      '--name',
      'ops',
      '--file',
      file,
    ])
    expect(made).toMatchObject({ code: 0, stderr: '' })
    const token = made.stdout.toString().trim()
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readFile(file, 'utf8')).not.toContain(token)
    const printed = await bobbin([
      'token',
      'create',
      '--scope',
      'log',
      '--scope',
      'inject',
      '--name',
      'two',
    ])
    const [second, line] = printed.stdout.toString().split('\n')
    expect(line).toMatch(/^two:log\+inject:sha256:/)
    const listed = await bobbin(['token', 'list', '--file', file])
    expect(listed.stdout.toString()).toBe('ops  read\n')

    const service = await startService(await temporaryDirectory(), {
      BOBBIN_SECURITY_TOKEN_FILE: file,
      BOBBIN_SECURITY_TOKENS: line!,
    })
    const status = async (path: string, bearer?: string) =>
      (
        await fetch(service.url + path, {
          headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
        })
      ).status
    expect(await status('/v1/spool')).toBe(401)
    expect(await status('/v1/spool', token)).toBe(200)
    expect(await status('/v1/spool', second)).toBe(403)
    expect(await status('/v1/journals', second)).toBe(200)
    expect(await status('/healthz')).toBe(200)
    await service.kill('SIGTERM')
    expect(JSON.stringify(service.log)).not.toContain(token)
  })

  it('says what is wrong, with status 2', async () => {
    const file = await tokenFile(`${createToken('a', ['read']).line}\n`)
    for (const [args, message] of [
      [['create', '--scope', 'root'], /Give one of inject, read/],
      [['create'], /--scope/],
      [['create', '--scope', 'read', '--name', 'a/b'], /a name is/],
      [['create', '--scope', 'read', '--name', 'a', '--file', file], /already/],
      [['list'], /--file/],
      [['list', '--file', `${file}.not`], /ENOENT/],
    ] as const) {
      const { code, stderr } = await bobbin(['token', ...args])
      expect(stderr).toMatch(message)
      expect(code).toBe(2)
    }
    const start = await bobbin(['serve'], { env: { BOBBIN_SECURITY_TOKENS: 'a-secret' } })
    expect(start.code).toBe(2)
    expect(start.stderr).toMatch(/^bobbin: security\.tokens\[0\]: not NAME/)
    expect(start.stderr).not.toContain('a-secret')
  })
})
