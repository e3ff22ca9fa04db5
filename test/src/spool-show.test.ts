import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openSpool } from '../../spool/index.js'

import { bobbin, temporaryDirectory } from '../support/service.js'

it('shows the meta of a message as text, JSON or XML', async () => {
  const data = await temporaryDirectory()
  const spool = await openSpool({ path: join(data, 'spool') })
  const context = { mess: { key: 'a\nb' } }
  const { ids } = await spool.swapOut({
    mailfrom: '',
    rcptto: ['b@example.net'],
    body: Buffer.from('x'),
    context,
  })
  await spool.close()
  const show = (...options: string[]) =>
    bobbin(['spool', 'show', ids[0]!, '--data', data, ...options])
  const text = await show()
  expect(text).toMatchObject({ code: 0, stderr: '' })
  expect(text.stdout.toString()).toContain('\ncontext.mess.key: a\\u000ab\n')
  expect((await show('--format', 'text')).stdout).toEqual(text.stdout)
  const json = await show('--format', 'json')
  expect(JSON.parse(json.stdout.toString())).toMatchObject({ id: ids[0], context })
  expect((await show('--json')).stdout).toEqual(json.stdout)
  const xml = await show('--format', 'xml')
  expect(xml.stdout.toString()).toContain('<entry key="key">a&#10;b</entry>')
  const wrong = await show('--format', 'yaml')
  expect(wrong.code).toBe(2)
  expect(wrong.stderr).toMatch(/^[^\n]*yaml[^\n]*\n$/)
})
