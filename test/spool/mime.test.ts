// The MIME structure of whatever bytes: offsets, header values, defects, limits.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type MimePart, MimeScanner, type MimeStructure } from '../../spool/mime.js'
import { corpusMails, ownMails, type SampleMail } from '../support/mail.js'
import { codeOf, message, temporarySpool } from './support.js'

function scan(mail: Buffer | string, piece = 65_536): MimeStructure {
  const bytes = typeof mail === 'string' ? Buffer.from(mail, 'latin1') : mail
  const scanner = new MimeScanner()
  for (let at = 0; at < bytes.length; at += piece) scanner.push(bytes.subarray(at, at + piece))
  return scanner.finish()
}

function* walk(part: MimePart): Generator<MimePart> {
  yield part
  for (const child of part.parts) yield* walk(child)
}

/** Every offset is within the bytes and within the part above, in order. */
function expectWithin(bytes: Buffer, { root, defects }: MimeStructure): void {
  expect(root.headerOffset).toBe(0)
  expect(root.offset + root.length).toBeLessThanOrEqual(bytes.length)
  for (const part of walk(root)) {
    expect(part.headerLength).toBeGreaterThanOrEqual(0)
    expect(part.length).toBeGreaterThanOrEqual(0)
    expect(part.headerOffset + part.headerLength).toBeLessThanOrEqual(part.offset)
    let at = part.offset
    for (const child of part.parts) {
      expect(child.headerOffset).toBeGreaterThanOrEqual(at)
      at = child.offset + child.length
    }
    if (part.parts.length > 0) expect(at).toBeLessThanOrEqual(part.offset + part.length)
  }
  for (const { offset } of defects) expect(offset).toBeLessThanOrEqual(bytes.length)
}

const outline = ({ root }: MimeStructure) =>
  [...walk(root)].map(({ path, type }) => `${path} ${type}`)
const bodyOf = (mail: string, part: MimePart | undefined) =>
  mail.slice(part!.offset, part!.offset + part!.length)
const defectsOf = ({ defects }: MimeStructure) => defects.map(({ defect }) => defect)

const MIXED = [
  'Subject: two parts',
  'Content-Type: multipart/mixed; boundary="b 1"',
  '',
  'preamble',
  '--b 1',
  '',
  'first',
  '',
  '--b 1  ',
  'Content-Type: text/html; charset=UTF-8; name="=?utf-8?q?=C3=BC.html?="',
  'Content-Transfer-Encoding: Quoted-Printable',
  '',
  '<p>',
  '--b 1--',
  'epilogue',
  '',
]

