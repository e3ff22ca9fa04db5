/** `bobbin inject`: message files, or standard input, into a running service. */
import { createReadStream, type ReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Command } from 'commander'
import type { Body } from '../../api/client/index.js'
import { collect, print, UsageError, wholeNumber } from '../program.js'
import { connect } from './connection.js'

export const DEFAULT_URL = 'http://127.0.0.1:8025'

/** So much of standard input is kept, so that it can be sent again; more is streamed, and sent once. */
const KEPT_BYTES = 4 * 1024 * 1024

interface Options {
  url: string
  from: string
  to: string[]
  idempotencyKey?: string
  patience: number
  json?: boolean
}

export function addInject(program: Command): void {
  program
    .command('inject')
    .description(
      'inject message files, or standard input; prints the id of each message once it is durable. While the service is away or sheds load it is tried again; nothing is stored twice',
    )
    .argument('[file...]', 'messages; none or - is standard input')
    .option('--url <url>', 'the service', process.env.BOBBIN_URL ?? DEFAULT_URL)
    .requiredOption('--from <address>', "envelope sender; '' is the null sender")
    .requiredOption('--to <address>', 'envelope recipient; may be given several times', collect)
    .option('--patience <seconds>', 'begin no further attempt after so long', wholeNumber(0), 10)
    .option(
      '--idempotency-key <key>',
      'for one message: the same key and message give the first answer again, in a later run, too',
    )
    .option('--json', 'print the whole answer, a line of JSON for each file')
    .action(async (files: string[], options: Options) => {
      const { url, from, to, patience, idempotencyKey, json } = options
      const client = connect(url, {
        retry: { attempts: Number.POSITIVE_INFINITY, deadline: patience * 1000 },
        onRetry: ({ message }) => {
          if (process.stderr.isTTY) process.stderr.write(`bobbin: ${message}; trying again\n`)
        },
      })
      const names = files.length === 0 ? ['-'] : files
      if (idempotencyKey !== undefined && names.length > 1)
        throw new UsageError('--idempotency-key is for one message')
      for (const file of names) {
        const body = file === '-' ? await standardInput() : await messageFile(file)
        const answer = await client.inject({ mailfrom: from, rcptto: to, body }, { idempotencyKey })
        await print(
          json
            ? `${JSON.stringify({ file, ...answer })}\n`
            : answer.ids.map((id) => `${id}\n`).join(''),
        )
      }
    })
}

/** Opened for each attempt; what cannot be read is told before anything is sent. */
async function messageFile(file: string): Promise<() => ReadStream> {
  try {
    const handle = await open(file)
    try {
      await handle.read(Buffer.alloc(1), 0, 1, 0)
    } finally {
      await handle.close()
    }
  } catch (cause) {
    throw new Error(`cannot read ${file}: ${(cause as Error).message}`, { cause })
  }
  return () => createReadStream(file)
}

async function standardInput(): Promise<Body> {
  const chunks: Buffer[] = []
  const input = process.stdin[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  for (let bytes = 0; bytes <= KEPT_BYTES; ) {
    const { value, done } = await input.next()
    if (done) return Buffer.concat(chunks)
    chunks.push(value)
    bytes += value.length
  }
  return (async function* () {
    yield* chunks.splice(0)
    yield* { [Symbol.asyncIterator]: () => input }
  })()
}
