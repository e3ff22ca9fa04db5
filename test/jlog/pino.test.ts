/** The pino transport, in processes of its own: what is logged is in the journal, in order, also when the process ends at once. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createJournal,
  describeJournal,
  openWriter,
  readRecords,
  SAFETY,
} from '../../jlog/index.js'
import journalTransport, { JournalStream } from '../../jlog/pino.js'
import { collect } from './reading.js'

const CHILD = fileURLToPath(new URL('./pino-child.mjs', import.meta.url))

let root: string
let made = 0
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'bobbin-pino-'))
})
afterAll(() => rm(root, { recursive: true }))
const fresh = () => join(root, String(made++))

async function run(...args: (string | number)[]) {
  const child = spawn(process.execPath, [CHILD, ...args.map(String)], { timeout: 25_000 })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (bytes: Buffer) => {
    stdout += bytes.toString()
  })
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString()
  })
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { code, signal, stdout, stderr }
}

async function lines(dir: string): Promise<{ n: number; msg: string; filling: string }[]> {
  return (await collect(readRecords(dir))).map(({ payload }) => JSON.parse(payload.toString()))
}

const upTo = (count: number) => Array.from({ length: count }, (_, n) => n)

describe('in a process', () => {
  test.each(['end', 'exit'])(
    'every line is a record when the process comes to its %s',
    async (how) => {
      const dir = fresh()
      expect(await run(dir, '{"create":true}', how, 500)).toEqual({
        code: 0,
        signal: null,
        stdout: '',
        stderr: '',
      })
      const logged = await lines(dir)
      expect(logged.map(({ n }) => n)).toEqual(upTo(500))
      expect(new Set(logged.map(({ msg }) => msg))).toEqual(new Set(['größer']))
      const last = (await collect(readRecords(dir))).at(-1)!
      expect(last.payload.includes(0x0a)).toBe(false)
    },
  )

  test('what was flushed survives a SIGKILL', async () => {
    const dir = fresh()
    expect(await run(dir, '{"create":{"safety":2}}', 'kill', 2000)).toMatchObject({
      signal: 'SIGKILL',
    })
    expect((await lines(dir)).map(({ n }) => n)).toEqual(upTo(2000))
    expect((await describeJournal(dir)).safety).toBe(SAFETY.safe)
  })

  test('more than fits its buffers waits in the logger, and arrives', async () => {
    const dir = fresh()
    const { code, stdout } = await run(dir, '{"create":{"unitLimit":1048576}}', 'drain', 8000, 2000)
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'drained\n' })
    const logged = await lines(dir)
    expect(logged.map(({ n }) => n)).toEqual(upTo(8000))
    expect(logged.every(({ filling }) => filling === 'é'.repeat(1000))).toBe(true)
    expect((await describeJournal(dir)).segments.length).toBeGreaterThan(2)
  })

  test('a second process goes on in the journal that the first one made', async () => {
    const dir = fresh()
    await run(dir, '{"create":{"compression":"lz4"}}', 'end', 10)
    await run(dir, '{"create":true}', 'end', 10)
    expect((await lines(dir)).map(({ n }) => n)).toEqual([...upTo(10), ...upTo(10)])
    expect((await describeJournal(dir)).compression).toBe('lz4')
  })

  test('a journal that cannot be opened is an error event with its code', async () => {
    const { code, stdout } = await run(fresh(), '{}', 'end', 1)
    expect({ code, stdout }).toMatchObject({ code: 3, stdout: /\[JLOG_ERR_OPEN\]\n$/ })
  })

  test('one that cannot be made, too', async () => {
    const { code, stdout } = await run(join(fresh(), 'no'), '{"create":true}', 'end', 1)
    expect({ code, stdout }).toMatchObject({ code: 3, stdout: /\[JLOG_ERR_CREATE_MKDIR\]\n$/ })
  })
})

describe('the stream', () => {
  test('lines of any bytes, over the bounds of chunks, the last without a newline', async () => {
    const dir = fresh()
    const stream = await journalTransport({ path: dir, create: true })
    for (const piece of [[0x61], [0xff, 0x0a, 0x0a, 0x62], [0x0a], [0x63, 0x00]]) {
      stream.write(Buffer.from(piece))
    }
    stream.end()
    await once(stream, 'close')
    const payloads = (await collect(readRecords(dir))).map(({ payload }) => payload.toString('hex'))
    expect(payloads).toEqual(['61ff', '', '62', '6300'])
  })

  test('flush waits for what was written before it, and syncs', async () => {
    const dir = fresh()
    const stream = await journalTransport({ path: dir, create: true })
    const log = pino({ base: null }, stream)
    for (let n = 0; n < 1000; n++) log.info({ n })
    await stream.flush()
    expect(await lines(dir)).toHaveLength(1000)
    stream.destroy()
    await once(stream, 'close')
  })

  test('a failing journal is an error event, and nothing is taken afterwards', async () => {
    const dir = fresh()
    await createJournal(dir)
    const writer = await openWriter(dir)
    const stream = new JournalStream(writer)
    stream.write('one\n')
    await stream.flush()
    await writer.close()
    const failed = once(stream, 'error')
    stream.write('two\n')
    expect(((await failed)[0] as Error).message).toMatch(/\[JLOG_ERR_ILLEGAL_WRITE\]$/)
    await expect(stream.flush()).rejects.toThrow()
    expect(stream.destroyed).toBe(true)
    expect(await collect(readRecords(dir))).toHaveLength(1)
  })

  test('without a path it says what is missing', async () => {
    await expect(journalTransport({ path: '' })).rejects.toThrow(/path/)
  })
})
