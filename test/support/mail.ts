/**
 * Mail to test with: the project's own (composed with a library, and malformed by hand), and the corpus beside the
 * project where it is found.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import MailComposer from 'nodemailer/lib/mail-composer/index.js'

export interface SampleMail {
  readonly name: string
  readonly bytes: Buffer
}

const CORPUS = fileURLToPath(new URL('../../../shared/corpus/', import.meta.url))

/** Real mail; empty where the corpus is not beside the project. */
export function corpusMails(): SampleMail[] {
  if (!existsSync(CORPUS)) return []
  return readdirSync(CORPUS)
    .filter((name) => name.endsWith('.eml'))
    .map((name) => ({ name, bytes: readFileSync(CORPUS + name) }))
}

export async function ownMails(): Promise<SampleMail[]> {
  return [...(await composed()), ...malformed()]
}

async function composed(): Promise<SampleMail[]> {
  const base = {
    from: 'Sender <sender@example.com>',
    to: 'Rcpt <rcpt@example.net>',
    date: new Date(0),
    messageId: '<1@example.com>',
  }
  const mails = {
    'text only': { ...base, subject: 'Plain', text: 'Hello\nWorld\n' },
    alternatives: { ...base, subject: 'Both', text: 'Hello', html: '<p>Hello</p>' },
    attachments: {
      ...base,
      subject: 'Files',
      text: 'See below',
      attachments: [
        {
          filename: 'a.bin',
          content: Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 7) & 0xff)),
        },
        { filename: 'ünïcode name.txt', content: 'text' },
      ],
    },
    'utf-8 headers': { ...base, subject: 'Grüße aus Köln, 你好', text: 'ÄÖÜ' },
  }
  return Promise.all(
    Object.entries(mails).map(async ([name, mail]) => ({
      name,
      bytes: await new MailComposer({ ...mail, baseBoundary: 'boundary' }).compile().build(),
    })),
  )
}

function malformed(): SampleMail[] {
  const head = 'From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\n'
  const latin1 = (text: string) => Buffer.from(text, 'latin1')
  return [
    { name: 'empty', bytes: Buffer.alloc(0) },
    { name: 'one byte', bytes: latin1('x') },
    { name: '8-bit without a charset', bytes: latin1(`${head}\r\nGr\xfc\xdfe \xe9\xff\x80\r\n`) },
    { name: 'bare LF', bytes: latin1(`${head.replaceAll('\r\n', '\n')}\nline\nline\n`) },
    { name: 'bare CR', bytes: latin1(`${head.replaceAll('\r\n', '\r')}\rline\rline\r`) },
    { name: 'mixed line ends', bytes: latin1(`${head}\r\nunix\nmac\rdos\r\n\r\r\n\n`) },
    { name: 'NULs', bytes: latin1(`${head}\r\nbe\0fore\0\0after\r\n\0`) },
    { name: 'no headers', bytes: latin1('\r\njust a body\r\n') },
    { name: 'no body', bytes: latin1(head) },
    { name: 'no end of line', bytes: latin1(`${head}\r\nlast line`) },
    { name: 'dots', bytes: latin1(`${head}\r\n.\r\n..\r\n.leading\r\n`) },
    {
      name: 'a header of 1 MiB',
      bytes: latin1(`${head}X-Long: ${'y'.repeat(1024 * 1024)}\r\n\r\nbody\r\n`),
    },
    { name: '2,000 MIME parts', bytes: latin1(manyParts(2000)) },
    {
      name: 'a boundary that never comes',
      bytes: latin1(`${head}Content-Type: multipart/mixed; boundary="b"\r\n\r\nno parts\r\n`),
    },
  ]
}

function manyParts(count: number): string {
  const part = '--b\r\nContent-Type: text/plain\r\n\r\npart\r\n'
  return `From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n${part.repeat(count)}--b--\r\n`
}
