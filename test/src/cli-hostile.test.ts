// What goes wrong around a command: one line that says what and where, the right status, never a stack trace.
import { execFile } from 'node:child_process'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { createJournal, openWriter } from '../../jlog/index.js'
import { bobbin, PROGRAM, temporaryDirectory } from '../support/service.js'

const run = promisify(execFile)
const JLOGCTL = PROGRAM.replace(/main\.js$/, 'jlogctl.js')

/** A line of the shell with `$1` the program and `$2` a journal of many records; its outcome. */
async function shell(line: string, program = PROGRAM): Promise<{ code: number; stderr: string }> {
  const dir = join(await temporaryDirectory(), 'j')
  await createJournal(dir)
  const writer = await openWriter(dir)
  await writer.appendBatch(Array.from({ length: 50_000 }, (_, i) => `record ${i}`))
  await writer.close()
  const argv = ['-c', `set -o pipefail; ${line}`, 'bash', program, dir]
  return run('bash', argv).then(
    ({ stderr }) => ({ code: 0, stderr }),
    ({ code, stderr }) => ({ code, stderr }),
  )
}

it('standard output on a full disk: one line, and 1', async () => {
  for (const [line, program] of [
    [`node $1 jlog cat $2 > /dev/full`],
    [`node $1 --help > /dev/full`],
    [`node $1 data -j $2 -d > /dev/full`, JLOGCTL],
  ] as const) {
    const { code, stderr } = await shell(line, program)
    expect({ line, code }).toEqual({ line, code: 1 })
    expect(stderr).toMatch(/^(bobbin|jlogctl): standard output cannot be written: ENOSPC[^\n]*\n$/)
  }
})

it('a reader that goes away is no error', async () => {
  expect(await shell('node $1 jlog cat $2 | head -1')).toEqual({ code: 0, stderr: '' })
})

it('where there is no spool none is made', async () => {
  const data = await temporaryDirectory()
  const id = '01a1fe93-8ab2-7348-94aa-13adbb08b391'
  for (const command of [['remove', id], ['quarantine', 'release', 'message-aa'], ['list']]) {
    const { code, stderr } = await bobbin(['spool', ...command, '--data', data])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^bobbin: there is no spool [^\n]*\[SPOOL_ERR_OPEN\]\n$/)
  }
  expect(await readdir(data)).toEqual([])
})

it('a service and files at once are refused, not one of them ignored', async () => {
  const data = await temporaryDirectory()
  const { code, stderr } = await bobbin([
    'spool',
    'list',
    '--data',
    data,
    '--url',
    'http://127.0.0.1:9',
  ])
  expect(stderr).toBe("bobbin: option '--url <url>' cannot be used with option '--data <dir>'\n")
  expect(code).toBe(2)
})

it('a data directory that cannot be made is told', { timeout: 20_000 }, async () => {
  // /proc takes no directories, and says that it is not there itself.
  for (const data of ['/proc/bobbin/data', '/dev/null/data']) {
    const { code, stderr } = await bobbin(['serve', '--data', data, '--listen', '127.0.0.1:0'])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^bobbin: [^\n]*cannot be made [^\n]*\[SPOOL_ERR_OPEN\]\n$/)
  }
})

it('a file that is no store is told, by the service too', async () => {
  const data = await temporaryDirectory()
  await mkdir(join(data, 'spool'))
  await writeFile(join(data, 'spool', 'data.mdb'), 'hello\n')
  for (const command of [
    ['spool', 'stats', '--data', data],
    ['serve', '--data', data, '--listen', '127.0.0.1:0'],
  ]) {
    const { code, stderr } = await bobbin(command)
    expect(code).toBe(1)
    expect(stderr).toMatch(/^bobbin: [^\n]*bobbin spool repair[^\n]*\[SPOOL_ERR_CORRUPT\]\n$/)
  }
})

it('a message that cannot be read is named', async () => {
  const dir = await temporaryDirectory()
  const envelope = [
    '--from',
    'a@example.com',
    '--to',
    'b@example.net',
    '--url',
    'http://127.0.0.1:9',
  ]
  for (const file of [dir, join(dir, 'nosuch.eml')]) {
    const { code, stderr } = await bobbin(['inject', ...envelope, file])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^bobbin: cannot read [^\n]*\n$/)
    expect(stderr).toContain(file)
  }
})
