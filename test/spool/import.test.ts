// Import from each kind of source: what comes in, what it is logged as, what stays.

import { renameSync, writeFileSync } from 'node:fs'
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  rename,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import {
  checkSpool,
  type ImportProgress,
  openSpool,
  repairSpool,
  type Spool,
} from '../../spool/index.js'
import { Store } from '../../spool/store.js'
import { allOf, contentsOf, harakaFile, logged, mail, results, writeAll } from './import-support.js'
import {
  bodyOf,
  bytes,
  expectSound,
  message,
  temporaryDirectory,
  temporarySpool,
} from './support.js'

const PLAIN = { suppressTrace: true } as const

async function target(): Promise<{ spool: Spool; directory: string }> {
  const directory = await temporaryDirectory()
  return { directory, spool: await temporarySpool({ path: join(directory, 'target') }) }
}

test('a Maildir: new and cur, flags kept, tmp left alone', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'Maildir'), {
    'new/1.a.host': mail('new@example.com'),
    'cur/2.b.host:2,FS': mail('cur@example.com', 'body\r\n', '\r\n'),
    'tmp/3.c.host': mail('tmp@example.com'),
    'new/.hidden': 'no message',
  })
  const progress: ImportProgress[] = []
  const report = await spool.importFrom(source, {
    ...PLAIN,
    onProgress: (told) => progress.push(told as ImportProgress),
  })
  expect(report).toEqual({
    format: 'maildir',
    source,
    resumed: false,
    total: 2,
    imported: 2,
    messages: 2,
    already: 0,
    failed: 0,
    results: { 1: 2, 2: 0, 3: 0, 4: 0 },
    removed: 0,
    left: null,
    failures: [],
  })
  expect(progress.at(-1)).toEqual({
    phase: 'importing',
    done: 2,
    total: 2,
    failed: 0,
    results: { 1: 2, 2: 0, 3: 0, 4: 0 },
  })
  expect(await contentsOf(spool)).toEqual({
    'new@example.com': mail('new@example.com'),
    'cur@example.com': mail('cur@example.com', 'body\r\n', '\r\n'),
  })
  const metas = await allOf(spool)
  const cur = metas.find(({ rcptto }) => rcptto === 'cur@example.com')
  expect(cur).toMatchObject({
    mailfrom: 'sender@example.org',
    protocol: 'internal',
    state: 'queued',
    context: { mess: { maildir_flags: 'FS' } },
  })
  expect(results(spool)).toEqual({ '1.a.host': 1, '2.b.host': 1 })
  const ids = new Set(metas.map(({ id }) => id))
  for (const { type, id, source: base } of logged(spool)) {
    expect({ type, base }).toEqual({ type: 'import', base: source })
    expect(ids.has(id)).toBe(true)
  }
  expect(await readdir(join(source, 'new'))).toHaveLength(2)
  await expectSound(spool, join(directory, 'target'))
})

test('run again it takes what is new, and what a reader moved meanwhile is known', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'Maildir'), {
    'new/1.a.host': mail('one@example.com'),
    'cur/.keep': '',
  })
  await spool.importFrom(source, PLAIN)
  await rename(join(source, 'new/1.a.host'), join(source, 'cur/1.a.host:2,S'))
  await writeAll(source, { 'new/2.b.host': mail('two@example.com') })
  expect(await spool.importFrom(source, PLAIN)).toMatchObject({ imported: 1, already: 1, total: 2 })
  expect(Object.keys(await contentsOf(spool))).toHaveLength(2)
  const again = await spool.importFrom(source, { ...PLAIN, again: true })
  expect(again).toMatchObject({ imported: 2, already: 0 })
  expect(await allOf(spool)).toHaveLength(4)
  expect(await spool.importFrom(source, PLAIN)).toMatchObject({ imported: 0, already: 2 })
})

