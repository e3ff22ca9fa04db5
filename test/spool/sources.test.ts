// The formats that messages are imported from, read byte by byte: quoting, dots, envelopes, spools of former formats.
import { hash } from 'node:crypto'
import { appendFile, mkdir, open as openFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { open } from 'lmdb'
import { Packr } from 'msgpackr'
import { expect, test } from 'vitest'
import { IdGenerator } from '../../spool/message-id.js'
import { exportBlock, parseHead, readEnvelope } from '../../spool/sources/envelope-fields.js'
import { readFrom } from '../../spool/sources/files.js'
import { QUOTE, requote, UNQUOTE_O, UNQUOTE_RD } from '../../spool/sources/from-quoting.js'
import { parseQueueName, withoutStuffing } from '../../spool/sources/haraka.js'
import { MboxSource } from '../../spool/sources/mbox.js'
import { corpusMails, ownMails } from '../support/mail.js'
import { allOf, contentsOf } from './import-support.js'
import { bytes, pieces, sha256, temporaryDirectory, temporarySpool } from './support.js'

async function whole(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of source) parts.push(Uint8Array.from(part))
  return Buffer.concat(parts)
}

/** Text of the pieces that matter to the formats. */
const text = fc
  .array(
    fc.oneof(
      fc.constantFrom('From ', 'From', '>', '>>', '\n', '\r\n', '\r', '.', '..', 'x', ' ', ': '),
      fc.string({ maxLength: 4 }),
    ),
    { maxLength: 60 },
  )
  .map((parts) => Buffer.from(parts.join('')))
const size = fc.integer({ min: 1, max: 9 })

test('property: mboxrd quoting is undone exactly, wherever the pieces are cut', async () => {
  await fc.assert(
    fc.asyncProperty(text, size, size, async (body, a, b) => {
      const quoted = await whole(requote(pieces(body, a), QUOTE))
      expect(quoted.toString('latin1')).toBe(
        body.toString('latin1').replace(/(^|\n)(?=>*From )/g, '$1>'),
      )
      expect(await whole(requote(pieces(quoted, b), UNQUOTE_RD))).toEqual(body)
    }),
    { numRuns: 500 },
  )
})

test('property: mboxo takes one mark off, and only before From', async () => {
  await fc.assert(
    fc.asyncProperty(text, size, async (body, a) => {
      const unquoted = await whole(requote(pieces(body, a), UNQUOTE_O))
      expect(unquoted.toString('latin1')).toBe(
        body.toString('latin1').replace(/(^|\n)>From /g, '$1From '),
      )
    }),
    { numRuns: 300 },
  )
})

test('property: dots that SMTP doubles are taken off as its other side does', async () => {
  await fc.assert(
    fc.asyncProperty(text, size, async (body, a) => {
      const stuffed = Buffer.from(body.toString('latin1').replace(/(^|\n)(?=\.)/g, '$1.'), 'latin1')
      expect(await whole(withoutStuffing(pieces(stuffed, a)))).toEqual(body)
    }),
    { numRuns: 500 },
  )
})

test('many marks before From cost no memory of their own', async () => {
  const many = Buffer.concat([Buffer.alloc(3_000_000, '>'), Buffer.from('From x')])
  const quoted = await whole(requote(pieces(many, 65_536), QUOTE))
  expect(quoted.length).toBe(many.length + 1)
  expect((await whole(requote(pieces(quoted, 1000), UNQUOTE_RD))).equals(many)).toBe(true)
})

const address = fc.oneof(
  fc.constantFrom('', 'a@b', '"a b"@c', '<odd>@d', 'ü@ä.example', '\u2028', 'a\u2029b@c'),
  fc.string({ maxLength: 30 }),
  fc.string({ unit: 'grapheme', maxLength: 30 }),
)
// biome-ignore lint/suspicious/noControlCharactersInRegex: what no address may hold.
const isAddress = (text: string) => !/[\0-\x1f\x7f]|\p{Surrogate}/u.test(text)

