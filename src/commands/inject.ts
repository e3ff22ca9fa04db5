/** `bobbin inject`: message files, or standard input, into a running service. */
import { createReadStream } from 'node:fs'
import type { Command } from 'commander'
import { BobbinClient } from '../../api/index.js'
import { collect, print } from '../program.js'

export const DEFAULT_URL = 'http://127.0.0.1:8025'

interface Options {
  url: string
  from: string
  to: string[]
  json?: boolean
}

export function addInject(program: Command): void {
  program
    .command('inject')
    .description(
      'inject message files, or standard input; prints the id of each message once it is durable',
    )
    .argument('[file...]', 'messages; none or - is standard input')
    .option('--url <url>', 'the service', process.env.BOBBIN_URL ?? DEFAULT_URL)
    .requiredOption('--from <address>', "envelope sender; '' is the null sender")
    .requiredOption('--to <address>', 'envelope recipient; may be given several times', collect)
    .option('--json', 'print the whole answer, a line of JSON for each file')
    .action(async (files: string[], { url, from, to, json }: Options) => {
      const client = new BobbinClient(url)
      for (const file of files.length === 0 ? ['-'] : files) {
        const body: AsyncIterable<Uint8Array> =
          file === '-' ? process.stdin : createReadStream(file)
        const answer = await client.inject({ mailfrom: from, rcptto: to, body })
        await print(
          json
            ? `${JSON.stringify({ file, ...answer })}\n`
            : answer.ids.map((id) => `${id}\n`).join(''),
        )
      }
    })
}