test('what cannot be imported is logged once a run, stays, and is tried again by the next', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'mails'), {
    'good.eml': mail('good@example.com'),
    'no-envelope.eml': 'Subject: x\n\nbody\n',
    'bad-envelope.eml': `Return-Path: <${'x'.repeat(2000)}@example.org>\nX-Envelope-To: a@example.com\n\n`,
    'empty.eml': '',
    'notes.txt': 'no mail',
  })
  await symlink(join(source, 'good.eml'), join(source, 'link.eml'))
  const report = await spool.importFrom(source, PLAIN)
  expect(report).toMatchObject({ format: 'eml', imported: 1, failed: 4 })
  expect(report.results).toEqual({ 1: 1, 2: 3, 3: 1, 4: 0 })
  expect(
    Object.fromEntries(report.failures.map(({ originalId, reason }) => [originalId, reason])),
  ).toEqual({
    'no-envelope.eml': expect.stringContaining('sender is not known'),
    'empty.eml': expect.stringContaining('sender is not known'),
    'bad-envelope.eml': expect.stringContaining('mailfrom'),
    'link.eml': expect.stringContaining('cannot be read'),
  })
  expect(results(spool)).toEqual({
    'good.eml': 1,
    'no-envelope.eml': 2,
    'bad-envelope.eml': 2,
    'empty.eml': 2,
    'link.eml': 3,
  })
  const next = await spool.importFrom(source, {
    ...PLAIN,
    mailfrom: '',
    rcptto: ['x@example.com', 'y@example.com'],
    remove: true,
  })
  expect(next).toMatchObject({ imported: 2, messages: 4, already: 1, failed: 2, removed: 3 })
  expect((await readdir(source)).toSorted()).toEqual(['bad-envelope.eml', 'link.eml', 'notes.txt'])
  const contents = (await allOf(spool)).filter(({ rcptto }) => rcptto.startsWith('x@'))
  expect(contents.map(({ size, mailfrom }) => [size, mailfrom]).toSorted()).toEqual(
    [
      [0, ''],
      ['Subject: x\n\nbody\n'.length, ''],
    ].toSorted(),
  )
  await expectSound(spool, join(directory, 'target'))
})

test('a folder of .eml files with folders in it, and one file alone', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'mails'), {
    'a.eml': mail('a@example.com'),
    'deep/er/B.EML': mail('b@example.com'),
  })
  expect(await spool.importFrom(source, PLAIN)).toMatchObject({ imported: 2 })
  expect(results(spool)).toEqual({ 'a.eml': 1, 'deep/er/B.EML': 1 })
  const single = await spool.importFrom(join(source, 'a.eml'), PLAIN)
  expect(single).toMatchObject({ format: 'eml', imported: 1 })
  // Another message under the same name is new.
  await writeFile(join(source, 'a.eml'), mail('a@example.com', 'other\n'))
  await utimes(join(source, 'a.eml'), 1, 1)
  expect(await spool.importFrom(source, PLAIN)).toMatchObject({ imported: 1, already: 1 })
})

