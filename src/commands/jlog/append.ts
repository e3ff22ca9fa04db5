/** `bobbin jlog append`: standard input into a journal, byte for byte. */
import { fstatSync } from 'node:fs'
import type { Command } from 'commander'
import { LineSplitter, openWriter } from '../../../jlog/index.js'

/** So much is gathered before it is appended. */
const BATCH_BYTES = 1024 * 1024

export function addAppend(jlog: Command): void {
  jlog
    .command('append')
    .description('append standard input as one record, or each line as one; durable before it ends')
    .argument('<dir>')
    .option('--lines', 'each line is a record, without its newline')
    .addHelpText(
      'after',
      '\nExample:\n  tail -n 100 mail.log | bobbin jlog append ./mail.jlog --lines',
    )
    .action(async (dir: string, { lines }: { lines?: boolean }) => {
      // Node reads nothing from one, and says nothing: it would be an empty record.
      if (fstatSync(process.stdin.fd).isDirectory())
        throw new Error('standard input is a directory')
      const writer = await openWriter(dir)
      try {
        if (lines) await appendLines((batch) => writer.appendBatch(batch))
        else await writer.append(Buffer.concat(await process.stdin.toArray()))
        await writer.sync()
      } finally {
        await writer.close()
      }
    })
}

async function appendLines(append: (lines: Buffer[]) => Promise<unknown>): Promise<void> {
  const splitter = new LineSplitter()
  let lines: Buffer[] = []
  let pending = 0
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    for (const line of splitter.push(chunk)) {
      lines.push(line)
      pending += line.length
    }
    if (pending < BATCH_BYTES) continue
    await append(lines)
    lines = []
    pending = 0
  }
  lines.push(...splitter.end())
  if (lines.length > 0) await append(lines)
}
