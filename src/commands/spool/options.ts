/** What the `bobbin spool` commands have in common: their options, and how a report is printed. */
import { type Command, Option } from 'commander'
import { escapeText } from '../../../api/json.js'
import type { Progress } from '../../../spool/index.js'

export interface Options {
  data: string
  url?: string
  json?: boolean
}

export function add(
  parent: Command,
  name: string,
  description: string,
  { json = true } = {},
): Command {
  const command = parent
    .command(name)
    .description(description)
    .option('--data <dir>', 'data directory', process.env.BOBBIN_DATA ?? './data')
    .addOption(new Option('--url <url>', 'ask a running service instead').conflicts('data'))
  return json ? command.option('--json', 'print JSON') : command
}

/** A command that no running service can be asked for. */
export function addAtRest(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .option('--data <dir>', 'data directory', process.env.BOBBIN_DATA ?? './data')
    .option('--json', 'print JSON')
}

/** One `name: value` a line; what is nested by its path. */
export function table(value: object, prefix = ''): string {
  return Object.entries(value)
    .map(([name, item]) =>
      typeof item === 'object' && item !== null
        ? table(item, `${prefix}${escapeText(name)}.`)
        : `${prefix}${escapeText(name)}: ${item === null || item === undefined ? '-' : escapeText(String(item))}\n`,
    )
    .join('')
}

/** Shows progress on a terminal; silent elsewhere. `end` takes it away again. */
function progressLine(): { show(progress: Progress | null): void; end(): void } {
  const { stderr } = process
  if (!stderr.isTTY) return { show: () => undefined, end: () => undefined }
  return {
    show: (progress) => {
      if (progress === null) return
      const { phase, done, total } = progress
      stderr.write(`\r\u001b[K${phase}: ${done}${total === null ? '' : ` of ${total}`}`)
    },
    end: () => void stderr.write('\r\u001b[K'),
  }
}

export type OnProgress = (progress: Progress | null) => void

/** Runs something long with its progress shown. */
export async function withProgress<T>(run: (onProgress: OnProgress) => Promise<T>): Promise<T> {
  const line = progressLine()
  try {
    return await run(line.show)
  } finally {
    line.end()
  }
}
