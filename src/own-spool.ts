/** The spool of a data directory as the settings say, and what relays its log records, with or without a service. */
import { pino } from 'pino'
import { JournalSet, SAFETY } from '../jlog/index.js'
import { openSpool, type Spool, type SpoolOptions } from '../spool/index.js'
import { type Config, retrySchedule } from './config.js'
import { journalsPath, spoolPath } from './data-directory.js'
import { eventJournals, eventOptions } from './event-settings.js'
import { Relay } from './relay.js'

/** Throws SPOOL_ERR_INVALID for a format of events. */
export function spoolOptions(config: Config): SpoolOptions {
  return {
    path: spoolPath(config.data),
    mode: Number.parseInt(config.spool.file_mode, 8),
    nodeName: config.spool.node_name,
    largeMessageThreshold: config.spool.large_message_threshold,
    maxMessageSize: config.spool.max_message_size,
    compression: config.spool.compression,
    compressionMinSize: config.spool.compression_min_size,
    unsafeSpooling: config.spool.unsafe_spooling,
    suppressRetries: config.spool.suppress_retries,
    maxResidentMessages: config.spool.max_resident_messages,
    maxResidentBytes: config.spool.max_resident_bytes,
    leaveUnreadable: !config.spool.unlink_on_spool_in_failure,
    contextLimits: {
      keyBytes: config.spool.context_key_bytes,
      bytes: config.spool.context_bytes,
    },
    idempotency: {
      seconds: config.spool.idempotency_seconds,
      maxKeys: config.spool.idempotency_keys,
    },
    retry: retrySchedule(config),
    maxRetention: config.spool.max_retention || undefined,
    events: eventOptions(config.events),
  }
}

/** The journals that events go to are made when their first record comes. */
export function eventRelay(
  spool: Spool,
  journals: JournalSet,
  config: Config,
  log: ConstructorParameters<typeof Relay>[2],
): Relay {
  const own = eventJournals(config.events)
  return new Relay(spool.outbox, journals, log, async (journal) => {
    if (own.includes(journal) && !(await journals.has(journal)))
      await journals.create(journal, { safety: SAFETY.safe })
  })
}

/**
 * Uses the spool without a service, as its owner; what is logged meanwhile is relayed to its journals, and what
 * cannot be waits for the next service. Throws SPOOL_ERR_OWNED with the pid of a service.
 */
export async function withOwnedSpool<T>(
  config: Config,
  use: (spool: Spool) => Promise<T>,
): Promise<{ result: T; waiting: { records: number; reason: string } | null }> {
  const spool = await openSpool(spoolOptions(config))
  try {
    const fileMode = Number.parseInt(config.spool.file_mode, 8)
    const journals = await JournalSet.open(journalsPath(config.data), { fileMode })
    try {
      const relay = eventRelay(spool, journals, config, pino({ level: 'silent' }))
      relay.start()
      let result: T
      try {
        result = await use(spool)
      } finally {
        await relay.stop()
      }
      const { records } = spool.outbox.size()
      const reason = relay.failures()[0]?.error.message ?? 'their journal takes none'
      return { result, waiting: records === 0 ? null : { records, reason } }
    } finally {
      await journals.close()
    }
  } finally {
    await spool.close()
  }
}
