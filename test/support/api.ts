/** The REST service over real stores, in this process. */
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { afterEach } from 'vitest'
import { type ApiLimits, type ApiOptions, buildServer, type Reason } from '../../api/index.js'
import { JournalSet, SAFETY } from '../../jlog/index.js'
import { type EventType, openSpool, type Spool, type SpoolOptions } from '../../spool/index.js'
import { Relay } from '../../src/relay.js'
import { temporaryDirectory } from './service.js'

export interface TestApi {
  readonly app: FastifyInstance
  readonly spool: Spool
  readonly journals: JournalSet
  readonly data: string
  /** Reasons to take no messages; to be filled by a test. */
  readonly notReady: Reason[]
  /** Takes requests on a free port. */
  listen(): Promise<{ url: string; host: string; port: number }>
  /** Closes the server, relays what waits, and closes the stores. */
  close(): Promise<void>
}

const open: TestApi[] = []

/** Administration is not logged here, unless a test asks for it. */
function mailEvents(type: EventType): string | null {
  return type === 'administration' || type === 'authentication' ? null : 'mainlog'
}

export const MAX_MESSAGE_SIZE = 2_000_000
export const MAX_BUFFERED_BODY = 1_000_000

export async function startApi(
  limits: Partial<ApiLimits> = {},
  options: Partial<ApiOptions> = {},
  spoolOptions: Partial<SpoolOptions> = {},
): Promise<TestApi> {
  const data = await temporaryDirectory()
  const spool = await openSpool({
    path: join(data, 'spool'),
    maxMessageSize: MAX_MESSAGE_SIZE,
    events: { format: 'json', journalOf: mailEvents },
    ...spoolOptions,
  })
  const journals = await JournalSet.open(join(data, 'journals'))
  await journals.create('mainlog', { safety: SAFETY.safe })
  const relay = new Relay(spool.outbox, journals, pino({ level: 'silent' }))
  relay.start()
  const notReady: Reason[] = []
  const app = await buildServer({
    spool,
    journals,
    ownJournals: ['mainlog'],
    limits: {
      maxBufferedBody: MAX_BUFFERED_BODY,
      maxMessageSize: MAX_MESSAGE_SIZE,
      maxRecipients: 1000,
      maxBatch: 200,
      maxTails: 10,
      requestTimeout: 10_000,
      ...limits,
    },
    notReady: () => notReady,
    version: 'test',
    ...options,
  })
  let closing: Promise<void> | undefined
  const close = async () => {
    await app.close()
    await relay.stop()
    await spool.close()
    await journals.close()
  }
  const api: TestApi = {
    app,
    spool,
    journals,
    data,
    notReady,
    listen: async () => {
      const url = await app.listen({ host: '127.0.0.1', port: 0 })
      return { url, host: '127.0.0.1', port: Number(new URL(url).port) }
    },
    close: () => {
      closing ??= close()
      return closing
    },
  }
  open.push(api)
  return api
}

afterEach(async () => {
  for (const api of open.splice(0)) await api.close()
})