test('an mbox, with its quoting undone; emptied only when all of it is ours', async () => {
  const { spool, directory } = await target()
  const file = join(directory, 'box')
  const box = [
    'From one@example.org Thu Jan  1 00:00:00 1970\nX-Envelope-To: <a@example.com>\n\n>From me\n>>From you\n> From\nFrom here, it is body\n',
    'From MAILER-DAEMON Thu Jan  1 00:00:00 1970\nX-Envelope-To: <b@example.com>\n\n',
    'From - Thu Jan  1 00:00:00 1970\nX-Envelope-To: <c@example.com>\n\nno sender\n',
    'From x@example.org Thu Jan  1 00:00:00 1970\r\nX-Envelope-To: <d@example.com>\r\n\r\ncrlf\r\n',
  ].join('\n')
  await writeFile(file, box)
  const report = await spool.importFrom(file, { ...PLAIN, remove: true })
  expect(report).toMatchObject({
    format: 'mbox',
    imported: 3,
    failed: 1,
    removed: 0,
    left: expect.stringContaining('not all'),
  })
  expect(await readFile(file, 'latin1')).toBe(box)
  expect(await contentsOf(spool)).toEqual({
    'a@example.com':
      'X-Envelope-To: <a@example.com>\n\nFrom me\n>From you\n> From\nFrom here, it is body\n',
    'b@example.com': 'X-Envelope-To: <b@example.com>\n\n',
    'd@example.com': 'X-Envelope-To: <d@example.com>\r\n\r\ncrlf\r\n',
  })
  const metas = await allOf(spool)
  expect(Object.fromEntries(metas.map(({ rcptto, mailfrom }) => [rcptto, mailfrom]))).toEqual({
    'a@example.com': 'one@example.org',
    'b@example.com': '',
    'd@example.com': 'x@example.org',
  })
  const rest = await spool.importFrom(file, { ...PLAIN, remove: true, mailfrom: 'c@example.org' })
  expect(rest).toMatchObject({ imported: 1, already: 3, failed: 0, removed: 4, left: null })
  expect((await readFile(file)).length).toBe(0)
  // It may fill again, also with the same.
  await writeFile(file, box)
  expect(await spool.importFrom(file, { ...PLAIN, mailfrom: '' })).toMatchObject({ imported: 4 })
  await writeFile(file, `${box}\nFrom e@example.org now\nX-Envelope-To: e@example.com\n\nlater\n`)
  expect(await spool.importFrom(file, PLAIN)).toMatchObject({ imported: 1, already: 4 })
})

test('a Haraka queue: envelope, schedule, dots; what is no queue file is told', async () => {
  const { spool, directory } = await target()
  const due = Date.now() + 60_000
  const name = `1700000000001_${due}_2_61403_e0Y0Ym_1_mta.example.com`
  const old = `1484878079415_0_12345_8888.mta1.example.com`
  const source = await writeAll(join(directory, 'queue'), {
    [name]: harakaFile(
      { to: ['b@example.com', 'c@example.com'], uuid: 'C0FFEE.1.1' },
      'Subject: x\r\n\r\n..\r\n.. two\r\n.\r\nend\r\n',
    ),
    [old]: harakaFile({ from: '', to: ['d@example.com'] }),
    '__tmp__.1700000000001_1_0_1_abcdef_2_h': 'being written',
    'error.1700000000001_1_0_1_abcdef_2_h': harakaFile(),
    '1700000000002_1_0_1_aaaaaa_3_h': '',
    '1700000000003_1_0_1_bbbbbb_4_h': harakaFile().subarray(0, 60),
    '1700000000004_1_0_1_cccccc_5_h': Buffer.from('\0\0\0\x09no json  Subject: x\r\n', 'latin1'),
    '1700000000005_1_0_1_dddddd_6_h': Buffer.from('\0\0\0\x02{}Subject: x\r\n', 'latin1'),
  })
  const report = await spool.importFrom(source, { ...PLAIN, remove: true })
  expect(report).toMatchObject({
    format: 'haraka',
    imported: 2,
    messages: 3,
    failed: 5,
    removed: 2,
  })
  expect(report.results).toEqual({ 1: 3, 2: 5, 3: 0, 4: 0 })
  expect(await contentsOf(spool)).toEqual({
    'b@example.com': 'Subject: x\r\n\r\n.\r\n. two\r\n.\r\nend\r\n',
    'c@example.com': 'Subject: x\r\n\r\n.\r\n. two\r\n.\r\nend\r\n',
    'd@example.com': 'Subject: x\r\n\r\nbody\r\n',
  })
  const metas = await allOf(spool)
  expect(metas.find(({ rcptto }) => rcptto === 'c@example.com')).toMatchObject({
    mailfrom: 'a@example.org',
    created: 1_700_000_000_001,
    nextAttempt: due,
    retries: 2,
    state: 'deferred',
    connectionId: 'C0FFEE',
    batchId: 'C0FFEE.1',
    context: { mess: { haraka_uuid: 'C0FFEE.1.1', haraka_notes: '{"local_sender":true}' } },
  })
  expect(metas.find(({ rcptto }) => rcptto === 'd@example.com')).toMatchObject({
    mailfrom: '',
    created: 1_700_000_000_000,
    retries: 0,
  })
  expect((await spool.stats()).bodies).toBe(2)
  expect((await readdir(source)).filter((file) => /_(e0Y0Ym)_|^1484/.test(file))).toEqual([])
  await expectSound(spool, join(directory, 'target'))
})

