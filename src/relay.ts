/**
 * From the spool's outbox to the journals, each record exactly once and in order. The only place that knows both.
 *
 * Before a batch is appended, the journal's end is noted in the outbox, durably. After a crash, or a failed append, what the
 * journal holds after the noted end is compared with the batch: what is there already is not appended again. So that
 * no subscriber's progress can delete the stretch that has to be compared, the relay keeps a checkpoint of its own there.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import {
  addSubscriber,
  formatLogId,
  JlogError,
  type JournalSet,
  type JournalWriter,
  type LogId,
  listSubscribers,
  parseLogId,
  readRecords,
  setCheckpoint,
} from '../jlog/index.js'
import type { Outbox, OutboxRecord } from '../spool/index.js'

/** Names that begin with a tilde are left alone by repair. */
export const RELAY_SUBSCRIBER = '~bobbin-relay'

const BATCH = { maxRecords: 4096, maxBytes: 1024 * 1024 }
const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 10_000

export class Relay {
  readonly #outbox: Outbox
  readonly #journals: JournalSet
  readonly #log: FastifyBaseLogger
  readonly #make: (journal: string) => Promise<void>
  readonly #workers = new Map<string, JournalRelay>()
  #unsubscribe: () => void = () => undefined

  /** `make` is called before a journal is written to, to make it if it is not there and should be. */
  constructor(
    outbox: Outbox,
    journals: JournalSet,
    log: FastifyBaseLogger,
    make: (journal: string) => Promise<void> = async () => undefined,
  ) {
    this.#make = make
    this.#outbox = outbox
    this.#journals = journals
    this.#log = log
  }

  /** Takes up what a former run left, then whatever is committed. */
  start(): void {
    this.#unsubscribe = this.#outbox.onRecords((journal) => this.#worker(journal).wake())
    for (const journal of this.#outbox.journals()) this.#worker(journal).wake()
  }

  /** Why records wait, for each journal that takes none now. */
  failures(): { journal: string; error: Error }[] {
    return [...this.#workers].flatMap(([journal, { failure }]) =>
      failure === null ? [] : [{ journal, error: failure }],
    )
  }

  /** Relays what is waiting and stops; what cannot be relayed now waits in the outbox for the next start. */
  async stop(): Promise<void> {
    this.#unsubscribe()
    await Promise.all([...this.#workers.values()].map((worker) => worker.stop()))
  }

  #worker(journal: string): JournalRelay {
    let worker = this.#workers.get(journal)
    if (worker === undefined) {
      worker = new JournalRelay(journal, this.#outbox, this.#journals, this.#log, this.#make)
      this.#workers.set(journal, worker)
    }
    return worker
  }
}

/** One journal's part. */
class JournalRelay {
  failure: Error | null = null
  readonly #make: (journal: string) => Promise<void>
  readonly #journal: string
  readonly #outbox: Outbox
  readonly #journals: JournalSet
  readonly #log: FastifyBaseLogger
  readonly #stop = new AbortController()
  #wake: () => void = () => undefined
  #awake = false
  readonly #running: Promise<void>
  /** Segment that the relay's own checkpoint keeps from deletion. */
  #kept: number | null = null

  constructor(
    journal: string,
    outbox: Outbox,
    journals: JournalSet,
    log: FastifyBaseLogger,
    make: (journal: string) => Promise<void>,
  ) {
    this.#make = make
    this.#journal = journal
    this.#outbox = outbox
    this.#journals = journals
    this.#log = log.child({ journal })
    this.#running = this.#run()
  }

  wake(): void {
    this.#awake = true
    this.#wake()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#wake()
    await this.#running
  }

  async #run(): Promise<void> {
    let retry = FIRST_RETRY_MS
    for (;;) {
      try {
        await this.#make(this.#journal)
        await this.#journals.withWriter(this.#journal, async (writer) => {
          await this.#finishNoted(writer)
          this.#recovered()
          retry = FIRST_RETRY_MS
          await this.#relay(writer)
        })
        return
      } catch (error) {
        if (this.failure === null)
          this.#log.error({ err: error }, 'log records wait: their journal takes none')
        this.failure = error as Error
        if (this.#stop.signal.aborted) return
        await delay(retry, undefined, { signal: this.#stop.signal }).catch(() => undefined)
        retry = Math.min(retry * 2, LAST_RETRY_MS)
      }
    }
  }

  #recovered(): void {
    if (this.failure !== null) this.#log.info('the journal takes log records again')
    this.failure = null
  }

  /** Appends the part of a noted batch that is not in the journal yet. */
  async #finishNoted(writer: JournalWriter): Promise<void> {
    const noted = this.#outbox.noted(this.#journal)
    if (noted === null) return
    const after = parseLogId(noted.after)
    await this.#keep(after)
    const missing = await this.#missing(after, noted.upTo)
    if (missing.length > 0) await writer.appendBatch(missing)
    else await writer.sync()
    await this.#outbox.done(this.#journal, noted.upTo)
  }

  /** Others may write to the journal too, so the batch's records may stand apart; their order is the batch's. */
  async #missing(after: LogId, upTo: number): Promise<OutboxRecord[]> {
    const records = this.#batchUpTo(upTo)
    let found = 0
    for await (const batch of readRecords(await this.#journals.path(this.#journal), { after })) {
      for (const { sec, usec, payload } of batch) {
        const next = records[found]
        if (next === undefined) return []
        if (next.sec === sec && next.usec === usec && next.payload.equals(payload)) found++
      }
    }
    return records.slice(found)
  }

  #batchUpTo(upTo: number): OutboxRecord[] {
    const records: OutboxRecord[] = []
    for (;;) {
      const last = records.at(-1)
      const next = this.#outbox.pending(this.#journal, {
        ...BATCH,
        ...(last ? { afterSeq: last.seq } : {}),
      })
      for (const record of next) {
        if (record.seq > upTo) return records
        records.push(record)
      }
      if (next.length === 0) return records
    }
  }

  async #relay(writer: JournalWriter): Promise<void> {
    let done: number | undefined
    for (;;) {
      this.#awake = false
      const batch = this.#outbox.pending(this.#journal, {
        ...BATCH,
        ...(done === undefined ? {} : { afterSeq: done }),
      })
      const last = batch.at(-1)
      if (last !== undefined) {
        const after = await writer.end()
        await this.#keep(after)
        await this.#outbox.note(this.#journal, { after: formatLogId(after), upTo: last.seq }, done)
        await writer.appendBatch(batch)
        // The outbox lets go of them: they must be safe whatever the journal's own safety is.
        await writer.sync()
        done = last.seq
        continue
      }
      if (done !== undefined) {
        await this.#outbox.done(this.#journal, done)
        done = undefined
        continue
      }
      if (this.#stop.signal.aborted) return
      if (this.#awake) continue
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Moves the relay's checkpoint to the segment of `end`, before anything is noted that depends on it. */
  async #keep(end: LogId): Promise<void> {
    if (this.#kept === end.log) return
    const dir = await this.#journals.path(this.#journal)
    const exists = (await listSubscribers(dir)).some(({ name }) => name === RELAY_SUBSCRIBER)
    const place = { log: end.log, marker: 0 }
    if (exists) await setCheckpoint(dir, RELAY_SUBSCRIBER, place, { clean: false })
    else {
      await addSubscriber(dir, RELAY_SUBSCRIBER, place).catch((error: unknown) => {
        if (!(error instanceof JlogError && error.code === 'JLOG_ERR_SUBSCRIBER_EXISTS'))
          throw error
      })
    }
    this.#kept = end.log
  }
}
