/**
 * The records of a journal, for ever, over connections that come and go. As a subscriber: each record at least once, its
 * checkpoint kept by the service. As a tail: from a place on, which this client alone remembers.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { ClientError } from './errors.js'
import { type LogRecord, recordsOfEvents } from './log-record.js'
import { Backoff, ENDLESS, mayRetry } from './retry.js'
import type { CallOptions, ClientOptions, Transport } from './transport.js'
import type { JournalJson } from './types.js'

export interface RecordsOptions extends Omit<CallOptions, 'retry'> {
  /** Records asked for at a time; 1 to 10,000, default 1,000. */
  readonly limit?: number | undefined
  /** Seconds that one request waits for a record; default 30. */
  readonly wait?: number | undefined
  /** Milliseconds after which the checkpoint is moved at the latest, records coming; default 1,000. */
  readonly checkpointEvery?: number | undefined
}

export interface TailOptions extends Omit<CallOptions, 'retry'> {
  /** `begin`, `end` (default: the end as it is at the first call), or a log id: what comes after it. */
  readonly from?: string | undefined
}

export interface LogCalls {
  read(
    journal: string,
    subscriber: string,
    options: CallOptions & { limit: number; wait: number },
  ): Promise<LogRecord[]>
  checkpoint(
    journal: string,
    subscriber: string,
    id: string,
    options: CallOptions,
  ): Promise<unknown>
  describe(journal: string, options: CallOptions): Promise<JournalJson>
  readonly transport: Transport
  readonly onRetry: ClientOptions['onRetry']
}

/**
 * What comes after the checkpoint, oldest first. A record is taken when the next is asked for: the checkpoint moves past
 * what was taken, at the end of each answer, after `checkpointEvery`, and when the loop is left. So the record in hand when
 * it is left, by break or by throw, comes again.
 */
export async function* subscriberRecords(
  calls: LogCalls,
  journal: string,
  subscriber: string,
  { limit = 1000, wait = 30, checkpointEvery = 1000, ...call }: RecordsOptions,
): AsyncGenerator<LogRecord, void, void> {
  const endless = { ...call, retry: ENDLESS }
  let taken: string | null = null
  let moved = performance.now()
  const checkpoint = async (options: CallOptions) => {
    moved = performance.now()
    if (taken !== null) await calls.checkpoint(journal, subscriber, taken, options)
    taken = null
  }
  try {
    while (!call.signal?.aborted) {
      const page = await calls.read(journal, subscriber, { ...endless, limit, wait })
      for (const record of page) {
        yield record
        taken = record.id
        if (performance.now() - moved >= checkpointEvery) await checkpoint(endless)
      }
      await checkpoint(endless)
    }
  } catch (error) {
    if (!call.signal?.aborted) throw error
  } finally {
    // Without the signal, which may be why it ends; and if it fails, some records come twice.
    await checkpoint({ ...call, signal: undefined }).catch(() => undefined)
  }
}

/** Each record once as it is written, reconnecting where the last one stood. */
export async function* tailRecords(
  { transport, describe, onRetry }: LogCalls,
  journal: string,
  { from = 'end', ...call }: TailOptions,
): AsyncGenerator<LogRecord, void, void> {
  const path = `/v1/journals/${encodeURIComponent(journal)}/tail`
  const signal = call.signal
  let backoff = new Backoff(ENDLESS)
  let last: string | null = null
  try {
    // A place that a reconnect comes back to, whatever was written in between.
    if (from === 'end')
      from = (await describe(journal, { ...call, retry: ENDLESS })).last ?? 'begin'
    while (!signal?.aborted) {
      try {
        const resume: Record<string, string> = last === null ? {} : { 'last-event-id': last }
        const { body } = await transport.stream({
          ...call,
          path,
          query: { from },
          headers: { ...call.headers, ...resume, accept: 'text/event-stream' },
          retry: false,
        })
        for await (const record of recordsOfEvents(body)) {
          backoff = new Backoff(ENDLESS)
          last = record.id
          yield record
        }
        // The service ended it: it stops, or could not go on; what comes next says which.
        throw new ClientError(0, 'UNREACHABLE', `the service ended the tail of ${journal}`)
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof ClientError) || !mayRetry(error, true)) throw error
        const pause = backoff.next(error.retryAfter) ?? 0
        onRetry?.(error, pause)
        await delay(pause, undefined, signal ? { signal } : {})
      }
    }
  } catch (error) {
    if (!signal?.aborted) throw error
  }
}