test('two queue files of one message fail as one, two hosts have messages of their own', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'queue'), {
    '1700000000001_1700000000001_0_61403_e0Y0Ym_1_one.example': '',
    '1700000000001_1700000000009_1_61403_e0Y0Ym_1_one.example': '',
    '1700000000001_1700000000001_0_61403_f0Y0Ym_1_one.example': harakaFile({ to: ['a@b'] }),
    '1700000000001_1700000000001_0_61403_f0Y0Ym_1_two.example': harakaFile({ to: ['c@d'] }),
  })
  const report = await spool.importFrom(source, PLAIN)
  expect(report).toMatchObject({ imported: 2, failed: 2 })
  const records = logged(spool).filter(({ type }) => type === 'import')
  expect(records.map(({ result }) => result).toSorted()).toEqual([1, 1, 2])
  expect(report.results).toEqual({ 1: 2, 2: 1, 3: 0, 4: 0 })
})

test('another Bobbin spool: ids, times, dictionaries, shared bodies, dropped contents', async () => {
  const { spool, directory } = await target()
  const path = join(directory, 'source')
  const source = await openSpool({ path })
  const context = { conn: { ip: '192.0.2.1' }, mess: { campaign: 'spring' } }
  const shared = await source.swapOut(
    message(bytes(300_000), {
      rcptto: ['a@example.com', 'b@example.com'],
      context,
      retention: 900,
    }),
  )
  const failed = await source.swapOut(message('tried', { rcptto: ['c@example.com'] }))
  const due = Date.now() + 3_600_000
  await source.dispose(failed.ids[0] as string, { type: 'transient_failure', nextAttempt: due })
  const dropped = await source.swapOut(message('gone', { rcptto: ['d@example.com'] }))
  await source.swapRemoveContent(dropped.ids[0] as string)
  const before = new Map((await allOf(source)).map((meta) => [meta.id, meta]))
  await expect(spool.importFrom(path)).rejects.toMatchObject({
    code: 'SPOOL_ERR_OWNED',
    pid: process.pid,
  })
  await source.close()
  // One of the ids is taken here.
  expect(await spool.importFrom(path, PLAIN)).toMatchObject({ format: 'spool', imported: 4 })
  for (const meta of await allOf(spool)) {
    expect(meta).toEqual({ ...before.get(meta.id), version: 1 })
  }
  expect((await bodyOf(spool, shared.ids[1] as string)).equals(bytes(300_000))).toBe(true)
  expect(await spool.stats()).toMatchObject({ messages: 4, bodies: 2 })
  const twice = await spool.importFrom(path, { ...PLAIN, again: true })
  expect(twice).toMatchObject({ imported: 4 })
  expect(await spool.stats()).toMatchObject({ messages: 8, bodies: 4 })
  const records = logged(spool)
  expect(records.slice(0, 4).every(({ id, original_id }) => id === original_id)).toBe(true)
  expect(records.slice(4).some(({ id, original_id }) => id === original_id)).toBe(false)
  await expectSound(spool, join(directory, 'target'))
})

