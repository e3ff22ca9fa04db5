import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadConfig, parseListen, SETTINGS } from '../../src/config.js'
import { temporaryDirectory } from '../support/service.js'

describe('configuration', () => {
  it('has a default for everything', () => {
    const config = loadConfig({ env: {} })
    expect(config).toMatchObject({
      data: './data',
      listen: '127.0.0.1:8025',
      events: { format: 'json', journal: 'mainlog' },
    })
  })

  it('takes the command line before the environment before the file', async () => {
    const file = join(await temporaryDirectory(), 'bobbin.toml')
    await writeFile(file, 'data = "/file"\nlisten = "127.0.0.1:1"\n[spool]\nnode_name = "file"\n')
    const env = { BOBBIN_LISTEN: '127.0.0.1:2', BOBBIN_DATA: '/env', BOBBIN_LIMITS_RECIPIENTS: '7' }
    const config = loadConfig({ file, env, flags: { data: '/flag' } })
    expect(config.data).toBe('/flag')
    expect(config.listen).toBe('127.0.0.1:2')
    expect(config.spool.node_name).toBe('file')
    expect(config.limits.recipients).toBe(7)
  })

  it.each([
    [
      { BOBBIN_LIMITS_RECIPIENTS: 'many' },
      /limits\.recipients: must be integer, is "many" \(BOBBIN_LIMITS_RECIPIENTS\)/,
    ],
    [{ BOBBIN_EVENTS_FORMAT: 'xml' }, /events\.format: must be one of json, ec, is "xml"/],
    [{ BOBBIN_LISTEN: 'nowhere' }, /listen: .*is "nowhere"/],
    [{ BOBBIN_LSITEN: '127.0.0.1:1' }, /unknown setting in the environment: BOBBIN_LSITEN/],
  ])('says what is wrong in the environment: %j', (env, message) => {
    expect(() => loadConfig({ env })).toThrow(message)
  })

  it.each([
    ['[spool]\nnode_nam = "x"\n', /spool\.node_nam: unknown setting/],
    ['spool = 3\n', /spool: must be object, is 3/],
    ['data = \n', /bobbin\.toml:1:\d+: /],
  ])('says what is wrong in a file: %j', async (text, message) => {
    const file = join(await temporaryDirectory(), 'bobbin.toml')
    await writeFile(file, text)
    expect(() => loadConfig({ file, env: {} })).toThrow(message)
  })

  it('says which file it cannot read', () => {
    expect(() => loadConfig({ file: '/nonexistent/bobbin.toml', env: {} })).toThrow(
      /nonexistent\/bobbin\.toml/,
    )
  })

  it('shows no token that stands in the place of its hash', async () => {
    const file = join(await temporaryDirectory(), 'bobbin.toml')
    await writeFile(file, '[security]\ntokens = "a-secret"\n')
    expect(() => loadConfig({ file, env: {} })).toThrow(/^security\.tokens: must be array \(/)
    expect(() => loadConfig({ file, env: {} })).not.toThrow(/a-secret/)
  })

  it('splits addresses', () => {
    expect(parseListen('[::1]:80')).toEqual({ host: '::1', port: 80 })
    expect(parseListen('localhost:0')).toEqual({ host: 'localhost', port: 0 })
    expect(() => parseListen('localhost:65536')).toThrow(/65536/)
  })

  it('is documented, setting by setting, with the defaults that it has', () => {
    const doc = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')
    for (const { path, schema } of SETTINGS) {
      const fallback = path === 'spool.node_name' ? 'default' : schema.default
      expect(doc).toContain(`| \`${path}\` | \`${fallback}\` |`)
    }
  })
})
