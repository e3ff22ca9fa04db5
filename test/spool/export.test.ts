// Export and back: contents byte for byte, envelopes, ids; what is there is never written over; it goes on.
import { appendFile, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  EXPORT_FORMATS,
  type ExportFormat,
  type ExportOptions,
  type ExportSource,
  exportMessages,
  exportSource,
  type NewMessage,
  type Spool,
} from '../../spool/index.js'
import { Store } from '../../spool/store.js'
import { corpusMails, ownMails } from '../support/mail.js'
import { allOf } from './import-support.js'
import { bodyOf, bytes, message, temporaryDirectory, temporarySpool } from './support.js'

/** In an mbox a message ends with its line. */
function asExported(body: Buffer, format: ExportFormat): Buffer {
  const isEnded = format !== 'mbox' || body.length === 0 || body.at(-1) === 0x0a
  return isEnded ? body : Buffer.concat([body, Buffer.from('\n')])
}

async function expectSame(from: Spool, to: Spool, format: ExportFormat): Promise<void> {
  const [before, after] = [await allOf(from), await allOf(to)]
  expect(after.map(({ id, mailfrom, rcptto }) => ({ id, mailfrom, rcptto }))).toEqual(
    before.map(({ id, mailfrom, rcptto }) => ({ id, mailfrom, rcptto })),
  )
  for (const { id } of before) {
    const expected = asExported(await bodyOf(from, id), format)
    expect((await bodyOf(to, id)).equals(expected)).toBe(true)
  }
}

async function thereAndBack(messages: NewMessage[], format: ExportFormat): Promise<void> {
  const directory = await temporaryDirectory()
  const from = await temporarySpool({ path: join(directory, 'from') })
  const to = await temporarySpool({ path: join(directory, 'to') })
  const stored = (await from.swapOutMulti(messages)).flatMap(({ ids }) => ids).length
  const out = join(directory, 'out')
  const report = await exportMessages(exportSource(from), out, { format })
  expect(report).toEqual({
    format,
    directory: out,
    exported: stored,
    already: 0,
    skipped: 0,
    failed: 0,
    failures: [],
  })
  const path = format === 'mbox' ? join(out, 'messages.mbox') : out
  const imported = await to.importFrom(path, { suppressTrace: true, format })
  expect(imported).toMatchObject({ format, imported: stored, failed: 0 })
  await expectSame(from, to, format)
  await Promise.all([from.close(), to.close()])
}

const body = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        'From ',
        '>From ',
        '>',
        '\n',
        '\r\n',
        '\r',
        '.',
        'x',
        ': ',
        '\n\n',
        '\r\n\r\n',
      ),
      fc.constantFrom('Return-Path: <x@y>\n', 'X-Bobbin-Export: 1\n', 'From x@y now\n'),
      fc.string({ maxLength: 4 }),
    ),
    { maxLength: 30 },
  )
  .map((parts) => Buffer.from(parts.join('')))

const mailbox = fc.constantFrom('a@b', '"a b"@example.com', 'ü@ä.example', '<odd>@d', 'no-domain')

const messages = fc.array(
  fc
    .tuple(body, fc.oneof(fc.constant(''), mailbox), fc.uniqueArray(mailbox, { minLength: 1 }))
    .map(([content, mailfrom, rcptto]) => message(content, { mailfrom, rcptto })),
  { minLength: 1, maxLength: 25 },
)

for (const format of EXPORT_FORMATS) {
  test(`property: ${format} comes back the same`, { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(messages, (list) => thereAndBack(list, format)),
      { numRuns: Number(process.env.TEST_RUNS ?? 8) },
    )
  })

  test(`mail of all kinds, and large mail, comes back the same from ${format}`, async () => {
    const mails = [...(await ownMails()), ...corpusMails()].map(({ bytes }) => message(bytes))
    await thereAndBack([...mails, message(bytes(1_000_000))], format)
  })
}

