/** `bobbin jlog …` on journals that libjlog wrote and on our own: in this process for speed, and as a process where that matters. */
import { cp, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import {
  addSubscriber,
  createJournal,
  describeJournal,
  getCheckpoint,
  openWriter,
  SAFETY,
} from '../../jlog/index.js'
import { jlog } from '../support/jlog-command.js'
import { bobbin, temporaryDirectory } from '../support/service.js'

const FIXTURES = fileURLToPath(new URL('../fixtures/jlog/', import.meta.url))

interface Facts {
  readonly written: readonly [number, number, number, string][]
  readonly expected: { readonly list: readonly unknown[] } | readonly unknown[]
}

const manifest = JSON.parse(await readFile(join(FIXTURES, 'manifest.json'), 'utf8')) as Record<
  string,
  Facts
>

async function copyOf(fixture: string): Promise<string> {
  const dir = join(await temporaryDirectory(), 'j')
  await cp(join(FIXTURES, fixture), dir, { recursive: true })
  return dir
}

async function jsonLines<T>(...args: string[]): Promise<T[]> {
  const { stdout } = await jlog(...args, '--json')
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T)
}

/** What stands in the directory: names, sizes and bytes. */
async function contents(dir: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  for (const name of (await readdir(dir)).sort()) {
    files[name] = (await readFile(join(dir, name))).toString('base64')
  }
  return files
}

describe('create and alter', () => {
  test('all settings, as they were given', async () => {
    const dir = join(await temporaryDirectory(), 'log')
    const made = await jlog(
      ...['create', dir, '--segment-size', '65536', '--safety', 'safe', '--compression', 'lz4'],
      ...['--pre-commit', '4096', '--checksums', '--file-mode', '0600'],
      ...['--subscriber', 'one', '--subscriber', 'zwei/ü'],
    )
    expect(made).toEqual({ code: 0, stdout: '', stderr: '' })
    const info = await describeJournal(dir)
    expect(info).toMatchObject({ unitLimit: 65536, safety: SAFETY.safe, compression: 'lz4' })
    expect(info.preCommit).toEqual({ size: 4096, pending: 0 })
    expect(info.subscribers.map(({ name }) => name)).toEqual(['one', 'zwei/ü'])
    expect((await stat(join(dir, 'metastore'))).mode & 0o777).toBe(0o600)
    expect(await readdir(dir)).toContain('00000000.sum')

    const altered = await jlog('alter', dir, '--segment-size', '1024', '--safety', 'unsafe')
    expect(altered).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(await describeJournal(dir)).toMatchObject({ unitLimit: 1024, safety: SAFETY.unsafe })
  })

  test('wrong usage exits 2, with one line that says what is right', async () => {
    const dir = await copyOf('plain')
    for (const args of [
      ['alter', dir],
      ['alter', dir, '--segment-size', '0'],
      ['alter', dir, '--safety', 'very'],
      ['alter', dir, '--file-mode', '9'],
      ['create', dir, '--compression', 'zip'],
      ['subscriber', 'add', dir, 'x', '--at', 'there'],
      ['subscriber', 'set', dir, 'one', '7'],
      ['subscriber', 'remove', dir, '--hex', 'xyz'],
      ['inspect', dir, '--records', 'last'],
      ['endian', dir],
      ['cat'],
      ['what'],
    ]) {
      const { code, stdout, stderr } = await jlog(...args)
      expect([args.join(' '), code, stdout]).toEqual([args.join(' '), 2, ''])
      expect(stderr).toMatch(/^bobbin: [^\n]+\n(\(.*\)\n)?$/)
    }
  })
})

