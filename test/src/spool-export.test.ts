// bobbin spool export, as a user runs it: at rest and from a running service, and the way back.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openSpool } from '../../spool/index.js'
import { bobbin, startService, temporaryDirectory } from '../support/service.js'

it('at rest, over --url, and back', async () => {
  const data = await temporaryDirectory()
  const spool = await openSpool({ path: join(data, 'spool') })
  const ids: string[] = []
  for (const to of ['a@one.example', 'b@two.example']) {
    const body = Buffer.from(`Subject: ${to}\r\n\r\nFrom here\r\n`)
    ids.push(...(await spool.swapOut({ mailfrom: '', rcptto: [to], body })).ids)
  }
  await spool.close()
  const out = await temporaryDirectory()
  const at = ['--data', data]
  const box = join(out, 'box')
  const first = await bobbin(['spool', 'export', box, '--format', 'mbox', ...at])
  expect(first).toMatchObject({ code: 0, stderr: '' })
  expect(first.stdout.toString()).toContain('exported: 2\n')
  const mbox = await readFile(join(box, 'messages.mbox'), 'latin1')
  expect(mbox).toMatch(
    /^From MAILER-DAEMON \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\nX-Bobbin-Export: /,
  )
  expect(mbox).toContain('\r\n>From here\r\n')
  const again = await bobbin(['spool', 'export', box, '--format', 'mbox', ...at])
  expect(again.code).toBe(1)
  expect(again.stderr).toMatch(/^bobbin: [^\n]*\[SPOOL_ERR_EXISTS\]\n$/)
  expect((await bobbin(['spool', 'export', box, ...at])).code).toBe(2)

  const service = await startService(data)
  const eml = join(out, 'eml')
  const options = ['--format', 'eml', '--domain', 'two.example', '--json', '--to-header', 'X-To']
  const over = await bobbin(['spool', 'export', eml, ...options, '--url', service.url])
  expect(over).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(over.stdout.toString())).toMatchObject({ exported: 1, skipped: 0, failed: 0 })
  expect(await readdir(eml)).toEqual([`${ids[1]}.eml`])
  expect(await readFile(join(eml, `${ids[1]}.eml`), 'latin1')).toBe(
    `X-Bobbin-Export: ${ids[1]}\r\nReturn-Path: <>\r\nX-To: <b@two.example>\r\nSubject: b@two.example\r\n\r\nFrom here\r\n`,
  )
  const gone = ['--format', 'eml', '--id', '019f0000-0000-7000-8000-000000000000', '--json']
  const none = await bobbin(['spool', 'export', eml, ...gone, '--url', service.url])
  expect(JSON.parse(none.stdout.toString())).toMatchObject({ exported: 0, skipped: 1 })

  const other = ['--data', join(out, 'data')]
  const back = join(box, 'messages.mbox')
  expect((await bobbin(['spool', 'import', back, '--suppress-trace', ...other])).code).toBe(0)
  const content = await bobbin(['spool', 'cat', ids[0] as string, ...other])
  expect(content.stdout.toString()).toBe('Subject: a@one.example\r\n\r\nFrom here\r\n')
})
