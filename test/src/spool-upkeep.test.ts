// bobbin spool check, repair and quarantine: at rest, and against a running service.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { checkSpool, openSpool } from '../../spool/index.js'
import { Store } from '../../spool/store.js'
import { bobbin, startService, temporaryDirectory } from '../support/service.js'

async function dataWith(bodies: string[]): Promise<{ data: string; ids: string[] }> {
  const data = await temporaryDirectory()
  const spool = await openSpool({ path: join(data, 'spool') })
  const ids: string[] = []
  for (const body of bodies) {
    const message = {
      mailfrom: 'a@example.com',
      rcptto: ['b@example.net'],
      body: Buffer.from(body),
    }
    ids.push(...(await spool.swapOut(message)).ids)
  }
  await spool.close()
  return { data, ids }
}

async function damage(data: string, how: (store: Store) => void): Promise<void> {
  const path = join(data, 'spool')
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  await store.write(() => how(store))
  await store.close()
}

it('at rest: finds, mends, releases', async () => {
  const { data, ids } = await dataWith(['one', 'two'])
  const at = ['--data', data]
  expect((await bobbin(['spool', 'check', ...at])).code).toBe(0)
  await damage(data, (store) => {
    for (const key of store.db('chunks').getKeys({ limit: 1 })) {
      void store.db('chunks').put(Buffer.from(key), Buffer.from('ONE'))
    }
  })
  expect((await bobbin(['spool', 'check', ...at])).code).toBe(0)
  const check = await bobbin(['spool', 'check', '--deep', '--json', ...at])
  expect(check).toMatchObject({ code: 1, stderr: '' })
  expect(JSON.parse(check.stdout.toString())).toMatchObject({ counts: { 'body-hash-wrong': 1 } })
  const repair = await bobbin(['spool', 'repair', '--json', ...at])
  expect(repair).toMatchObject({ code: 0, stderr: '' })
  const { entries, quarantined } = JSON.parse(repair.stdout.toString())
  expect(quarantined).toBe(1)
  const list = await bobbin(['spool', 'quarantine', 'list', ...at])
  expect(list.stdout.toString()).toContain(entries[0])
  const show = await bobbin(['spool', 'quarantine', 'show', '--json', entries[0], ...at])
  expect(JSON.parse(show.stdout.toString()).meta.id).toBe(ids[0])
  const refused = await bobbin(['spool', 'quarantine', 'release', entries[0], ...at])
  expect(refused).toMatchObject({ code: 1, stdout: Buffer.alloc(0) })
  expect(refused.stderr).toMatch(/^bobbin: [^\n]*not whole[^\n]*\n$/)
  const released = await bobbin(['spool', 'quarantine', 'release', '--force', entries[0], ...at])
  const content = await bobbin(['spool', 'cat', released.stdout.toString().trim(), ...at])
  expect(content.stdout.toString()).toBe('ONE')
  expect((await bobbin(['spool', 'quarantine', 'purge', entries[0], ...at])).code).toBe(1)
  expect((await bobbin(['spool', 'check', '--deep', ...at])).code).toBe(0)
})

it('beside a service: checks the files, repairs over --url, and refuses to repair them at rest', async () => {
  const { data, ids } = await dataWith(['one', 'two'])
  await damage(data, (store) => {
    const id = Buffer.from((ids[0] as string).replaceAll('-', ''), 'hex')
    void store.db('messages').put(id, Buffer.from('nonsense'))
  })
  const service = await startService(data)
  expect((await bobbin(['spool', 'check', '--data', data])).code).toBe(1)
  const refused = await bobbin(['spool', 'repair', '--data', data])
  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(new RegExp(`^bobbin: [^\\n]*process ${service.pid}[^\\n]*\\n$`))
  const url = ['--url', service.url]
  const repair = await bobbin(['spool', 'repair', ...url])
  expect(repair.code).toBe(0)
  expect(repair.stdout.toString()).toContain('mended.meta-undecodable: 1\n')
  expect((await bobbin(['spool', 'check', '--deep', ...url])).code).toBe(0)
  const list = await bobbin(['spool', 'quarantine', 'list', '--json', ...url])
  const names = list.stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).name)
  for (const name of names) {
    expect((await bobbin(['spool', 'quarantine', 'purge', name, ...url])).code).toBe(0)
  }
  expect((await bobbin(['spool', 'quarantine', 'list', ...url])).stdout.length).toBe(0)
})

it('sheds load while the disk has too little room, and serves reads', async () => {
  const { data, ids } = await dataWith(['one'])
  const service = await startService(data, {
    BOBBIN_SPOOL_MIN_FREE: String(2 ** 52),
    BOBBIN_SPOOL_RESUME_FREE: String(2 ** 52),
  })
  const refused = await fetch(`${service.url}/v1/messages?from=&to=b@example.net`, {
    method: 'POST',
    headers: { 'content-type': 'message/rfc822' },
    body: 'x',
  })
  expect(refused.status).toBe(503)
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(((await refused.json()) as { detail: string }).detail).toContain('bytes are free')
  expect((await fetch(`${service.url}/readyz`)).status).toBe(503)
  const content = await fetch(`${service.url}/v1/messages/${ids[0]}/content`)
  expect(await content.text()).toBe('one')
  const space = await bobbin(['spool', 'space', '--json', '--url', service.url])
  const state = (await (await fetch(`${service.url}/v1/spool`)).json()) as { space: object }
  expect(Object.keys(state.space)).toEqual(['total', 'available', 'used_percent'])
  expect(Object.keys(JSON.parse(space.stdout.toString()))).toEqual(Object.keys(state.space))
})