test('property: what an export puts before a message comes off, with the envelope in it', async () => {
  await fc.assert(
    fc.asyncProperty(
      address.filter(isAddress),
      address.filter((to) => to !== '' && isAddress(to)),
      text,
      size,
      async (mailfrom, rcptto, body, a) => {
        const id = '019f0000-0000-7000-8000-000000000000'
        const names = { from: 'Return-Path', to: 'X-Envelope-To' }
        const block = exportBlock({ id, mailfrom, rcptto }, names, a % 2 === 0 ? '\n' : '\r\n')
        const exported = Buffer.concat([block, body])
        const read = await readEnvelope(pieces(exported, a))
        expect(read.envelope).toEqual({ id, mailfrom, rcptto: [rcptto] })
        expect(await whole(read.body)).toEqual(body)
        const twice = Buffer.concat([block, exported])
        expect(await whole((await readEnvelope(pieces(twice, a))).body)).toEqual(exported)
      },
    ),
    { numRuns: 300 },
  )
})

test.each<[string, string, { mailfrom?: string; rcptto?: string[] }]>([
  [
    'Return-Path: <a@b>\nDelivered-To: c@d\nDelivered-To: e@f\n\n',
    'lf',
    { mailfrom: 'a@b', rcptto: ['c@d'] },
  ],
  [
    'Return-Path: <>\r\nX-Envelope-To: <c@d>, <e@f>\r\nX-Envelope-To: g@h\r\n\r\n',
    'list',
    { mailfrom: '', rcptto: ['c@d', 'e@f', 'g@h'] },
  ],
  ['return-path:\n <a@b>\nENVELOPE-TO: c@d\n\n', 'folded', { mailfrom: 'a@b', rcptto: ['c@d'] }],
  [
    'X-Envelope-From: a@b (why)\nX-Original-To: c@d\n\n',
    'comment',
    { mailfrom: 'a@b', rcptto: ['c@d'] },
  ],
  ['From: a@b\nTo: c@d\n\nReturn-Path: <x@y>\n', 'header only', {}],
  [
    'Return-Path: nonsense\nX-Envelope-To: also nonsense\nDelivered-To: c@d\n\n',
    'fallback',
    { rcptto: ['c@d'] },
  ],
  ['Return-Path: <a\xff@b>\nX-Envelope-To: <>\n\n', 'bytes', {}],
  [
    'X-Bobbin-Export: 019f0000-0000-7000-8000-000000000000\nReturn-Path: <a@b>\n\n',
    'torn block',
    { mailfrom: 'a@b' },
  ],
])('the envelope in %j (%s)', (head, _what, expected) => {
  const { envelope, bodyAt } = parseHead(Buffer.from(head, 'latin1'))
  expect(bodyAt).toBe(0)
  expect(JSON.parse(JSON.stringify(envelope))).toEqual(expected)
})

test('any mail has an envelope read from it, or none, and stays as it is', async () => {
  for (const { bytes: mail } of [...(await ownMails()), ...corpusMails()]) {
    const { body } = await readEnvelope(pieces(mail, 1000))
    expect((await whole(body)).equals(mail)).toBe(true)
  }
})

test('a message of an mbox is known as the same, wherever in the file it lies', async () => {
  const path = join(await temporaryDirectory(), 'mbox')
  const SCAN = 1024 * 1024
  for (const lineEnd of ['\n', '\r\n']) {
    const second = `From b${lineEnd}second${lineEnd.repeat(2)}`
    const third = `From c${lineEnd}third`
    for (let shift = -12; shift <= 2; shift++) {
      const head = `From a${lineEnd}`
      const ends = lineEnd.repeat(2)
      const filler = 'x'.repeat(SCAN + shift - head.length - ends.length)
      const first = `${head}${filler}${ends}`
      await writeFile(path, `${first}${second}${third}`)
      const keys: string[] = []
      for await (const { key } of new MboxSource(path, 'mbox').messages()) keys.push(key)
      let at = 0
      const expected = [first, second, third].map((stretch) => {
        const key = `${at} ${hash('sha256', stretch.trimEnd())}`
        at += stretch.length
        return key
      })
      expect(keys).toEqual(expected)
    }
  }
})