describe('append and cat', () => {
  test('lines of any bytes come back as they were', async () => {
    const dir = join(await temporaryDirectory(), 'log')
    await createJournal(dir)
    const input = Buffer.from('6f6e650a0aff00c30a6c617374', 'hex')
    expect(await bobbin(['jlog', 'append', dir, '--lines'], { input })).toMatchObject({ code: 0 })
    const { stdout } = await bobbin(['jlog', 'cat', dir])
    expect(stdout.toString('hex')).toBe(`${input.toString('hex')}0a`)
  })

  test('a large record as JSON is the same as a small one, but for its size', async () => {
    const dir = join(await temporaryDirectory(), 'log')
    await createJournal(dir)
    const writer = await openWriter(dir)
    const payload = Buffer.alloc(3_000_001, 'größe')
    await writer.append(payload, { sec: 7, usec: 8 })
    await writer.close()
    const [line] = await jsonLines<Record<string, unknown>>('cat', dir)
    const { data, ...rest } = line!
    expect(rest).toEqual({ id: '00000000:00000001', sec: 7, usec: 8, size: payload.length })
    expect(Buffer.from(data as string, 'base64').equals(payload)).toBe(true)
  })

  test('from a checkpoint on, without moving it, without a trace in the directory', async () => {
    const dir = await copyOf('segments')
    const before = await contents(dir)
    const ids = (await jsonLines<{ id: string }>('cat', dir, '--subscriber', 'b')).map(
      ({ id }) => id,
    )
    expect(ids[0]).toBe('00000005:00000001')
    expect(ids.at(-1)).toBe('00000008:00000007')
    expect(ids).toHaveLength(50)
    expect(await jlog('cat', dir, '--subscriber', 'nobody')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('[JLOG_ERR_INVALID_SUBSCRIBER]'),
    })
    expect(await contents(dir)).toEqual(before)
  })

  const DAMAGED = [
    'bad-bad-magic',
    'bad-garbage-mid',
    'bad-mlen-huge',
    'bad-mlen-small',
    'bad-torn-closed',
    'bad-zero-page',
  ]
  test.each(DAMAGED)(
    '%s: every record that a repair keeps, a warning, and exit 1',
    async (name) => {
      const dir = await copyOf(name)
      const before = await contents(dir)
      const { code, stdout, stderr } = await jlog('cat', dir, '--json')
      const records = stdout.trim().split('\n').length
      expect(records).toBe(expectedRecords(name))
      expect(code).toBe(1)
      expect(stderr).toMatch(/^bobbin: damage in segment 0000000\d: \d+ bytes? at \d+ .*\n$/)
      expect(await contents(dir)).toEqual(before)
    },
  )

  test.each(['bad-meta-gone', 'bad-meta-garbage', 'bad-meta-legacy', 'bad-seg-two-missing'])(
    '%s: reads all there is',
    async (name) => {
      const dir = await copyOf(name)
      const { code, stdout } = await jlog('cat', dir, '--json')
      expect([code, stdout.trim().split('\n').length]).toEqual([0, expectedRecords(name)])
    },
  )

  test('a flipped bit in a payload is found by its checksum, if asked for', async () => {
    const dir = join(await temporaryDirectory(), 'log')
    await createJournal(dir, { checksums: true })
    const writer = await openWriter(dir)
    await writer.appendBatch(['one', 'two', 'six'])
    await writer.close()
    const bytes = await readFile(join(dir, '00000000'))
    bytes[16 + 3 + 16 + 1]! ^= 1
    await writeFile(join(dir, '00000000'), bytes)
    expect(await jlog('cat', dir)).toMatchObject({ code: 0, stdout: 'one\ntvo\nsix\n' })
    const verified = await jlog('cat', dir, '--verify')
    expect(verified).toMatchObject({ code: 1, stdout: 'one\nsix\n' })
    expect(verified.stderr).toMatch(/19 bytes at 19 are no confirmed record \(checksum\)/)
    expect((await jlog('inspect', dir)).code).toBe(1)
  })

  test('a record that does not decompress is told and left out', async () => {
    const dir = await copyOf('lz4')
    const segment = join(dir, '00000000')
    const bytes = await readFile(segment)
    // The first payload begins after a header of 20 bytes: an impossible run of literals.
    bytes.fill(0xff, 20, 20 + Math.min(16, bytes.readUInt32LE(16)))
    await writeFile(segment, bytes)
    const { code, stdout, stderr } = await jlog('cat', dir, '--json')
    expect(code).toBe(1)
    expect(stderr).toMatch(/record 1 does not decompress.*\[JLOG_ERR_FILE_CORRUPT\]/)
    expect(JSON.parse(stdout.slice(0, stdout.indexOf('\n')))).toMatchObject({
      id: '00000000:00000002',
    })
  })
})