it('backs up beside a service, below the configured root alone over REST; compacts and removes at rest', async () => {
  const { data, ids } = await dataWith(['one', 'two'])
  const root = join(data, 'backups')
  await mkdir(root)
  const service = await startService(data, { BOBBIN_SPOOL_BACKUP_ROOT: root })
  const url = ['--url', service.url]
  const made = await bobbin(['spool', 'backup', 'first', '--json', ...url])
  expect(JSON.parse(made.stdout.toString())).toMatchObject({ directory: join(root, 'first') })
  expect((await bobbin(['spool', 'backup', '../outside', ...url])).code).toBe(1)
  expect((await bobbin(['spool', 'backup', join(root, 'second'), '--data', data])).code).toBe(0)
  for (const name of ['first', 'second']) {
    expect(await checkSpool(join(root, name))).toMatchObject({ messages: 2, found: 0 })
  }
  expect((await bobbin(['spool', 'compact', '--data', data])).code).toBe(1)
  const compacted = await bobbin(['spool', 'compact', '--json', ...url])
  expect(JSON.parse(compacted.stdout.toString())).toMatchObject({ after: expect.any(Number) })
  expect((await bobbin(['spool', 'remove', ids[0] as string, '--data', data])).code).toBe(1)
  expect((await bobbin(['spool', 'remove', ids[0] as string, ...url])).code).toBe(0)
  await service.kill('SIGTERM')
  expect((await bobbin(['spool', 'compact', '--data', data])).code).toBe(0)
  expect((await bobbin(['spool', 'remove', ids[1] as string, '--data', data])).code).toBe(0)
  expect(await checkSpool(join(data, 'spool'))).toMatchObject({ messages: 0, found: 0 })

  const unconfigured = await startService(data)
  const refused = await bobbin(['spool', 'backup', 'x', '--url', unconfigured.url])
  expect(refused).toMatchObject({ code: 1 })
  expect(refused.stderr).toContain('backup_root')
})

it('salvages a file with damaged pages, and keeps it beside', async () => {
  const { data } = await dataWith(Array.from({ length: 200 }, (_, i) => String(i).repeat(3000)))
  const file = join(data, 'spool', 'data.mdb')
  const bytes = await readFile(file)
  const pages = Math.floor(bytes.length / 4096)
  for (let page = 2; page < pages; page += 9) bytes.fill(0xff, page * 4096, page * 4096 + 4096)
  await writeFile(file, bytes)
  const at = ['--data', data]
  const check = await bobbin(['spool', 'check', '--json', ...at])
  expect(check).toMatchObject({ code: 1, stderr: '' })
  expect(JSON.parse(check.stdout.toString()).counts['page-damaged']).toBeGreaterThan(0)
  const repair = await bobbin(['spool', 'repair', '--json', ...at])
  // Mended, but not all of it came back.
  expect(repair).toMatchObject({ code: 1, stderr: '' })
  const { salvage } = JSON.parse(repair.stdout.toString())
  expect((await readFile(salvage.kept)).equals(bytes)).toBe(true)
  expect(salvage.damagedPages.length).toBeGreaterThan(0)
  expect((await bobbin(['spool', 'check', '--deep', ...at])).code).toBe(0)
  const again = await bobbin(['spool', 'repair', '--json', ...at])
  expect(JSON.parse(again.stdout.toString())).toMatchObject({ salvage: null, mended: {} })
  const forced = await bobbin(['spool', 'repair', '--salvage', ...at])
  expect(forced).toMatchObject({ code: 0, stdout: expect.anything() })
  expect(forced.stdout.toString()).toContain('salvage.kept: ')
  const service = await startService(data)
  const usage = await bobbin(['spool', 'repair', '--salvage', '--url', service.url])
  expect(usage.code).toBe(2)
})

it('restores a backup into a new data directory, which is then served and logs on', async () => {
  const { data, ids } = await dataWith(['one', 'two'])
  const service = await startService(data)
  const target = await temporaryDirectory()
  const backup = join(target, 'backup')
  // What waits for its journal names a place in the old journals, which are not there then.
  const inject = (url: string) =>
    fetch(`${url}/v1/messages?from=&to=c@example.net`, {
      method: 'POST',
      headers: { 'content-type': 'message/rfc822' },
      body: 'three',
    })
  for (let i = 0; i < 5; i++) expect((await inject(service.url)).status).toBe(201)
  expect((await bobbin(['spool', 'backup', backup, '--data', data])).code).toBe(0)
  const fresh = join(target, 'data')
  const restored = await bobbin(['spool', 'restore', backup, '--json', '--data', fresh])
  expect(restored).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(restored.stdout.toString())).toMatchObject({
    directory: join(fresh, 'spool'),
    check: { messages: 7, found: 0 },
  })
  const again = await bobbin(['spool', 'restore', backup, '--data', fresh])
  expect(again.code).toBe(1)
  expect(again.stderr).toMatch(/^bobbin: [^\n]*SPOOL_ERR_EXISTS\]\n$/)
  const second = await startService(fresh)
  const content = await fetch(`${second.url}/v1/messages/${ids[0]}/content`)
  expect(await content.text()).toBe('one')
  const { ids: more } = (await (await inject(second.url)).json()) as { ids: string[] }
  await second.kill('SIGTERM')
  const log = await bobbin(['jlog', 'cat', join(fresh, 'journals', 'mainlog')])
  expect(log.stdout.toString()).toContain(more[0])
})
