/**
 * Metrics of the journals and of the relay that fills them. Their number is bounded: at most `MAX_JOURNALS` journals
 * are told apart, the service's own first, and `MAX_SUBSCRIBERS` subscribers, those that are most behind; how many
 * there are in all is a metric of its own.
 */
import { Counter, Gauge, type Registry } from 'prom-client'
import { type JournalSet, type JournalSummary, JournalWatch } from '../../jlog/index.js'
import type { Outbox } from '../../spool/index.js'
import { RELAY_SUBSCRIBER, type Relay } from '../relay.js'

export const MAX_JOURNALS = 50
export const MAX_SUBSCRIBERS = 100
/** Journals beyond these share a name that no journal can have. */
export const OTHERS = '(others)'
/** What was found is good for so long. */
const FRESH_MS = 5000

export interface JournalSources {
  readonly journals: JournalSet
  readonly relay: Relay
  readonly outbox: Outbox
  /** Journals that the service itself writes to. */
  readonly ownJournals: readonly string[]
}

interface Looked {
  readonly total: number
  readonly summaries: readonly { journal: string; summary: JournalSummary }[]
}

export class JournalMetrics {
  #sources: JournalSources | undefined
  readonly #watches = new Map<string, JournalWatch>()
  #looking: Promise<void> | undefined
  #lookedAt = Number.NEGATIVE_INFINITY
  readonly #names = new Set<string>()
  readonly #records: Counter
  readonly #bytes: Counter
  readonly #total: Gauge
  readonly #size: Gauge
  readonly #segments: Gauge
  readonly #lastSegment: Gauge
  readonly #lastMarker: Gauge
  readonly #failing: Gauge
  readonly #subscribers: Gauge
  readonly #lagRecords: Gauge
  readonly #lagBytes: Gauge
  readonly #relayRecords: Gauge
  readonly #relaySeconds: Gauge
  readonly #relayFailing: Gauge