function expectedRecords(name: string): number {
  const { expected } = manifest[name]!
  return Array.isArray(expected) ? expected.length : (expected as { list: unknown[] }).list.length
}

describe('inspect and repair', () => {
  test('a sound journal: exit 0, nothing written', async () => {
    const dir = await copyOf('segments')
    const before = await contents(dir)
    const inspected = await jlog('inspect', dir)
    expect(inspected).toMatchObject({ code: 0, stderr: '' })
    expect(inspected.stdout).toMatch(/^sound: 120 records in 9 segments\n/)
    const repaired = await jlog('repair', dir)
    expect(repaired.stdout).toMatch(/^nothing to repair: 120 records/)
    expect(await contents(dir)).toEqual(before)
  })

  test('what is kept, what is cut, and where it went', async () => {
    const dir = await copyOf('bad-bad-magic')
    const before = await contents(dir)
    const inspected = await jlog('inspect', dir, '--json')
    expect(inspected.code).toBe(1)
    expect(JSON.parse(inspected.stdout)).toMatchObject({ sound: false, records: 119 })

    const dry = JSON.parse((await jlog('repair', dir, '--dry-run', '--json')).stdout)
    expect(dry).toMatchObject({ dry_run: true, changed: true, records: 119 })
    expect(await contents(dir)).toEqual(before)

    const { code, stdout } = await jlog('repair', dir, '--json')
    const report = JSON.parse(stdout) as {
      segments: { file: string; cut_file: string | null }[]
      subscribers: unknown[]
    }
    expect(code).toBe(0)
    expect(report.segments.find(({ file }) => file === '00000005')).toMatchObject({
      changed: true,
      bytes_before: 1050,
      bytes_after: 922,
      records: 10,
      cut: [{ offset: 400, bytes: 128, reason: 'bad-header' }],
      cut_file: '00000005.torn-0',
    })
    expect(report.subscribers).toEqual([
      {
        file: 'cp.61',
        subscriber: 'a',
        before: '00000000:00000000',
        after: '00000000:00000000',
        reason: 'unchanged',
      },
      {
        file: 'cp.62',
        subscriber: 'b',
        before: '00000004:00000012',
        after: '00000004:00000012',
        reason: 'unchanged',
      },
    ])
    const segment = Buffer.from(before['00000005']!, 'base64')
    expect(await readFile(join(dir, '00000005.torn-0'))).toEqual(segment.subarray(400, 528))
    expect((await jlog('inspect', dir)).code).toBe(0)
    expect((await jlog('sanity', dir)).stdout).toMatch(/everything fits/)
  })

  test('as text: aligned, with the uncertain record and the moved checkpoint', async () => {
    const uncertain = await jlog('repair', await copyOf('bad-zero-page'))
    expect(uncertain.stdout).toMatch(
      /^repaired: \d+ records in 9 segments\n\nsegment {3}records kept/,
    )
    expect(uncertain.stdout).toMatch(/00000007 +11 +857 +278 {2}repaired {2}00000007\.torn-0\n/)
    expect(uncertain.stdout).toMatch(/at 53: 278 bytes, may begin with a whole record/)
    const moved = await jlog('repair', await copyOf('bad-cp-old'))
    expect(moved.stdout).toMatch(/"b" +00000000:00000001 +00000002:00000000 +it was before/)
  })

  test('a missing segment is a problem that inspect tells, though none to repair', async () => {
    const { code, stdout } = await jlog('inspect', await copyOf('bad-seg-missing'))
    expect(code).toBe(1)
    expect(stdout).toMatch(/^incomplete: /)
    expect(stdout).toContain('missing: 00000005; readers pass over it')
  })

  test('record by record', async () => {
    const dir = await copyOf('bad-torn-tail')
    const text = await jlog('inspect', dir, '--records', '8')
    expect(text.code).toBe(1)
    expect(text.stdout.split('\n')).toHaveLength(6 + 1 + 1)
    expect(text.stdout).toMatch(/^00000008:00000001 {2}at 0 {2}\d+ bytes {2}2023-11-15T00:/)
    expect(text.stdout).toMatch(/damage +at 372 {2}17 bytes {2}torn-record\n$/)
    const json = await jsonLines<{ kind: string }>('inspect', dir, '--records', '00000008')
    expect(json.map(({ kind }) => kind)).toEqual([...Array(6).fill('record'), 'damaged'])
  })

  test('no journal at all', async () => {
    const dir = await temporaryDirectory()
    for (const command of ['inspect', 'repair', 'info', 'cat', 'sanity', 'clean']) {
      const { code, stderr } = await jlog(command, dir)
      expect([command, code]).toEqual([command, 1])
      expect(stderr).toMatch(/^bobbin: [^\n]*\[JLOG_ERR_META_OPEN\]\n$/)
    }
    expect(await readdir(dir)).toEqual([])
  })
})