async function withMessages(count: number) {
  const directory = await temporaryDirectory()
  const path = join(directory, 'spool')
  const spool = await temporarySpool({ path })
  const list = Array.from({ length: count }, (_, i) =>
    message(`Subject: ${i}\n\nbody\n`, { rcptto: [`r@d${i % 3}.Example`] }),
  )
  const ids = (await spool.swapOutMulti(list)).flatMap(({ ids }) => ids)
  return { directory, path, spool, ids, source: exportSource(spool), out: join(directory, 'out') }
}

/** Breaks off after so many contents. */
function breaking(source: ExportSource, after: number): ExportSource {
  let left = after
  return {
    ...source,
    content: (id) => (left-- > 0 ? source.content(id) : Promise.reject(new Error('broken off'))),
  }
}

async function filesIn(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    found[entry.name] = await readFile(join(entry.parentPath, entry.name), 'latin1')
  }
  return found
}

for (const format of EXPORT_FORMATS) {
  test(`broken off again and again, ${format} ends as if nothing had happened`, async () => {
    const { source, directory, out } = await withMessages(400)
    const whole = join(directory, 'whole')
    await exportMessages(source, whole, { format })
    for (const after of [0, 1, 300]) {
      const broken = exportMessages(breaking(source, after), out, { format })
      await expect(broken).rejects.toThrow('broken off')
    }
    if (format === 'mbox') {
      // What is half done of other messages is nothing to go on from.
      const other = { format, domain: 'd1.example' }
      const elsewhere = join(directory, 'elsewhere')
      await expect(exportMessages(breaking(source, 300), elsewhere, { format })).rejects.toThrow()
      await exportMessages(source, elsewhere, other)
      const box = await readFile(join(elsewhere, 'messages.mbox'), 'latin1')
      expect(box.match(/^From /gm)).toHaveLength(133)
    }
    if (format === 'mbox') await appendFile(join(out, '.messages.mbox.partial'), 'torn')
    const { exported, already } = await exportMessages(source, out, { format })
    expect(exported + already).toBe(400)
    expect(already).toBeGreaterThan(200)
    expect(await filesIn(out)).toEqual(await filesIn(whole))
  })
}

test('what is there stays: of other messages, of readers, and a finished mbox', async () => {
  const { source, out, ids } = await withMessages(3)
  await mkdir(out)
  await writeFile(join(out, `${ids[0]}.eml`), 'mine')
  await writeFile(join(out, 'other'), 'other')
  const eml = await exportMessages(source, out, { format: 'eml' })
  expect(eml).toMatchObject({ exported: 2, already: 1 })
  expect(await readFile(join(out, `${ids[0]}.eml`), 'latin1')).toBe('mine')
  const maildir = join(out, 'Maildir')
  await exportMessages(source, maildir, { format: 'maildir' })
  const [name] = await readdir(join(maildir, 'new'))
  await rename(join(maildir, 'new', name as string), join(maildir, 'cur', `${name}:2,S`))
  const again = await exportMessages(source, maildir, { format: 'maildir' })
  expect(again).toMatchObject({ exported: 0, already: 3 })
  const box = join(out, 'box')
  await exportMessages(source, box, { format: 'mbox' })
  expect(await readdir(box)).toEqual(['messages.mbox'])
  const refused = exportMessages(source, box, { format: 'mbox' })
  await expect(refused).rejects.toMatchObject({ code: 'SPOOL_ERR_EXISTS' })
  await writeFile(join(out, 'file'), '')
  const nowhere = exportMessages(source, join(out, 'file'), { format: 'eml' })
  await expect(nowhere).rejects.toMatchObject({ code: 'SPOOL_ERR_WRITE' })
})