test('a file that grows while it is read is read to its end', async () => {
  const path = join(await temporaryDirectory(), 'grows')
  await writeFile(path, 'first')
  const handle = await openFile(path)
  const pieces: Buffer[] = []
  for await (const piece of readFrom(handle, 0)) {
    if (pieces.length === 0) await appendFile(path, 'x'.repeat(100_000))
    pieces.push(piece)
  }
  await handle.close()
  expect(Buffer.concat(pieces)).toHaveLength(100_005)
  expect(pieces.length).toBeLessThan(150)
})

test('names of queue files', () => {
  const now = parseQueueName('1507509981169_1507509999999_3_61403_e0Y0Ym_1_mail.example.com')
  expect(now).toEqual({
    key: '1507509981169_e0Y0Ym_mail.example.com',
    arrival: 1_507_509_981_169,
    due: 1_507_509_999_999,
    attempts: 3,
  })
  const old = parseQueueName('1484878079415_0_12345_8888.mta1.example.com')
  expect(old).toEqual({
    key: '12345_8888.mta1.example.com',
    arrival: undefined,
    due: 1_484_878_079_415,
    attempts: 0,
  })
  for (const name of ['', 'zero-length', '1_2_3', 'a_1_2_3_x_4_h', '1_2_3_4_5_6_7_8']) {
    expect(parseQueueName(name)).toBeUndefined()
  }
})

test('a spool of format 1 is imported, and only read', async () => {
  const directory = await temporaryDirectory()
  const path = join(directory, 'former')
  await mkdir(path)
  const packr = new Packr({ useRecords: false })
  const binary = { encoding: 'binary', keyEncoding: 'binary' } as const
  const root = open<Buffer, Buffer>({ path, maxDbs: 32, noSubdir: false, ...binary })
  const db = (name: string) => root.openDB<Buffer, Buffer>(name, binary)
  const body = bytes(40_000)
  const ids = new IdGenerator()
  const first = ids.next()
  const record = (rcptto: string, digest: string) => {
    const header = Buffer.alloc(56)
    header[0] = 1
    header[1] = 1
    header.writeUIntBE(body.length, 2, 6)
    header.set(first, 8)
    header.set(Buffer.from(digest, 'hex'), 24)
    const fields = ['a@example.org', rcptto, 1000, 5000, 2, 7, 'batch', 'conn', 'esmtp', 'g', 'b']
    const rest = [null, '192.0.2.1', ['ip', '::1'], []]
    return Buffer.concat([header, packr.pack([...fields, ...rest])])
  }
  const second = ids.next()
  await root.batch(() => {
    void db('state').put(Buffer.from('format'), packr.pack(1))
    void db('messages').put(first, record('one@example.com', sha256(body)))
    void db('messages').put(second, record('two@example.com', sha256(body)))
    void db('messages').put(ids.next(), Buffer.from('nonsense'))
    void db('messages').put(ids.next(), record('wrong@example.com', sha256(Buffer.alloc(1))))
    for (let n = 0; n * 16_000 < body.length; n++) {
      const key = Buffer.concat([first, Buffer.from([0, 0, 0, n])])
      void db('chunks').put(key, body.subarray(n * 16_000, (n + 1) * 16_000))
    }
  })
  await root.close()
  const spool = await temporarySpool({ path: join(directory, 'target') })
  await expect(spool.importFrom(path, { remove: true })).rejects.toMatchObject({
    code: 'SPOOL_ERR_INVALID',
    field: 'remove',
  })
  const report = await spool.importFrom(path, { suppressTrace: true, concurrency: 1 })
  expect(report).toMatchObject({ format: 'spool', imported: 2, failed: 2 })
  expect(report.results).toEqual({ 1: 2, 2: 1, 3: 1, 4: 0 })
  const expected = body.toString('latin1')
  const contents = await contentsOf(spool)
  expect(contents['one@example.com'] === expected && contents['two@example.com'] === expected).toBe(
    true,
  )
  expect((await spool.stats()).bodies).toBe(1)
  expect((await allOf(spool))[0]).toMatchObject({
    mailfrom: 'a@example.org',
    created: 1000,
    nextAttempt: 5000,
    retries: 2,
    state: 'deferred',
    batchId: 'batch',
    peer: '192.0.2.1',
    context: { conn: { ip: '::1' }, mess: {} },
  })
})
