/** What is exported from a spool that is open, for reading or writing. */
import { SpoolError } from './errors.js'
import type { ExportedMessage, ExportSource } from './export.js'
import type { MessageMeta } from './message.js'
import { passing } from './passing.js'
import { FLAGS_KEY } from './sources/maildir.js'
import type { Spool } from './spool.js'

export function exportSource(spool: Spool): ExportSource {
  return {
    async *messages() {
      let cursor: string | null | undefined
      while (cursor !== null) {
        const page = await spool.list({ limit: 1000, cursor })
        for (const meta of page.messages) yield exportedMessage(meta)
        cursor = page.cursor
      }
    },
    async message(id) {
      try {
        return exportedMessage(await spool.meta(id))
      } catch (error) {
        if (error instanceof SpoolError && error.code === 'SPOOL_ERR_NOT_FOUND') return undefined
        throw error
      }
    },
    content: async (id) => passing((await spool.swapIn(id)).stream),
    total: async () => (await spool.stats()).messages,
  }
}

/** `created` in milliseconds since the epoch. */
export function exportedMessage(
  meta: Pick<
    MessageMeta,
    'id' | 'mailfrom' | 'rcptto' | 'state' | 'sha256' | 'created' | 'context'
  >,
): ExportedMessage {
  const { id, mailfrom, rcptto, state, sha256, created, context } = meta
  const flags = context.mess[FLAGS_KEY] ?? ''
  return {
    id,
    mailfrom,
    rcptto,
    state,
    sha256,
    created,
    flags: /^[A-Za-z]{1,32}$/.test(flags) ? flags : '',
  }
}
