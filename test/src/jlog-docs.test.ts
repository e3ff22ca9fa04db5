/** docs/jlog.md: what it shows works as it is shown, and it tells what to do about every error. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { JLOG_ERROR_CODES, openWriter } from '../../jlog/index.js'
import { jlogctl } from '../../src/jlogctl/run.js'
import { jlog } from '../support/jlog-command.js'

const page = await readFile(fileURLToPath(new URL('../../docs/jlog.md', import.meta.url)), 'utf8')

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'bobbin-docs-'))
})
afterAll(() => rm(root, { recursive: true }))

test('every command of the page does what it is for', async () => {
  const lines = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) =>
    block!.trim().split('\n'),
  )
  expect(lines.length).toBeGreaterThan(20)
  const done: string[] = []
  for (const line of lines) {
    const [tool, ...words] = line.replace(/\s#.*/, '').trim().split(/ +/)
    const args = words.map((word) => (word.startsWith('./') ? join(root, word) : word))
    if (tool === 'printf') {
      // Standard input is for a process; see the tests of append.
      const writer = await openWriter(join(root, 'mail.jlog'))
      await writer.appendBatch(['one', 'two', 'three'])
      await writer.close()
    } else if (tool === 'bobbin' && args[1] !== 'tail') {
      expect(await jlog(...args.slice(1)), line).toMatchObject({ code: 0, stderr: '' })
      done.push(args[1]!)
    } else if (tool === 'jlogctl') {
      const io = { out: async () => {}, err: async (text: string) => expect(text).toBe('') }
      expect(await jlogctl(args, io), line).toBe(0)
      done.push(tool)
    }
  }
  const all = 'create info cat inspect repair clean alter subscriber sanity endian jlogctl'
  expect(all.split(' ').filter((name) => !done.includes(name))).toEqual([])
})

test('every error code is in the table', () => {
  const table = page.slice(page.indexOf('## Errors'))
  const missing = JLOG_ERROR_CODES.filter(
    (code) => !table.includes(`\`${code.slice('JLOG_ERR_'.length)}\``),
  )
  expect(missing).toEqual([])
})
