/**
 * The service's metrics: a registry of its own, what spool and journals are observed with, and what is looked up when
 * somebody scrapes. Observing costs less than a microsecond a commit, not a message; a scrape reads sums that the
 * spool keeps, counts so many rows of an index and no more, and looks at journals as far as they have grown.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { REASON_CODES } from '../../api/index.js'
import type { WriterObserver } from '../../jlog/index.js'
import type { SpoolObserver } from '../../spool/index.js'
import type { Readiness } from '../readiness.js'
import { VERSION } from '../version.js'
import { JournalMetrics, type JournalSources } from './journal-metrics.js'
import { SpoolMetrics, type SpoolSources } from './spool-metrics.js'

const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** What the metrics are of. */
export type MetricSources = SpoolSources &
  JournalSources & { readonly readiness: Pick<Readiness, 'reasons'> }

const PREFIX = 'bobbin_'
/** Of the process's metrics those that cost more, the more connections there are. */
const COSTLY = ['resources', 'handles', 'requests'].flatMap((what) => [
  `nodejs_active_${what}`,
  `nodejs_active_${what}_total`,
])

/** A scrape waits no longer for what lies on a disk; then it has what the one before found. */
const MAX_WAIT_MS = 2000

export class Metrics {
  readonly registry = new Registry()
  readonly #journals: JournalMetrics
  readonly #collectors: (() => Promise<void> | void)[] = []
  /** For the spool, before it is opened. */
  readonly spoolObserver: SpoolObserver
  readonly #syncs: Histogram

  constructor() {
    const registers = [this.registry]
    const commits = new Histogram({
      name: 'bobbin_spool_commit_duration_seconds',
      help: 'Writing and syncing one transaction of the spool.',
      buckets: SECONDS,
      registers,
    })
    const operations = new Counter({
      name: 'bobbin_spool_commit_operations_total',
      help: 'Calls that commits of the spool have answered; many share one.',
      registers,
    })
    const failures = new Counter({
      name: 'bobbin_spool_commit_failures_total',
      help: 'Commits of the spool that failed, of which nothing was acknowledged.',
      labelNames: ['code'],
      registers,
    })
    // From 0 on, so that a rate sees the first one, too.
    for (const code of ['SPOOL_ERR_FULL', 'SPOOL_ERR_WRITE']) failures.inc({ code }, 0)
    const events = new Counter({
      name: 'bobbin_events_total',
      help: 'What happened to messages after their reception, logged or not.',
      labelNames: ['type'],
      registers,
    })
    this.spoolObserver = {
      committed: (commit) => {
        commits.observe(commit.milliseconds / 1000)
        operations.inc(commit.operations)
        for (const type of commit.events) events.inc({ type })
      },
      commitFailed: (code) => failures.inc({ code }),
    }
    this.#syncs = new Histogram({
      name: 'bobbin_journal_sync_duration_seconds',
      help: 'One sync of a segment of a journal.',
      buckets: SECONDS,
      registers,
    })
    this.#journals = new JournalMetrics(this.registry)
    new Gauge({
      name: 'bobbin_build_info',
      help: 'The version that runs; always 1.',
      labelNames: ['version'],
      registers,
    }).set({ version: VERSION }, 1)
    collectDefaultMetrics({ register: this.registry, prefix: PREFIX })
    for (const name of COSTLY) this.registry.removeSingleMetric(PREFIX + name)
  }

  /** For the writer of a journal, when it is opened. */
  journalObserver(journal: string): WriterObserver {
    const appended = this.#journals.appended(journal)
    return { appended, synced: (milliseconds) => this.#syncs.observe(milliseconds / 1000) }
  }

  /** From now on a scrape looks at these. */
  watch(sources: MetricSources): void {
    this.#watchReadiness(sources.readiness)
    const spool = new SpoolMetrics(this.registry, sources)
    this.#journals.watch(sources)
    this.#collectors.push(
      () => spool.collect(),
      () => spool.collectFromDisk(),
      () => this.#journals.collect(),
    )
  }

  #watchReadiness(readiness: Pick<Readiness, 'reasons'>): void {
    new Gauge({
      name: 'bobbin_ready',
      help: '1 while messages are taken, else 0.',
      registers: [this.registry],
      collect() {
        this.set(readiness.reasons.length === 0 ? 1 : 0)
      },
    })
    new Gauge({
      name: 'bobbin_not_ready',
      help: '1 for each reason for which no messages are taken now, else 0.',
      labelNames: ['reason'],
      registers: [this.registry],
      collect() {
        const codes = new Set(readiness.reasons.map(({ code }) => code))
        for (const reason of REASON_CODES) this.set({ reason }, codes.has(reason) ? 1 : 0)
      },
    })
  }

  /** Looks everything up that is not counted as it happens. Never rejects. */
  async collect(): Promise<void> {
    const collecting = this.#collectors.map(async (collect) => collect())
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, MAX_WAIT_MS)
    })
    await Promise.race([Promise.allSettled(collecting), late])
    clearTimeout(timer)
  }
}
