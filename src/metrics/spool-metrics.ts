/** Metrics of the spool and its outbox, looked up at a scrape: sums that the spool keeps anyway, and one bounded count. */
import { stat } from 'node:fs/promises'
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Spool, SpoolSpace } from '../../spool/index.js'

/** Messages that are due are counted up to here. */
export const MAX_DUE = 100_000

export interface SpoolSources {
  readonly spool: Spool
  /** Path of the spool's file. */
  readonly spoolFile: string
  /** As it was last looked at; undefined before that. */
  readonly space: () => SpoolSpace | undefined
}

const SUMS = {
  messagesStored: ['bobbin_messages_stored_total', 'Messages taken in, one a recipient.'],
  messagesRemoved: ['bobbin_messages_removed_total', 'Messages that have left the spool.'],
  bytesStored: [
    'bobbin_content_stored_bytes_total',
    'Bytes of contents taken in, each counted once however many recipients share it.',
  ],
  bytesRemoved: [
    'bobbin_content_removed_bytes_total',
    'Bytes of contents that went with their last message.',
  ],
  reads: ['bobbin_content_reads_total', 'Contents, or ranges of them, that were read.'],
  bytesRead: ['bobbin_content_read_bytes_total', 'Bytes of contents that were read.'],
} as const
type SumName = keyof typeof SUMS

const GAUGES = {
  bobbin_messages_scheduled: 'Messages that have a next attempt, due or not yet.',
  bobbin_messages_due: `Messages that could be claimed now, counted up to ${MAX_DUE}.`,
  bobbin_messages_due_oldest_seconds: 'How long the longest due message has been due.',
  bobbin_claims: 'Claims that hold messages.',
  bobbin_contents: 'Contents in the spool, each counted once however many messages share it.',
  bobbin_content_bytes: 'Bytes of the contents in the spool.',
  bobbin_spool_waiting_bytes: 'Bytes of writes that wait to be on the disk, about.',
  bobbin_spool_waiting_seconds:
    'How long the oldest write that waits to be on the disk has waited.',
  bobbin_spool_read_only: '1 when the spool takes no writes since one failed, else 0.',
  bobbin_spool_file_bytes: "Bytes of the spool's file, free pages included.",
  bobbin_quarantine_entries: 'Entries in quarantine.',
  bobbin_outbox_records: 'Log records that wait for their journals.',
  bobbin_outbox_bytes: 'Bytes of the log records that wait for their journals.',
  bobbin_disk_available_bytes: "Bytes free on the spool's disk for this process.",
  bobbin_disk_total_bytes: "Bytes of the spool's file system.",
} as const
type GaugeName = keyof typeof GAUGES

export class SpoolMetrics {
  readonly #sources: SpoolSources
  readonly #sums: { name: SumName; counter: Counter; last: number }[] = []
  readonly #gauges = {} as Record<GaugeName, Gauge>
  readonly #states: Gauge

  constructor(registry: Registry, sources: SpoolSources) {
    this.#sources = sources
    const registers = [registry]
    this.#states = new Gauge({
      name: 'bobbin_messages',
      help: 'Messages in the spool, by state.',
      labelNames: ['state'],
      registers,
    })
    for (const [sum, [name, help]] of Object.entries(SUMS)) {
      const counter = new Counter({ name, help, registers })
      this.#sums.push({ name: sum as SumName, counter, last: 0 })
    }
    for (const [name, help] of Object.entries(GAUGES)) {
      this.#gauges[name as GaugeName] = new Gauge({ name, help, registers })
    }
  }

  /** What is in memory, or next to it. */
  async collect(): Promise<void> {
    const { spool, space } = this.#sources
    const { activity, waiting } = spool
    for (const sum of this.#sums) {
      sum.counter.inc(activity[sum.name] - sum.last)
      sum.last = activity[sum.name]
    }
    const { messages, due, deferred, leased, claims, bodies, bytes, outbox, readOnly } =
      await spool.stats()
    this.#states.set({ state: 'queued' }, messages - deferred - leased)
    this.#states.set({ state: 'deferred' }, deferred)
    this.#states.set({ state: 'leased' }, leased)
    const now = spool.due(MAX_DUE)
    const free = space()
    this.#set({
      bobbin_messages_scheduled: due,
      bobbin_messages_due: now.count,
      bobbin_messages_due_oldest_seconds:
        now.oldest === null ? 0 : Math.max(0, Date.now() - now.oldest) / 1000,
      bobbin_claims: claims,
      bobbin_contents: bodies,
      bobbin_content_bytes: bytes,
      bobbin_spool_waiting_bytes: waiting.bytes,
      bobbin_spool_waiting_seconds: waiting.milliseconds / 1000,
      bobbin_spool_read_only: readOnly === null ? 0 : 1,
      bobbin_outbox_records: outbox.records,
      bobbin_outbox_bytes: outbox.bytes,
      ...(free && {
        bobbin_disk_available_bytes: free.available,
        bobbin_disk_total_bytes: free.total,
      }),
    })
  }

  async collectFromDisk(): Promise<void> {
    const { spool, spoolFile } = this.#sources
    this.#set({
      bobbin_spool_file_bytes: (await stat(spoolFile)).size,
      bobbin_quarantine_entries: await spool.upkeep.quarantine.count(),
    })
  }

  #set(values: Partial<Record<GaugeName, number>>): void {
    for (const [name, value] of Object.entries(values)) this.#gauges[name as GaugeName].set(value)
  }
}