test('of a time to come: an id of now, and the clock of the spool stays where it is', async () => {
  const { spool, directory } = await target()
  const ahead = Date.now() + 20 * 3_600_000
  const time = ahead.toString(16).padStart(12, '0')
  const id = `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-000000000000`
  const source = await writeAll(join(directory, 'eml'), {
    'a.eml': `X-Bobbin-Export: ${id}\n${mail('kept@example.com')}`,
  })
  const queue = await writeAll(join(directory, 'queue'), {
    [`${ahead}_${ahead}_0_61403_e0Y0Ym_1_one.example`]: harakaFile(),
  })
  expect(await spool.importFrom(source, PLAIN)).toMatchObject({ imported: 1 })
  expect(await spool.importFrom(queue, PLAIN)).toMatchObject({ imported: 1 })
  await spool.close()
  const again = await temporarySpool({ path: join(directory, 'target') })
  const soon = { nextAttempt: Date.now() + 3_600_000 }
  const [now] = (await again.swapOut(message('x', soon))).ids
  const ids = (await allOf(again)).map((meta) => meta.id)
  expect(ids.at(-1)).toBe(now)
  expect((await again.claim()).messages.map(({ rcptto }) => rcptto)).toEqual(['kept@example.com'])
})

test('an old message goes by the retention of the spool, also when that is looked at while it comes', async () => {
  const directory = await temporaryDirectory()
  const spool = await temporarySpool({ path: join(directory, 'target'), maxRetention: 3600 })
  const [young] = (await spool.swapOut(message('young'))).ids
  await spool.expire()
  for (let i = 0; i < 6; i++) {
    const file = `170000000000${i}_1700000000001_0_61403_e0Y0Ym_1_one.example`
    const queue = await writeAll(join(directory, `queue-${i}`), { [file]: harakaFile() })
    const importing = spool.importFrom(queue, PLAIN)
    for (let isOver = false; !isOver; ) {
      await spool.expire()
      isOver = await Promise.race([importing.then(() => true), setImmediate(false)])
    }
    expect(await importing).toMatchObject({ imported: 1 })
  }
  await spool.expire()
  expect((await allOf(spool)).map(({ id }) => id)).toEqual([young])
})

test('a file whose name is no UTF-8 is told, and stays', async () => {
  const { spool, directory } = await target()
  const base = await writeAll(directory, {
    'Maildir/new/1.a.host': mail('a@example.com'),
    'Maildir/cur/2.b.host:2,S': mail('b@example.com'),
    'eml/a.eml': mail('c@example.com'),
  })
  const garbled = (name: string) => Buffer.from(join(base, name), 'latin1')
  await writeFile(garbled('Maildir/new/3.\xff.host'), mail('d@example.com'))
  await writeFile(garbled('eml/\xff.eml'), mail('e@example.com'))
  for (const [folder, imported] of Object.entries({ Maildir: 2, eml: 1 })) {
    const report = await spool.importFrom(join(base, folder), { ...PLAIN, remove: true })
    expect(report).toMatchObject({ imported, failed: 1, total: imported + 1, removed: imported })
    expect(report.failures).toMatchObject([{ result: 3, reason: expect.stringContaining('UTF-8') }])
  }
})

