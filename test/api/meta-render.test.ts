import { expect, it } from 'vitest'
import { renderMeta } from '../../api/index.js'
import { startApi } from '../support/api.js'

async function start() {
  const api = await startApi()
  const context = {
    conn: { 'a"<&\n': `<x> & "y"\r\n` },
    mess: { tag: 'ü\\\nid: forged', nul: '\0\u0001', '\u0002': 'v' },
  }
  const { ids } = await api.spool.swapOut({
    mailfrom: '',
    rcptto: ['b@example.net'],
    body: Buffer.from('x'),
    context,
  })
  const get = (accept?: string) =>
    api.app.inject({ url: `/v1/messages/${ids[0]}/meta`, headers: accept ? { accept } : {} })
  return { id: ids[0]!, get, context }
}

it('renders meta as JSON unless something else is asked for', async () => {
  const { get, context, id } = await start()
  for (const accept of [undefined, '*/*', 'application/json', 'text/plain;q=0.5, */*', 'x/y']) {
    const response = await get(accept)
    expect(response.headers['content-type'], accept).toContain('application/json')
    expect(response.json()).toMatchObject({ id, context, retention: null })
    expect(response.headers.etag).toBe('"1"')
  }
})

it('renders meta as text, a field a line, whatever the values hold', async () => {
  const { get, id } = await start()
  const response = await get('text/plain')
  expect(response.headers['content-type']).toContain('text/plain')
  const lines = response.payload.split('\n')
  expect(lines.filter((line) => line.startsWith('id:'))).toEqual([`id: ${id}`])
  expect(lines).toContain('retention: -')
  expect(lines).toContain('mailfrom: ')
  expect(lines).toContain('context.mess.tag: ü\\\\\\u000aid: forged')
  expect(lines).toContain('context.conn.a"<&\\u000a: <x> & "y"\\u000d\\u000a')
})

it('renders meta as XML, well-formed whatever the values hold', async () => {
  const { get, id } = await start()
  const response = await get('application/xml, text/plain;q=0.5')
  expect(response.headers['content-type']).toContain('application/xml')
  const xml = response.payload
  expect(xml).toContain(`<message id="${id}">`)
  expect(xml).toContain('<retention nil="true"/>')
  expect(xml).toContain('<rcptto>b@example.net</rcptto>')
  expect(xml).toContain(
    '<entry key="a&#34;&#60;&#38;&#10;">&#60;x&#62; &#38; &#34;y&#34;&#13;&#10;</entry>',
  )
  expect(xml).toContain('<entry key="nul" encoding="base64">AAE=</entry>')
  expect(xml).toContain('<entry key="Ag==" key-encoding="base64">v</entry>')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there.
  expect(xml).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/)
})

it('renders JSON on one line', async () => {
  const { get } = await start()
  const meta = (await get()).json()
  expect(JSON.parse(renderMeta(meta, 'json'))).toEqual(meta)
  expect(renderMeta(meta, 'json').trimEnd()).not.toContain('\n')
})
