/** `bobbin jlog …`: a journal directory, with or without a service that writes to it. */
import type { Command } from 'commander'
import { journalToJson } from '../../api/index.js'
import {
  type Compression,
  createJournal,
  describeJournal,
  follow,
  getCheckpoint,
  openWriter,
  parseLogId,
  type RecordBatch,
  readRecords,
  recordToJson,
  SAFETY,
} from '../../jlog/index.js'
import { choice, print, wholeNumber } from '../program.js'

const SAFETY_BY_NAME = { unsafe: SAFETY.unsafe, almost_safe: SAFETY.almostSafe, safe: SAFETY.safe }

export function addJlog(program: Command): void {
  const jlog = program.command('jlog').description('make, read and write a journal directory')

  jlog
    .command('create')
    .description('make a journal')
    .argument('<dir>', 'a directory that is not there yet')
    .option('--segment-size <bytes>', 'bytes after which a segment is finished', wholeNumber(1))
    .option('--compression <kind>', 'off, none or lz4', choice(['off', 'none', 'lz4']))
    .option(
      '--safety <level>',
      'unsafe, almost_safe or safe',
      choice(['unsafe', 'almost_safe', 'safe']),
    )
    .option('--pre-commit <bytes>', 'size of the pre-commit buffer', wholeNumber(0))
    .action(async (dir: string, options: CreateFlags) => {
      const { segmentSize, compression, safety, preCommit } = options
      await createJournal(dir, {
        ...(segmentSize === undefined ? {} : { unitLimit: segmentSize }),
        ...(compression === undefined ? {} : { compression }),
        ...(safety === undefined ? {} : { safety: SAFETY_BY_NAME[safety] }),
        ...(preCommit === undefined ? {} : { preCommit }),
      })
    })

  jlog
    .command('info')
    .description('describe a journal: settings, segments, subscribers with what they have not read')
    .argument('<dir>')
    .option('--json', 'print JSON')
    .action(async (dir: string, { json }: { json?: boolean }) => {
      const info = journalToJson(dir, await describeJournal(dir))
      await print(json ? `${JSON.stringify(info)}\n` : describe(info))
    })

  jlog
    .command('append')
    .description('append standard input as one record, or each line as one; durable before it ends')
    .argument('<dir>')
    .option('--lines', 'each line is a record, without its newline')
    .action(async (dir: string, { lines }: { lines?: boolean }) => {
      const writer = await openWriter(dir)
      try {
        if (lines) await appendLines((batch) => writer.appendBatch(batch))
        else await writer.append(Buffer.concat(await process.stdin.toArray()))
        await writer.sync()
      } finally {
        await writer.close()
      }
    })

  jlog
    .command('cat')
    .description('print every record, moving no checkpoint and writing nothing')
    .argument('<dir>')
    .option('--subscriber <name>', "from this subscriber's checkpoint on")
    .option('--json', 'a line of JSON each, payloads in base64')
    .action(async (dir: string, { subscriber, json }: { subscriber?: string; json?: boolean }) => {
      const after = subscriber === undefined ? {} : { after: await getCheckpoint(dir, subscriber) }
      for await (const batch of readRecords(dir, after)) await printRecords(batch, json)
    })

  jlog
    .command('tail')
    .description('print records as they are written, until interrupted')
    .argument('<dir>')
    .option('--from <where>', 'begin, end, or a log id: what comes after it', 'end')
    .option('--json', 'a line of JSON each, payloads in base64')
    .action(async (dir: string, { from, json }: { from: string; json?: boolean }) => {
      const stop = new AbortController()
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort())
      const start = from === 'begin' || from === 'end' ? from : parseLogId(from)
      for await (const batch of follow(dir, { from: start, signal: stop.signal }))
        await printRecords(batch, json)
    })
}

interface CreateFlags {
  segmentSize?: number
  compression?: Compression
  safety?: keyof typeof SAFETY_BY_NAME
  preCommit?: number
}

const NEWLINE = 0x0a
const BATCH_BYTES = 1024 * 1024

/** Bytes are bytes: a line is what stands before a newline, in whatever encoding. */
async function appendLines(append: (lines: Buffer[]) => Promise<unknown>): Promise<void> {
  let rest: Buffer[] = []
  let lines: Buffer[] = []
  let pending = 0
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const line = Buffer.concat([...rest, chunk.subarray(start, end)])
      rest = []
      lines.push(line)
      pending += line.length
      start = end + 1
    }
    if (start < chunk.length) rest.push(chunk.subarray(start))
    if (pending < BATCH_BYTES) continue
    await append(lines)
    lines = []
    pending = 0
  }
  if (rest.length > 0) lines.push(Buffer.concat(rest))
  if (lines.length > 0) await append(lines)
}

async function printRecords(batch: RecordBatch, json = false): Promise<void> {
  const pieces: Uint8Array[] = []
  for (const record of batch) {
    if (json) pieces.push(Buffer.from(`${recordToJson(record)}\n`))
    else {
      pieces.push(record.payload)
      if (record.payload.at(-1) !== NEWLINE) pieces.push(Buffer.from('\n'))
    }
  }
  await print(Buffer.concat(pieces))
}

function describe(info: ReturnType<typeof journalToJson>): string {
  const { segments, subscribers, ...settings } = info
  const lines = Object.entries(settings).map(([name, value]) => `${name}: ${value ?? '-'}`)
  for (const { log, bytes, records } of segments)
    lines.push(`segment ${log}: ${records} records, ${bytes} bytes`)
  for (const { name, checkpoint, lag_records: lag } of subscribers) {
    lines.push(`subscriber ${name}: at ${checkpoint}, ${lag} records not read`)
  }
  return `${lines.join('\n')}\n`
}