describe('a source that changes while it is read', () => {
  /** Calls `change` when the message to that recipient is about to be stored. */
  async function changing(directory: string, to: string, change: () => void): Promise<Spool> {
    const preSwapOutMeta = ({ rcptto }: { rcptto: string }) => {
      if (rcptto === to) change()
    }
    return temporarySpool({ path: join(directory, 'target'), hooks: { preSwapOutMeta } })
  }

  test('an .eml file that is another by now is not removed, and is new to the next run', async () => {
    const directory = await temporaryDirectory()
    const source = await writeAll(join(directory, 'eml'), { 'a.eml': mail('a@example.com') })
    const file = join(source, 'a.eml')
    const spool = await changing(directory, 'a@example.com', () =>
      writeFileSync(file, mail('b@example.com', 'the rest of it\n')),
    )
    const first = await spool.importFrom(source, { ...PLAIN, remove: true })
    expect(first).toMatchObject({ imported: 1, removed: 0, left: expect.stringContaining('a.eml') })
    const second = await spool.importFrom(source, { ...PLAIN, remove: true })
    expect(second).toMatchObject({ imported: 1, removed: 1, left: null })
    expect(Object.keys(await contentsOf(spool)).toSorted()).toEqual([
      'a@example.com',
      'b@example.com',
    ])
  })

  test('an mbox that is another by now gives no message that never was', async () => {
    const directory = await temporaryDirectory()
    const one = `From s@example.org x\n${mail('a@example.com')}\n`
    const two = `From s@example.org x\n${mail('b@example.com', 'a line\n')}\n`
    const source = await writeAll(directory, { mbox: one + two, other: two + two })
    const spool = await changing(directory, 'a@example.com', () =>
      renameSync(join(source, 'other'), join(source, 'mbox')),
    )
    const options = { ...PLAIN, concurrency: 1, remove: true }
    const report = await spool.importFrom(join(source, 'mbox'), options)
    expect(report).toMatchObject({ imported: 1, failed: 1, removed: 0 })
    expect(report.failures).toMatchObject([
      { result: 3, reason: expect.stringContaining('changed') },
    ])
    expect(await spool.stats()).toMatchObject({ messages: 1 })
  })

  test('a Maildir: what a reader moves to cur is imported once, and removed there', async () => {
    const directory = await temporaryDirectory()
    const names = Array.from({ length: 300 }, (_, i) => `new/${i}.a.host`)
    const files = names.map((name, i) => [name, mail(`r${i}@example.com`)])
    const source = await writeAll(join(directory, 'Maildir'), Object.fromEntries(files))
    await mkdir(join(source, 'cur'))
    // The first to be stored, whichever that is in the order of the directory: the listing of new is not over yet.
    let seen: string | undefined
    const preSwapOutMeta = ({ rcptto }: { rcptto: string }) => {
      if (seen !== undefined) return
      seen = `${Number.parseInt(rcptto.slice(1), 10)}.a.host`
      renameSync(join(source, 'new', seen), join(source, 'cur', `${seen}:2,S`))
    }
    const path = join(directory, 'target')
    const spool = await temporarySpool({ path, hooks: { preSwapOutMeta } })
    const report = await spool.importFrom(source, { ...PLAIN, remove: true })
    expect(report).toMatchObject({ imported: 300, already: 1, failed: 0 })
    expect(await spool.stats()).toMatchObject({ messages: 300 })
    expect(await readdir(join(source, 'cur'))).toEqual([])
  })
})

test('a leased message is due when its lease ends; one that waits to be removed is left', async () => {
  const { spool, directory } = await target()
  const path = join(directory, 'source')
  const source = await openSpool({ path })
  await source.swapOut(message('one'))
  const unlinked = await source.swapOut(message('two'))
  const { until } = await source.claim({ leaseSeconds: 600 })
  await source.unlinkOnFree(unlinked.ids[0] as string)
  await source.close()
  expect(await spool.importFrom(path, PLAIN)).toMatchObject({ imported: 1 })
  const [meta] = await allOf(spool)
  expect(meta).toMatchObject({ state: 'queued', nextAttempt: until })
})

test('taken out of a spool; ids made anew; retention bounded', async () => {
  const { spool, directory } = await target()
  const path = join(directory, 'source')
  const source = await openSpool({ path })
  const { ids } = await source.swapOut(message(bytes(400_000)))
  await source.swapOut(message('short', { retention: 60 }))
  await source.close()
  const report = await spool.importFrom(path, {
    ...PLAIN,
    remove: true,
    regenerateIds: true,
    maxRetention: 86_400,
  })
  expect(report).toMatchObject({ imported: 2, removed: 2 })
  const metas = await allOf(spool)
  expect(metas.map(({ retention }) => retention).toSorted()).toEqual([60, 86_400])
  expect(metas.some(({ id }) => id === ids[0])).toBe(false)
  const after = await openSpool({ path })
  expect(await after.stats()).toMatchObject({ messages: 0, bodies: 0 })
  await after.close()
  expect(await checkSpool(path)).toMatchObject({ found: 0 })
})