describe('subscriber and clean', () => {
  test('list, add, copy, set, remove', async () => {
    const dir = await copyOf('segments')
    const named = async () =>
      (await jsonLines<{ name: string; checkpoint: string }>('subscriber', 'list', dir)).map(
        ({ name, checkpoint }) => `${name} ${checkpoint}`,
      )
    expect(await named()).toEqual(['a 00000000:00000000', 'b 00000004:00000012'])
    expect((await jlog('subscriber', 'add', dir, 'c')).stdout).toBe('00000000:00000000\n')
    expect((await jlog('subscriber', 'add', dir, 'ü', '--at', 'end')).stdout).toBe(
      '00000008:00000007\n',
    )
    expect((await jlog('subscriber', 'add', dir, 'd', '--at', '3:2')).code).toBe(0)
    expect((await jlog('subscriber', 'copy', dir, 'b', 'e')).stdout).toBe('00000004:00000012\n')
    expect((await jlog('subscriber', 'set', dir, 'c', '99:5')).stdout).toBe('00000008:00000007\n')
    expect((await jlog('subscriber', 'set', dir, 'c', '2:5')).stdout).toBe('00000002:00000005\n')
    expect(await named()).toEqual([
      'a 00000000:00000000',
      'b 00000004:00000012',
      'c 00000002:00000005',
      'd 00000003:00000002',
      'e 00000004:00000012',
      'ü 00000008:00000007',
    ])
    const taken = await jlog('subscriber', 'add', dir, 'a')
    expect(taken).toMatchObject({ code: 1, stdout: '' })
    expect(taken.stderr).toMatch(/\[JLOG_ERR_SUBSCRIBER_EXISTS\]\n$/)
    for (const name of ['a', 'c', 'd']) await jlog('subscriber', 'remove', dir, name)
    expect((await jlog('clean', dir)).stdout).toBe(
      'removed 00000000, 00000001, 00000002, 00000003\n',
    )
    expect((await jlog('clean', dir, '--json')).stdout).toBe('{"removed":[]}\n')
  })

  test('names that are no text, in hexadecimal digits', async () => {
    const dir = await copyOf('plain')
    expect((await jlog('subscriber', 'add', dir, 'ff00', '--hex')).code).toBe(0)
    expect(await getCheckpoint(dir, Buffer.from('ff00', 'hex'))).toEqual({ log: 0, marker: 0 })
    const names = await jsonLines<{ name_hex: string }>('subscriber', 'list', dir)
    expect(names.map(({ name_hex: hex }) => hex)).toContain('ff00')
    expect((await jlog('subscriber', 'remove', dir, 'ff00', '--hex')).code).toBe(0)
  })
})