  constructor(registry: Registry) {
    const registers = [registry]
    const gauge = (name: string, help: string, ...labelNames: string[]) =>
      new Gauge({ name, help, labelNames, registers })
    const counter = (name: string, help: string) =>
      new Counter({ name, help, labelNames: ['journal'], registers })
    this.#records = counter(
      'bobbin_journal_appended_records_total',
      'Records that this process has appended to a journal.',
    )
    this.#bytes = counter(
      'bobbin_journal_appended_bytes_total',
      'Bytes on disk of the records that this process has appended.',
    )
    this.#total = gauge('bobbin_journals', 'Journals there are, also those beyond the first 50.')
    this.#size = gauge('bobbin_journal_bytes', 'Bytes of all segments of a journal.', 'journal')
    this.#segments = gauge('bobbin_journal_segments', 'Segments of a journal.', 'journal')
    this.#lastSegment = gauge(
      'bobbin_journal_last_segment',
      'Number of the segment being written: the first half of the last id.',
      'journal',
    )
    this.#lastMarker = gauge(
      'bobbin_journal_last_marker',
      'Records in the segment being written: the second half of the last id.',
      'journal',
    )
    this.#failing = gauge(
      'bobbin_journal_failing',
      '1 for a journal that takes no records since a write or sync failed; else absent.',
      'journal',
    )
    this.#subscribers = gauge(
      'bobbin_journal_subscribers',
      'Subscribers of a journal, also those whose lag is not shown.',
      'journal',
    )
    this.#lagRecords = gauge(
      'bobbin_journal_subscriber_lag_records',
      'Records that a subscriber has not read; absent while they are not counted yet. Of the 100 subscribers most behind.',
      'journal',
      'subscriber',
    )
    this.#lagBytes = gauge(
      'bobbin_journal_subscriber_lag_bytes',
      'Bytes of the records that a subscriber has not read. Of the 100 subscribers most behind.',
      'journal',
      'subscriber',
    )
    this.#relayRecords = gauge(
      'bobbin_relay_lag_records',
      'Log records that wait for a journal.',
      'journal',
    )
    this.#relaySeconds = gauge(
      'bobbin_relay_lag_seconds',
      'How long the oldest log record that waits for a journal has waited.',
      'journal',
    )
    this.#relayFailing = gauge(
      'bobbin_relay_failing',
      '1 for a journal that takes none of the log records now, for a reason in the log; else 0.',
      'journal',
    )
  }

  /** Counts what is appended to this journal. */
  appended(journal: string): (records: number, bytes: number) => void {
    const known = this.#names.has(journal) || this.#names.size < MAX_JOURNALS
    if (known) this.#names.add(journal)
    const name = known ? journal : OTHERS
    const [byRecord, byByte] = [this.#records.labels(name), this.#bytes.labels(name)]
    return (records, bytes) => {
      byRecord.inc(records)
      byByte.inc(bytes)
    }
  }

  watch(sources: JournalSources): void {
    this.#sources = sources
  }

  async collect(): Promise<void> {
    const sources = this.#sources
    if (sources === undefined) return
    this.#relayed(sources)
    if (performance.now() - this.#lookedAt < FRESH_MS) return
    this.#looking ??= this.#look(sources)
      .then((looked) => {
        this.#show(looked)
        this.#lookedAt = performance.now()
      })
      .finally(() => {
        this.#looking = undefined
      })
    await this.#looking
  }

  #relayed({ outbox, relay }: JournalSources): void {
    const failing = new Set(relay.failures().map(({ journal }) => journal))
    for (const { journal, records, oldest } of outbox.backlog()) {
      this.#relayRecords.set({ journal }, records)
      const seconds = oldest === null ? 0 : Math.max(0, Date.now() - oldest) / 1000
      this.#relaySeconds.set({ journal }, seconds)
      this.#relayFailing.set({ journal }, failing.has(journal) ? 1 : 0)
    }
  }

  async #look({ journals, ownJournals }: JournalSources): Promise<Looked> {
    const names = await journals.names()
    const own = names.filter((name) => ownJournals.includes(name))
    const others = names.filter((name) => !ownJournals.includes(name))
    const shown = [...own, ...others].slice(0, MAX_JOURNALS)
    for (const name of this.#watches.keys()) if (!shown.includes(name)) this.#watches.delete(name)
    const summaries: { journal: string; summary: JournalSummary }[] = []
    for (const journal of shown) {
      // One that goes meanwhile, or cannot be read, is left out.
      const summary = await this.#watch(journals, journal).catch(() => null)
      if (summary !== null) summaries.push({ journal, summary })
    }
    this.#failing.reset()
    for (const { name } of await journals.failures()) this.#failing.set({ journal: name }, 1)
    return { total: names.length, summaries }
  }

  async #watch(journals: JournalSet, journal: string): Promise<JournalSummary> {
    let watch = this.#watches.get(journal)
    if (watch === undefined) {
      watch = new JournalWatch(await journals.path(journal))
      this.#watches.set(journal, watch)
    }
    return watch.look()
  }

  #show({ total, summaries }: Looked): void {
    this.#total.set(total)
    for (const metric of [
      this.#size,
      this.#segments,
      this.#lastSegment,
      this.#lastMarker,
      this.#subscribers,
      this.#lagRecords,
      this.#lagBytes,
    ]) {
      metric.reset()
    }
    const subscribers = summaries.flatMap(({ journal, summary }) => {
      const { segments, bytes, last } = summary
      // The relay reads nothing: it keeps a place.
      const readers = summary.subscribers.filter(({ name }) => name !== RELAY_SUBSCRIBER)
      this.#size.set({ journal }, bytes)
      this.#segments.set({ journal }, segments)
      this.#lastSegment.set({ journal }, last.log)
      this.#lastMarker.set({ journal }, last.marker)
      this.#subscribers.set({ journal }, readers.length)
      return readers.map(({ name, lag }) => ({ journal, subscriber: name, lag }))
    })
    subscribers.sort((a, b) => b.lag.bytes - a.lag.bytes)
    for (const { journal, subscriber, lag } of subscribers.slice(0, MAX_SUBSCRIBERS)) {
      this.#lagBytes.set({ journal, subscriber }, lag.bytes)
      if (lag.records !== null) this.#lagRecords.set({ journal, subscriber }, lag.records)
    }
  }
}
