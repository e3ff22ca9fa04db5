// bobbin spool import, as a user runs it: at rest with its records in the journal, and against a running service.
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { mail, writeAll } from '../spool/import-support.js'
import { bobbin, startService, temporaryDirectory } from '../support/service.js'

async function maildir(directory: string): Promise<string> {
  return writeAll(join(directory, 'Maildir'), {
    'new/1.a': mail('one@example.com'),
    'new/2.b': 'Subject: no envelope\n\n',
    'cur/3.c:2,S': mail('three@example.com'),
  })
}

async function recordsIn(data: string): Promise<{ original_id: string; result: number }[]> {
  const { stdout } = await bobbin(['jlog', 'cat', join(data, 'journals', 'importlog')])
  const lines = stdout.toString().split('\n')
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line))
}

it('at rest: imports, logs, says what failed, and goes on when it is run again', async () => {
  const data = await temporaryDirectory()
  const source = await maildir(data)
  const at = ['--data', join(data, 'data')]
  const first = await bobbin(['spool', 'import', source, ...at])
  expect(first.code).toBe(1)
  expect(first.stderr).toBe('')
  expect(first.stdout.toString()).toMatch(/^failed: 2\.b: [^\n]*sender[^\n]*\(result 2\)\n/)
  expect(first.stdout.toString()).toContain('imported: 2\n')
  const records = await recordsIn(join(data, 'data'))
  expect(records.map(({ original_id, result }) => [original_id, result]).toSorted()).toEqual([
    ['1.a', 1],
    ['2.b', 2],
    ['3.c', 1],
  ])
  const options = [
    '--from',
    '',
    '--to',
    'x@example.com',
    '--remove',
    '--json',
    '--concurrency',
    '2',
  ]
  const second = await bobbin(['spool', 'import', source, ...options, ...at])
  expect(second).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(second.stdout.toString())).toMatchObject({
    format: 'maildir',
    imported: 1,
    already: 2,
    removed: 3,
    results: { 1: 1, 2: 0, 3: 0, 4: 0 },
  })
  expect(await readdir(join(source, 'new'))).toEqual([])
  expect((await recordsIn(join(data, 'data'))).length).toBe(4)
  const list = await bobbin(['spool', 'list', ...at])
  expect(list.stdout.toString()).toContain('<> -> <x@example.com>')
  for (const wrong of [
    ['--keep', '--remove'],
    ['--format', 'zip'],
    ['--concurrency', 'many'],
  ]) {
    expect((await bobbin(['spool', 'import', source, ...wrong, ...at])).code).toBe(2)
  }
  const missing = await bobbin(['spool', 'import', join(data, 'none'), ...at])
  expect(missing.code).toBe(1)
  expect(missing.stderr).toMatch(/^bobbin: [^\n]*\[SPOOL_ERR_OPEN\]\n$/)
})

it('names of a source cannot forge lines, nor move the cursor', async () => {
  const data = await temporaryDirectory()
  const source = join(data, 'eml')
  await writeAll(source, { 'a\ntotal: 7\n.eml': 'no envelope', '\u001b[2J.eml': 'no envelope' })
  const at = ['--data', join(data, 'data')]
  const { stdout, code } = await bobbin(['spool', 'import', source, ...at])
  expect(code).toBe(1)
  const text = stdout.toString()
  expect(text).toContain('failed: a\\u000atotal: 7\\u000a.eml: its sender')
  expect(text).toContain('failed: \\u001b[2J.eml: its sender')
  expect(text.match(/^total: /gm)).toHaveLength(1)
  const missing = await bobbin(['spool', 'import', join(source, '\u001b[2J\nx'), ...at])
  expect(missing.stderr).toMatch(/^bobbin: \P{Cc}*\[SPOOL_ERR_OPEN\]\n$/u)
})

it('over --url below the configured root, by the settings of the service', async () => {
  const data = await temporaryDirectory()
  const root = join(data, 'root')
  await mkdir(root)
  await maildir(root)
  const service = await startService(join(data, 'data'), {
    BOBBIN_SPOOL_IMPORT_ROOT: root,
    BOBBIN_EVENTS_FORMAT: 'ec',
  })
  const url = ['--url', service.url]
  const done = await bobbin(['spool', 'import', 'Maildir', '--json', '--suppress-trace', ...url])
  expect(done).toMatchObject({ code: 1, stderr: '' })
  expect(JSON.parse(done.stdout.toString())).toMatchObject({
    source: join(root, 'Maildir'),
    imported: 2,
    failures: [{ original_id: '2.b', result: 2 }],
  })
  const outside = await bobbin(['spool', 'import', data, ...url])
  expect(outside.stderr).toMatch(/^bobbin: [^\n]*\[PATH_OUTSIDE_ROOT\]\n$/)
  // A spool that is served is not imported, nor written to.
  const refused = await bobbin(['spool', 'import', join(data, 'data'), '--data', join(data, 'b')])
  expect(refused.stderr).toContain(`process ${service.pid}`)
  await service.kill('SIGTERM')
  const log = await bobbin(['jlog', 'cat', join(data, 'data', 'journals', 'importlog')])
  const lines = log.stdout.toString().trim().split('\n').toSorted()
  expect(lines.map((line) => line.split('@').slice(1, 5).toSpliced(2, 1)).toSorted()).toEqual([
    ['1.a', 'I', '1'],
    ['2.b', 'I', '2'],
    ['3.c', 'I', '1'],
  ])
})