describe('a multipart', () => {
  test.each(['\r\n', '\n'])('has its parts where they are, with line ends %j', (end) => {
    const mail = MIXED.join(end)
    const structure = scan(mail)
    expect(outline(structure)).toEqual(['1 multipart/mixed', '1.1 text/plain', '1.2 text/html'])
    const [first, second] = structure.root.parts
    expect(bodyOf(mail, first)).toBe(`first${end}`)
    expect(bodyOf(mail, second)).toBe('<p>')
    expect(second).toMatchObject({
      charset: 'utf-8',
      encoding: 'quoted-printable',
      filename: 'ü.html',
      disposition: null,
    })
    const header = mail.slice(second!.headerOffset, second!.headerOffset + second!.headerLength)
    expect(header).toBe(`${MIXED.slice(9, 11).join(end)}${end}`)
    expect(bodyOf(mail, structure.root)).toBe(MIXED.slice(3).join(end))
    expect(structure.defects).toEqual([])
    for (const piece of [1, 2, 3, 7]) expect(scan(mail, piece)).toEqual(structure)
  })

  test('within a message within a multipart is a tree', () => {
    const inner = MIXED.join('\r\n').replaceAll('b 1', 'inner')
    const mail = `Content-Type: multipart/digest; boundary=outer\r\n\r\n--outer\r\n\r\n${inner}\r\n--outer\r\nContent-Type: text/plain\r\n\r\nx\r\n--outer--\r\n`
    const structure = scan(mail)
    expect(outline(structure)).toEqual([
      '1 multipart/digest',
      '1.1 message/rfc822',
      '1.1.1 multipart/mixed',
      '1.1.1.1 text/plain',
      '1.1.1.2 text/html',
      '1.2 text/plain',
    ])
    const [attached] = structure.root.parts
    expect(bodyOf(mail, attached)).toBe(inner)
    expect(structure.defects).toEqual([])
  })

  test.each([
    ['no boundary', 'multipart/mixed', ['boundary-missing'], 1],
    ['a boundary that never comes', 'multipart/mixed; boundary=x', ['boundary-never-came'], 1],
    [
      'an encoding',
      'multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64',
      ['composite-encoded'],
      3,
    ],
    [
      'a type twice',
      'multipart/mixed; boundary=b\r\nContent-Type: text/plain',
      ['duplicate-field'],
      3,
    ],
    [
      'an unknown encoding',
      'multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: x-none',
      ['unknown-encoding'],
      3,
    ],
    ['no type', 'nonsense; boundary=b', ['malformed-content-type'], 1],
  ])('with %s is told of', (_what, type, defects, parts) => {
    const structure = scan(`Content-Type: ${type}\r\n\r\n--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n`)
    expect(defectsOf(structure)).toEqual(defects)
    expect(outline(structure)).toHaveLength(parts)
  })

  test('that is cut off ends with the message', () => {
    const mail = 'Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n\nda'
    const structure = scan(mail)
    expect(bodyOf(mail, structure.root.parts[0])).toBe('da')
    expect(defectsOf(structure)).toEqual(['boundary-not-closed'])
    const inHeader = scan(mail.slice(0, -6))
    expect(defectsOf(inHeader)).toContain('header-not-ended')
  })

  test('closes the multiparts within that were not closed', () => {
    const nested = 'Content-Type: multipart/mixed; boundary=in\n\n--in\n\nx\n'
    const mail = `Content-Type: multipart/mixed; boundary=out\n\n--out\n${nested}--out\n\ny\n--out--\n`
    const structure = scan(mail)
    expect(outline(structure)).toEqual([
      '1 multipart/mixed',
      '1.1 multipart/mixed',
      '1.1.1 text/plain',
      '1.2 text/plain',
    ])
    expect(structure.defects).toMatchObject([{ defect: 'boundary-not-closed', path: '1.1' }])
  })

  test.each([
    ['longer', '--bx'],
    ['with text before', 'x--b'],
    ['with text after', '--b x'],
    ['with one dash', '-b'],
    ['half closed', '--b-'],
  ])('is not parted by a line that is %s', (_what, line) => {
    const mail = `Content-Type: multipart/mixed; boundary=b\n\n--b\n\n1\n${line}\n2\n--b--\n`
    expect(bodyOf(mail, scan(mail).root.parts[0])).toBe(`1\n${line}\n2`)
  })

  test('has its boundary apart from that of one within that begins the same', () => {
    const mail =
      'Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary="b--"\n\n--b--\n\nx\n--b----\n--b--\n'
    expect(outline(scan(mail))).toEqual([
      '1 multipart/mixed',
      '1.1 multipart/mixed',
      '1.1.1 text/plain',
    ])
  })
})

describe('a header', () => {
  test.each([
    ['attachment; filename="a b.txt"', 'a b.txt'],
    ['attachment; filename=a.txt', 'a.txt'],
    ["attachment; filename*=utf-8''%e2%82%ac%20rates", '€ rates'],
    ["attachment; filename*0*=iso-8859-1''%fc; filename*1=.txt", 'ü.txt'],
    ['attachment; filename="=?iso-8859-1?Q?=FC?= =?utf-8?B?w7w=?="', 'üü'],
    ['attachment;\r\n filename="folded.txt"', 'folded.txt'],
    ['attachment; filename="\xc3\xbc.txt"', 'ü.txt'],
    ['attachment; filename="\xfc.txt"', 'ü.txt'],
    ["attachment; __PROTO__*0*=utf-8''x; filename=a.txt", 'a.txt'],
  ])('%j names the file', (disposition, filename) => {
    const { root } = scan(`Content-Disposition: ${disposition}\r\n\r\n`)
    expect(root).toMatchObject({ disposition: 'attachment', filename })
    expect('charset' in {}).toBe(false)
  })

  test('that does not end with an empty line ends where the body begins', () => {
    const mail = 'Subject: x\r\nno field\r\nmore\r\n'
    const structure = scan(mail)
    expect(structure.root).toMatchObject({ headerLength: 12, offset: 12, length: 16 })
    expect(defectsOf(structure)).toEqual(['header-not-ended'])
  })

  test('of 1 MiB, of a field over what is looked at, after an mbox line', () => {
    const long = `Content-Type: text/html; x="${'y'.repeat(1024 * 1024)}"\r\n\r\nbody`
    const structure = scan(long, 1000)
    expect(structure.root).toMatchObject({ type: 'text/html', length: 4 })
    expect(defectsOf(structure)).toEqual(['field-too-long'])
    const folded = `Content-Type: text/html${';\r\n x=y'.repeat(200_000)}\r\n\r\nbody`
    expect(scan(folded).root).toMatchObject({ type: 'text/html', length: 4 })
    const mbox = scan('From a@example.com Thu Jan 1\r\nContent-Type: text/html\r\n\r\nbody')
    expect(mbox.root).toMatchObject({ type: 'text/html', headerOffset: 0, length: 4 })
  })
})

