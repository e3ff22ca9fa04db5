import { expect, it } from 'vitest'
import { startApi } from '../support/api.js'
import { ownMails } from '../support/mail.js'

async function start(body: Buffer) {
  const api = await startApi()
  const { ids } = await api.spool.swapOut({ mailfrom: '', rcptto: ['b@example.net'], body })
  const get = (part: string, headers = {}) =>
    api.app.inject({ url: `/v1/messages/${ids[0]}/content?part=${part}`, headers })
  return { api, id: ids[0]!, get }
}

it('gives the header of a message alone', async () => {
  const { get } = await start(Buffer.from('Subject: x\r\nTo: y\r\n\r\nbody\r\n'))
  const response = await get('headers')
  expect(response.statusCode).toBe(200)
  expect(response.headers['content-type']).toContain('text/rfc822-headers')
  expect(response.headers['content-length']).toBe('19')
  expect(response.payload).toBe('Subject: x\r\nTo: y\r\n')
  const known = await get('headers', { 'if-none-match': response.headers.etag })
  expect(known.statusCode).toBe(304)
})

it('gives the tree of its parts', async () => {
  const mail = (await ownMails()).find(({ name }) => name === 'attachments')!
  const { get } = await start(mail.bytes)
  const response = await get('mime-structure')
  expect(response.statusCode).toBe(200)
  const { root, defects, size } = response.json()
  expect(size).toBe(mail.bytes.length)
  expect(defects).toEqual([])
  expect(root).toMatchObject({ path: '1', type: 'multipart/mixed', header_offset: 0 })
  expect(root.parts).toMatchObject([
    { path: '1.1', type: 'text/plain', filename: null, parts: [] },
    { path: '1.2', encoding: 'base64', disposition: 'attachment', filename: 'a.bin' },
    { path: '1.3', filename: 'ünïcode name.txt' },
  ])
  const { offset, length } = root.parts[1]
  const body = mail.bytes.subarray(offset, offset + length).toString()
  expect(Buffer.from(body, 'base64')).toHaveLength(3000)
  const known = await get('mime-structure', { 'if-none-match': response.headers.etag })
  expect(known.statusCode).toBe(304)
})

it('has defects for malformed mail, and errors for none', async () => {
  for (const { name, bytes } of await ownMails()) {
    const { get } = await start(bytes)
    for (const part of ['headers', 'mime-structure']) {
      expect((await get(part)).statusCode, `${name}: ${part}`).toBe(200)
    }
  }
}, 30_000)

it('refuses a part it does not know, and knows no message that is not there', async () => {
  const { api, get } = await start(Buffer.from('x'))
  expect((await get('body')).statusCode).toBe(400)
  const url = '/v1/messages/019a0000-0000-7000-8000-000000000000/content?part='
  expect((await api.app.inject({ url: `${url}headers` })).statusCode).toBe(404)
  expect((await api.app.inject({ url: `${url}mime-structure` })).statusCode).toBe(404)
})
