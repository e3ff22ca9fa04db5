/** `bobbin spool quarantine …`: what could not be read, at rest in a data directory or in a running service. */
import type { Command } from 'commander'
import type { QuarantinedJson } from '../../../api/client/index.js'
import { escapeText, quarantineToJson } from '../../../api/json.js'
import { openSpool, type Spool } from '../../../spool/index.js'
import { spoolPath } from '../../data-directory.js'
import { print } from '../../program.js'
import { connect } from '../connection.js'
import { add, type Options, table } from './options.js'

interface ReleaseOptions {
  from?: string
  to?: string
  force?: boolean
}

interface Source {
  list(): AsyncIterable<QuarantinedJson>
  show(name: string): Promise<QuarantinedJson>
  release(name: string, options: ReleaseOptions): Promise<string>
  purge(name: string): Promise<void>
}

export function addQuarantine(spool: Command): void {
  const quarantine = spool
    .command('quarantine')
    .description('what could not be read, kept until somebody decides')

  add(quarantine, 'list', 'list what is in quarantine').action((options: Options) =>
    withSource(options, { readOnly: true }, async (source) => {
      for await (const entry of source.list())
        await print(options.json ? `${JSON.stringify(entry)}\n` : `${summary(entry)}\n`)
    }),
  )

  add(quarantine, 'show', 'show an entry, and where it came from')
    .argument('<name>')
    .action((name: string, options: Options) =>
      withSource(options, { readOnly: true }, async (source) => {
        const entry = await source.show(name)
        await print(options.json ? `${JSON.stringify(entry)}\n` : table(entry))
      }),
    )

  add(quarantine, 'release', 'put a message back into the spool, under a new id')
    .argument('<name>')
    .option('--from <address>', 'envelope sender, where the meta is lost')
    .option('--to <address>', 'envelope recipient, where the meta is lost')
    .option('--force', 'also when its content is not whole, or not known to be')
    .action((name: string, options: Options & ReleaseOptions) =>
      withSource(options, { readOnly: false }, async (source) => {
        const id = await source.release(name, options)
        await print(options.json ? `${JSON.stringify({ id })}\n` : `${id}\n`)
      }),
    )

  add(quarantine, 'purge', 'delete an entry for good', { json: false })
    .argument('<name>')
    .action((name: string, options: Options) =>
      withSource(options, { readOnly: false }, (source) => source.purge(name)),
    )
}

async function withSource(
  { url, data }: Options,
  { readOnly }: { readOnly: boolean },
  use: (source: Source) => Promise<void>,
): Promise<void> {
  if (url !== undefined) return use(connect(url).quarantine)
  const spool = await openSpool({ path: spoolPath(data), readOnly, create: false })
  try {
    await use(offline(spool))
  } finally {
    await spool.close()
  }
}

function offline({ upkeep }: Spool): Source {
  return {
    async *list() {
      let cursor: string | undefined
      do {
        const page = await upkeep.quarantine.list({
          limit: 1000,
          ...(cursor === undefined ? {} : { cursor }),
        })
        yield* page.entries.map(quarantineToJson)
        cursor = page.cursor ?? undefined
      } while (cursor !== undefined)
    },
    show: async (name) => quarantineToJson(await upkeep.quarantine.show(name)),
    release: (name, { from, to, force }) =>
      upkeep.release(name, { mailfrom: from, rcptto: to, force }),
    purge: (name) => upkeep.quarantine.purge(name),
  }
}

function summary({ name, reason, meta }: QuarantinedJson): string {
  const envelope = meta === null ? '' : `  <${meta.mailfrom}> -> <${meta.rcptto}>`
  return escapeText(`${name}${envelope}  ${reason}`)
}