describe('a bomb', () => {
  test('of nested multiparts ends at a depth', () => {
    const levels = Array.from(
      { length: 5000 },
      (_, i) => `Content-Type: multipart/mixed; boundary=b${i}\n\n--b${i}\n`,
    )
    const structure = scan(levels.join(''))
    expect(outline(structure)).toHaveLength(100)
    expect(defectsOf(structure)).toContain('too-deep')
  })

  test('of nested messages ends at a depth', () => {
    const structure = scan('Content-Type: message/rfc822\n\n'.repeat(5000))
    expect(outline(structure)).toHaveLength(100)
  })

  test('of parts ends at a number, and its defects do', () => {
    const part = '--b\nContent-Type: x\n\n'
    const structure = scan(`Content-Type: multipart/mixed; boundary=b\n\n${part.repeat(30_000)}`)
    expect(outline(structure)).toHaveLength(10_000)
    expect(structure.defects).toHaveLength(1001)
    expect(structure.defects.at(-1)!.defect).toBe('more-defects')
  })
})

test('of every mail there is a tree', async () => {
  const mails: SampleMail[] = [...(await ownMails()), ...corpusMails()]
  for (const { name, bytes } of mails) {
    const structure = scan(bytes)
    expectWithin(bytes, structure)
    expect(scan(bytes, 777), name).toEqual(structure)
  }
  const many = mails.find(({ name }) => name === '2,000 MIME parts')!
  expect(scan(many.bytes).root.parts).toHaveLength(2000)
  const attachments = scan(mails.find(({ name }) => name === 'attachments')!.bytes)
  expect([...walk(attachments.root)].map(({ filename }) => filename)).toEqual([
    null,
    null,
    'a.bin',
    'ünïcode name.txt',
  ])
  expect(attachments.defects).toEqual([])
})

test('of any bytes in any pieces there is a tree whose offsets lie within them', () => {
  const line = fc.constantFrom(
    '--a',
    '--a--',
    '--b',
    '--b--',
    '--',
    '',
    ' x',
    ':',
    'text',
    '\0\xff',
    'Content-Type: multipart/mixed; boundary=a',
    'Content-Type: multipart/alternative; boundary="b"',
    'Content-Type: message/rfc822',
    'Content-Type: multipart/digest; boundary=a',
    'Content-Disposition: attachment; filename*0*=x',
    'Content-Transfer-Encoding: base64',
  )
  const end = fc.constantFrom('\n', '\r\n', '\r', '')
  const mailLike = fc
    .array(fc.tuple(line, end), { maxLength: 40 })
    .map((lines) => Buffer.from(lines.flat().join(''), 'latin1'))
  const anything = fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes))
  fc.assert(
    fc.property(fc.oneof(mailLike, anything), fc.integer({ min: 1, max: 50 }), (bytes, piece) => {
      const structure = scan(bytes)
      expectWithin(bytes, structure)
      expect(scan(bytes, piece)).toEqual(structure)
    }),
    { numRuns: 2000 },
  )
})

describe('a stored message', () => {
  test('gives its header alone and its structure, small or large', async () => {
    const spool = await temporarySpool({ largeMessageThreshold: 20_000 })
    for (const size of [10, 30_000, 300_000]) {
      const head = `Subject: x\r\nX-Long: ${'y'.repeat(size)}\r\n`
      const { ids } = await spool.swapOut(message(`${head}\r\n${'z'.repeat(size)}`))
      const headers = await spool.swapInHeaders(ids[0]!)
      expect((await headers.buffer()).toString()).toBe(head)
      const { root, size: whole } = await spool.swapInStructure(ids[0]!)
      expect(root).toMatchObject({ headerLength: head.length, length: size })
      expect(whole).toBe(head.length + 2 + size)
    }
    for (const text of ['', 'x', 'Subject: no end', '\r\nbody']) {
      const { ids } = await spool.swapOut(message(text))
      const headers = await (await spool.swapInHeaders(ids[0]!)).buffer()
      expect(headers.toString()).toBe(text.startsWith('S') ? text : '')
    }
  })

  test('whose content was dropped has neither', async () => {
    const spool = await temporarySpool()
    const { ids } = await spool.swapOut(message('Subject: x\r\n\r\n'))
    await spool.swapRemoveContent(ids[0]!)
    expect(await codeOf(spool.swapInHeaders(ids[0]!))).toBe('SPOOL_ERR_NOT_FOUND')
    expect(await codeOf(spool.swapInStructure(ids[0]!))).toBe('SPOOL_ERR_NOT_FOUND')
  })
})
