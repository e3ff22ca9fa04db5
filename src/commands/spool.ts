/** `bobbin spool …`: the messages, of a data directory or of a running service. */
import { type Command, Option } from 'commander'
import type { MetaJson, SpoolStateJson } from '../../api/client/index.js'
import {
  escapeText,
  META_FORMATS,
  type MetaFormat,
  metaToJson,
  renderMeta,
  spoolStateToJson,
} from '../../api/json.js'
import { MESSAGE_STATES, openSpool, type Spool } from '../../spool/index.js'
import { spoolPath } from '../data-directory.js'
import { print } from '../program.js'
import { connect } from './connection.js'
import { addBackup } from './spool/backup.js'
import { addExport } from './spool/export.js'
import { addImport } from './spool/import.js'
import { add, type Options, table } from './spool/options.js'
import { addQuarantine } from './spool/quarantine.js'
import { addUpkeep } from './spool/upkeep.js'

/** What the commands ask; answered by a service or by the files. */
interface SpoolSource {
  list(filter: { domain?: string; state?: string; binding?: string }): AsyncIterable<MetaJson>
  meta(id: string): Promise<MetaJson>
  content(id: string): Promise<AsyncIterable<Uint8Array>>
  spool(): Promise<SpoolStateJson>
}

export function addSpool(program: Command): void {
  const spool = program
    .command('spool')
    .description('look into the spool: offline in --data, or in the service at --url')

  addUpkeep(spool)
  addQuarantine(spool)
  addBackup(spool)
  addImport(spool)
  addExport(spool)

  add(spool, 'list', 'list messages, oldest first')
    .option('--domain <domain>', 'only recipients of this domain')
    .addOption(new Option('--state <state>', 'only messages in this state').choices(MESSAGE_STATES))
    .option('--binding <binding>', 'only messages of this binding')
    .action((options: Options & { domain?: string; state?: string; binding?: string }) =>
      withSource(options, async (source) => {
        const { domain, state, binding } = options
        const filter = {
          ...(domain ? { domain } : {}),
          ...(state ? { state } : {}),
          ...(binding ? { binding } : {}),
        }
        for await (const meta of source.list(filter))
          await print(options.json ? `${JSON.stringify(meta)}\n` : `${summary(meta)}\n`)
      }),
    )

  add(spool, 'show', 'show the meta of a message')
    .argument('<id>')
    .addOption(new Option('--format <format>', 'how to print it').choices(META_FORMATS))
    .action((id: string, options: Options & { format?: MetaFormat }) =>
      withSource(options, async (source) => {
        const format = options.format ?? (options.json ? 'json' : 'text')
        await print(renderMeta(await source.meta(id), format))
      }),
    )

  add(spool, 'cat', 'print the content of a message, byte for byte', { json: false })
    .argument('<id>')
    .action((id: string, options: Options) =>
      withSource(options, async (source) => {
        for await (const bytes of await source.content(id)) await print(bytes)
      }),
    )

  add(spool, 'space', 'show the room on the disk of the spool').action((options: Options) =>
    withSource(options, async (source) => {
      const { space } = await source.spool()
      await print(options.json ? `${JSON.stringify(space)}\n` : table(space))
    }),
  )

  add(spool, 'remove', 'remove a message; nothing is logged', { json: false })
    .argument('<id>')
    .action(async (id: string, { url, data }: Options) => {
      if (url !== undefined) return connect(url).remove(id)
      const owned = await openSpool({ path: spoolPath(data), create: false })
      try {
        await owned.swapRemove(id)
      } finally {
        await owned.close()
      }
    })

  add(spool, 'stats', 'show how much is in the spool').action((options: Options) =>
    withSource(options, async (source) => {
      const stats = await source.spool()
      await print(options.json ? `${JSON.stringify(stats)}\n` : table(stats))
    }),
  )
}

async function withSource(
  options: Options,
  use: (source: SpoolSource) => Promise<void>,
): Promise<void> {
  if (options.url !== undefined) return use(connect(options.url))
  const spool = await openSpool({ path: spoolPath(options.data), readOnly: true })
  try {
    await use(offline(spool))
  } finally {
    await spool.close()
  }
}

function offline(spool: Spool): SpoolSource {
  return {
    async *list(filter) {
      let cursor: string | null | undefined
      do {
        const page = await spool.list({
          ...filter,
          limit: 1000,
          cursor: cursor ?? undefined,
        } as Parameters<Spool['list']>[0])
        for (const meta of page.messages) yield metaToJson(meta)
        cursor = page.cursor
      } while (cursor !== null)
    },
    meta: async (id) => metaToJson(await spool.meta(id)),
    content: async (id) => (await spool.swapIn(id)).stream,
    // That this look at the files only reads says nothing of the spool.
    spool: async () =>
      spoolStateToJson({ ...(await spool.stats()), readOnly: null }, await spool.upkeep.space()),
  }
}

function summary({ id, state, size, mailfrom, rcptto }: MetaJson): string {
  const envelope = escapeText(`<${mailfrom}> -> <${rcptto}>`)
  return `${id}  ${state.padEnd(8)}  ${String(size).padStart(10)}  ${envelope}`
}