test('a damaged content of a spool is result 3, an unreadable meta 2, and both stay', async () => {
  const { spool, directory } = await target()
  const path = join(directory, 'source')
  const source = await openSpool({ path })
  for (let i = 0; i < 4; i++) await source.swapOut(message(`body ${i}`))
  await source.close()
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  const ids = [...store.db('messages').getKeys()].map((key) => Buffer.from(key))
  const chunks = [...store.db('chunks').getKeys()].map((key) => Buffer.from(key))
  await store.write(() => {
    void store.db('messages').put(ids[0] as Buffer, Buffer.from('nonsense'))
    void store.db('chunks').remove(chunks[1] as Buffer)
    void store.db('chunks').put(chunks[2] as Buffer, Buffer.from('other6'))
  })
  await store.close()
  const report = await spool.importFrom(path, { ...PLAIN, remove: true })
  expect(report.results).toEqual({ 1: 1, 2: 1, 3: 2, 4: 0 })
  const left = await Store.open({ path, readOnly: true, mode: 0o640, mapSize: undefined })
  expect(left.count('messages')).toBe(3)
  await left.close()
})

test('a trace field is put before a message, with its line end', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'mails'), {
    'lf.eml': mail('lf@example.com'),
    'crlf.eml': mail('crlf@example.com', 'body\r\n', '\r\n'),
  })
  await spool.importFrom(source)
  const ids = Object.fromEntries((await allOf(spool)).map(({ rcptto, id }) => [rcptto, id]))
  for (const [to, text] of Object.entries(await contentsOf(spool))) {
    const [first, rest] = to.startsWith('lf')
      ? [text.slice(0, text.indexOf('\n') + 1), mail(to)]
      : [text.slice(0, text.indexOf('\n') + 1), mail(to, 'body\r\n', '\r\n')]
    expect(text).toBe(first + rest)
    expect(first.endsWith('\r\n')).toBe(to.startsWith('crlf'))
    expect(first.trimEnd()).toMatch(
      new RegExp(
        `^Received: by default \\(Bobbin spool import\\) id ${ids[to]}; [A-Z][a-z]{2}, \\d\\d [A-Z][a-z]{2} \\d{4} \\d\\d:\\d\\d:\\d\\d \\+0000$`,
      ),
    )
  }
})

test('what the spool refuses is result 4; bodies over the threshold stream', async () => {
  const directory = await temporaryDirectory()
  const spool = await temporarySpool({
    path: join(directory, 'target'),
    maxMessageSize: 2_000_000,
    hooks: {
      preSwapOutMeta: ({ rcptto }) => {
        if (rcptto.startsWith('refused')) throw new Error('not this one')
      },
    },
  })
  const source = await writeAll(join(directory, 'mails'), {
    'large.eml': mail('large@example.com', 'x'.repeat(1_500_000)),
    'too-large.eml': mail('too@example.com', 'x'.repeat(2_000_000)),
    'refused.eml': mail('refused@example.com'),
  })
  const report = await spool.importFrom(source, { ...PLAIN, remove: true })
  expect(report.results).toEqual({ 1: 1, 2: 0, 3: 0, 4: 2 })
  expect((await readdir(source)).toSorted()).toEqual(['refused.eml', 'too-large.eml'])
  expect(await contentsOf(spool)).toEqual({
    'large@example.com': mail('large@example.com', 'x'.repeat(1_500_000)),
  })
  await expectSound(spool, join(directory, 'target'))
})

test.skipIf(process.getuid?.() === 0)('a file that may not be read is result 3', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'mails'), { 'a.eml': mail('a@example.com') })
  await chmod(join(source, 'a.eml'), 0)
  expect((await spool.importFrom(source)).results).toMatchObject({ 3: 1 })
})