describe('info, sanity, endian', () => {
  test('info tells what waits in the pre-commit buffer, and a damaged metastore', async () => {
    const pending = await jlog('info', await copyOf('precommit-pending'), '--json')
    expect(JSON.parse(pending.stdout)).toMatchObject({
      pre_commit: 4096,
      pre_commit_pending: 1397,
      metastore_sound: true,
    })
    const damaged = await jlog('info', await copyOf('bad-meta-garbage'))
    expect(damaged.code).toBe(0)
    expect(damaged.stderr).toMatch(/metastore is missing or damaged/)
    expect(damaged.stdout).toMatch(/^records +120$/m)
  })

  test('sanity exits 1 for what does not fit', async () => {
    expect(await jlog('sanity', await copyOf('plain'))).toEqual({
      code: 0,
      stdout: '37 records in 1 segment, everything fits\n',
      stderr: '',
    })
    const dir = await copyOf('bad-cp-beyond')
    const { code, stdout } = await jlog('sanity', dir, '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ problems: [{ kind: 'checkpoint-marker' }] })
  })

  test('to the other byte order and back, byte for byte', async () => {
    const dir = await copyOf('plain')
    const before = await contents(dir)
    const big = `${dir}.big`
    const there = await jlog('endian', dir, '--to', 'big', '--output', big)
    expect(there.stdout).toMatch(/37 records in 1 segment, big-endian\n/)
    expect((await jlog('sanity', big, '--order', 'big')).code).toBe(0)
    expect((await jlog('endian', big, '--to', 'little', '--json')).code).toBe(0)
    expect(await contents(big)).toEqual(before)
    expect((await jlog('endian', dir, '--to', 'little')).code).toBe(1)
  })
})

test('the exit status and the one line of an error, as a process', async () => {
  const dir = await copyOf('bad-zero-page')
  const usage = await bobbin(['jlog', 'alter', dir])
  expect([usage.code, usage.stderr.split('\n').length]).toEqual([2, 2])
  const failed = await bobbin(['jlog', 'cat', `${dir}/no`])
  expect([failed.code, failed.stderr.split('\n').length]).toEqual([1, 2])
  const traced = await bobbin(['--debug', 'jlog', 'cat', `${dir}/no`])
  expect(traced.stderr).toMatch(/\n {4}at /)
  const damaged = await bobbin(['jlog', 'inspect', dir])
  expect([damaged.code, damaged.stderr]).toEqual([1, ''])
})

test('every command has help with an example', async () => {
  const commands = ['create', 'info', 'append', 'cat', 'tail', 'inspect', 'repair', 'clean']
  const rest = ['alter', 'sanity', 'endian']
  const subscriber = ['list', 'add', 'remove', 'set', 'copy'].map((name) => ['subscriber', name])
  for (const command of [...[...commands, ...rest].map((name) => [name]), ...subscriber]) {
    const { code, stdout } = await jlog(...command, '--help')
    expect([command.join(' '), code]).toEqual([command.join(' '), 0])
    expect(stdout).toMatch(new RegExp(`\nExample:\n  .*bobbin jlog ${command.join(' ')} `))
  }
})

test('a subscriber past the damage of its segment gets nothing twice', async () => {
  const dir = await copyOf('bad-bad-magic')
  await addSubscriber(dir, 'past', { log: 5, marker: 8 })
  const ids = (await jsonLines<{ id: string }>('cat', dir, '--subscriber', 'past')).map(
    ({ id }) => id,
  )
  expect(ids.slice(0, 3)).toEqual(['00000005:00000009', '00000005:0000000a', '00000006:00000001'])
})

test('an empty record is an empty line; one that is cut short meanwhile is none', async () => {
  const dir = join(await temporaryDirectory(), 'log')
  await createJournal(dir)
  const writer = await openWriter(dir)
  await writer.appendBatch(['', 'x'])
  await writer.close()
  await truncate(join(dir, '00000000'), 16 + 16)
  expect(await jlog('cat', dir)).toEqual({ code: 0, stdout: '\n', stderr: '' })
})