test('filters, fields of other names, and none', async () => {
  const { spool, source, directory, ids } = await withMessages(6)
  await spool.dispose(ids[1] as string, { type: 'transient_failure' })
  const named = async (name: string, options: object) => {
    const out = join(directory, name)
    await exportMessages(source, out, { format: 'eml', ...options })
    return (await readdir(out)).map((file) => file.replace('.eml', '')).toSorted()
  }
  expect(await named('domain', { domain: 'D1.example' })).toEqual([ids[1], ids[4]])
  expect(await named('state', { state: 'deferred' })).toEqual([ids[1]])
  expect(await named('ids', { ids: [ids[5], ids[0], ids[0]] })).toEqual([ids[0], ids[5]])
  expect(await named('plain', { ids: [ids[2]], envelope: null })).toEqual([ids[2]])
  const plain = await readFile(join(directory, 'plain', `${ids[2]}.eml`), 'latin1')
  expect(plain).toBe('Subject: 2\n\nbody\n')
  await named('fields', { ids: [ids[2]], envelope: { from: 'X-From', to: 'X-To' } })
  const fields = await readFile(join(directory, 'fields', `${ids[2]}.eml`), 'latin1')
  expect(fields).toBe(
    `X-Bobbin-Export: ${ids[2]}\nX-From: <sender@example.org>\nX-To: <r@d2.Example>\n${plain}`,
  )
  for (const [options, field] of [
    [{ format: 'zip' }, 'format'],
    [{ format: 'eml', envelope: { from: 'a b', to: 'c' } }, 'envelope'],
  ] as [object, string][]) {
    const refused = exportMessages(source, join(directory, 'no'), options as ExportOptions)
    await expect(refused).rejects.toMatchObject({ code: 'SPOOL_ERR_INVALID', field })
  }
  const signal = AbortSignal.abort()
  const stopped = exportMessages(source, join(directory, 'no'), { format: 'eml', signal })
  await expect(stopped).rejects.toMatchObject({ code: 'SPOOL_ERR_ABORTED' })
})

test('what has no content is skipped, what is damaged is told, and stops nothing', async () => {
  const { spool, path, directory, ids } = await withMessages(5)
  await spool.swapRemoveContent(ids[0] as string)
  await spool.close()
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  const chunks = [...store.db('chunks').getKeys()].map((key) => Buffer.from(key))
  const first = store.db('chunks').get(chunks[1] as Buffer) as Buffer
  await store.write(() => {
    void store.db('chunks').put(chunks[0] as Buffer, Buffer.alloc(first.length))
    void store.db('chunks').remove(chunks[1] as Buffer)
  })
  await store.close()
  const damaged = await temporarySpool({ path, leaveUnreadable: true })
  for (const format of EXPORT_FORMATS) {
    const out = join(directory, format)
    const report = await exportMessages(exportSource(damaged), out, { format })
    expect(report).toMatchObject({ exported: 2, skipped: 1, failed: 2 })
    expect(report.failures.map(({ id }) => id).toSorted()).toEqual([ids[1], ids[2]])
    const files = await filesIn(out)
    expect(Object.keys(files)).toHaveLength(format === 'mbox' ? 1 : 2)
    expect(Object.values(files).join('')).not.toContain(ids[1])
  }
})

test('one export at a time in a directory; what comes and goes meanwhile is no error', async () => {
  const { spool, source, out, ids } = await withMessages(4)
  const slow: ExportSource = {
    ...source,
    async *messages() {
      for await (const message of source.messages()) {
        if (message.id === ids[0]) {
          const second = exportMessages(source, out, { format: 'eml' })
          await expect(second).rejects.toMatchObject({ code: 'SPOOL_ERR_BUSY' })
          await spool.swapRemove(ids[3] as string)
          await spool.swapOutContent(ids[2] as string, Buffer.from('another one'))
        }
        yield message
      }
    },
  }
  const report = await exportMessages(slow, out, { format: 'eml' })
  expect(report).toMatchObject({ exported: 3, skipped: 1, failed: 0 })
  expect(await readFile(join(out, `${ids[2]}.eml`), 'latin1')).toMatch(/another one$/)
})