test('refuses what it cannot tell, what is not there, itself, and wrong options', async () => {
  const { spool, directory } = await target()
  await mkdir(join(directory, 'empty'))
  await writeFile(join(directory, 'file'), 'neither')
  const refused = (path: string, options = {}) =>
    expect(spool.importFrom(join(directory, path), options)).rejects
  await refused('none').toMatchObject({ code: 'SPOOL_ERR_OPEN' })
  await refused('empty').toMatchObject({ code: 'SPOOL_ERR_INVALID', field: 'format' })
  await refused('file').toMatchObject({ code: 'SPOOL_ERR_INVALID', field: 'format' })
  await refused('file', { format: 'mbox' }).toMatchObject({ field: 'format' })
  await refused('file', { format: 'maildir' }).toMatchObject({ field: 'format' })
  await refused('empty', { format: 'maildir' }).toMatchObject({ field: 'format' })
  await refused('empty', { format: 'zip' }).toMatchObject({ field: 'format' })
  await refused('empty', { concurrency: 0 }).toMatchObject({ field: 'concurrency' })
  await refused('empty', { rcptto: [''] }).toMatchObject({ field: 'rcptto[0]' })
  await refused('empty', { maxRetention: -1 }).toMatchObject({ field: 'retention' })
  await refused('target').toMatchObject({ code: 'SPOOL_ERR_INVALID', field: 'path' })
  expect(await spool.importFrom(join(directory, 'empty'), { format: 'haraka' })).toMatchObject({
    total: 0,
  })
  const stopped = AbortSignal.abort()
  await refused('empty', { format: 'eml', signal: stopped }).toMatchObject({
    code: 'SPOOL_ERR_ABORTED',
  })
})

test('waits while it is held; cancelled it stops, and goes on when it is called again', async () => {
  const { spool, directory } = await target()
  const files = Array.from({ length: 40 }, (_, i) => [`${i}.eml`, mail(`r${i}@example.com`)])
  const source = await writeAll(join(directory, 'mails'), Object.fromEntries(files))
  const stop = new AbortController()
  let asked = 0
  const phases = new Set<string>()
  const cancelled = spool.importFrom(source, {
    ...PLAIN,
    concurrency: 2,
    signal: stop.signal,
    hold: () => (++asked > 10 ? 'no room' : null),
    onProgress: ({ phase }) => {
      phases.add(phase)
      if (phase === 'waiting: no room') stop.abort()
    },
  })
  await expect(cancelled).rejects.toMatchObject({ code: 'SPOOL_ERR_ABORTED' })
  expect(phases.has('waiting: no room')).toBe(true)
  const done = (await allOf(spool)).length
  const report = await spool.importFrom(source, PLAIN)
  expect(report).toMatchObject({ resumed: true, already: done, imported: 40 - done })
  expect(Object.keys(await contentsOf(spool))).toHaveLength(40)
  expect(Object.keys(results(spool))).toHaveLength(40)
})

test('what is remembered is checked, mended and salvaged', async () => {
  const { spool, directory } = await target()
  const source = await writeAll(join(directory, 'mails'), { 'a.eml': mail('a@example.com') })
  await spool.importFrom(source, PLAIN)
  await spool.close()
  const path = join(directory, 'target')
  const store = await Store.open({ path, readOnly: false, mode: 0o640, mapSize: undefined })
  expect(store.count('imports')).toBe(2)
  await store.write(() => {
    void store.db('imports').put(Buffer.alloc(33, 'i'), Buffer.from('nonsense'))
    void store.db('imports').put(Buffer.from('short'), Buffer.from('row'))
  })
  await store.close()
  expect(await checkSpool(path)).toMatchObject({ counts: { 'row-malformed': 2 } })
  const report = await repairSpool(path, { salvage: true })
  expect(report).toMatchObject({ quarantined: 2, after: { found: 0 } })
  expect(report.salvage?.rows.imports).toBe(4)
  const repaired = await temporarySpool({ path })
  expect(await repaired.importFrom(source, PLAIN)).toMatchObject({ imported: 0, already: 1 })
})
