/**
 * Long operations, run in the background and asked after: a job wraps any function that takes a signal
 * and tells its progress. Promises: one job of a kind at a time, a bounded history, and an orderly end:
 * `close` cancels what runs and waits for it.
 */
import { SpoolError } from './errors.js'
import { formatId, IdGenerator } from './message-id.js'

export interface Progress {
  /** What is being done now, in a word or two. */
  readonly phase: string
  readonly done: number
  /** null: not known. */
  readonly total: number | null
}

/** What every long operation takes. */
export interface LongOptions {
  /** Called now and then, at most some times a second. */
  readonly onProgress?: ((progress: Progress) => void) | undefined
  /** Gives up with SPOOL_ERR_ABORTED; what was done by then stays done. */
  readonly signal?: AbortSignal | undefined
}

export const JOB_STATES = ['running', 'done', 'failed', 'cancelled'] as const
export type JobState = (typeof JOB_STATES)[number]

export interface Job {
  readonly id: string
  readonly kind: string
  readonly state: JobState
  /** Milliseconds since the epoch. */
  readonly started: number
  readonly ended: number | null
  readonly progress: Progress | null
  /** What the operation returned. */
  readonly result: unknown
  readonly error: { readonly code: string; readonly message: string } | null
}

interface Entry {
  job: Job
  readonly stop: AbortController
  readonly ended: Promise<void>
}

/** Jobs that have ended and are still told of. */
const HISTORY = 100

export class Jobs {
  readonly #entries = new Map<string, Entry>()
  readonly #ids = new IdGenerator()
  #closed = false

  /** Throws SPOOL_ERR_BUSY while a job of this kind runs, SPOOL_ERR_CLOSED after `close`. */
  start(kind: string, run: (options: Required<LongOptions>) => Promise<unknown>): Job {
    if (this.#closed) throw new SpoolError('SPOOL_ERR_CLOSED', 'no jobs are taken any more')
    for (const { job } of this.#entries.values()) {
      if (job.kind !== kind || job.state !== 'running') continue
      throw new SpoolError('SPOOL_ERR_BUSY', `a ${kind} is under way: job ${job.id}`, {
        advice: 'wait for it, or cancel it',
      })
    }
    const id = formatId(this.#ids.next())
    const stop = new AbortController()
    const entry: Entry = {
      job: {
        id,
        kind,
        state: 'running',
        started: Date.now(),
        ended: null,
        progress: null,
        result: null,
        error: null,
      },
      stop,
      // In a turn of its own: the caller gets its job before anything can end it.
      ended: Promise.resolve().then(() =>
        run({
          signal: stop.signal,
          onProgress: (progress) => {
            if (entry.job.state === 'running') entry.job = { ...entry.job, progress }
          },
        }).then(
          (result) => this.#end(entry, { state: 'done', result: result ?? null }),
          (error: unknown) => this.#end(entry, failure(error, stop.signal.aborted)),
        ),
      ),
    }
    this.#entries.set(id, entry)
    return entry.job
  }

  /** undefined: there is none of that id, or it ended long ago. */
  get(id: string): Job | undefined {
    return this.#entries.get(id)?.job
  }

  /** Newest first. */
  list(): Job[] {
    return [...this.#entries.values()].map(({ job }) => job).reverse()
  }

  /** Asks a job to stop; resolves when it has. False when there is none. */
  async cancel(id: string): Promise<boolean> {
    const entry = this.#entries.get(id)
    if (entry === undefined) return false
    entry.stop.abort()
    await entry.ended
    return true
  }

  /** Resolves when the job has ended, in whatever way. */
  async wait(id: string): Promise<Job | undefined> {
    await this.#entries.get(id)?.ended
    return this.get(id)
  }

  /** Cancels what runs and waits for it. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    for (const { stop } of this.#entries.values()) stop.abort()
    await Promise.all([...this.#entries.values()].map(({ ended }) => ended))
  }

  #end(entry: Entry, end: Partial<Job>): void {
    entry.job = { ...entry.job, ...end, ended: Date.now() }
    const over = [...this.#entries.values()].filter(({ job }) => job.state !== 'running')
    for (const { job } of over.slice(0, -HISTORY)) this.#entries.delete(job.id)
  }
}

function failure(error: unknown, cancelled: boolean): Partial<Job> {
  const { code, message } = error as { code?: unknown; message?: string }
  return {
    state: cancelled ? 'cancelled' : 'failed',
    error: {
      code: typeof code === 'string' ? code : 'ERROR',
      message: message ?? String(error),
    },
  }
}

/** Throws SPOOL_ERR_ABORTED once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new SpoolError('SPOOL_ERR_ABORTED', 'given up')
}

const TELL_MS = 200
const TURN_MS = 20

/** For the loop of a long operation: tells progress, gives others their turn, ends when the signal fires. */
export class Pace {
  readonly #options: LongOptions
  #phase = ''
  #total: number | null = null
  #done = 0
  #told = 0
  #turned = Date.now()

  constructor(options: LongOptions) {
    this.#options = options
  }

  /** Throws SPOOL_ERR_ABORTED. */
  begin(phase: string, total: number | null): void {
    throwIfAborted(this.#options.signal)
    this.#phase = phase
    this.#total = total
    this.#done = 0
    this.#tell(Date.now())
  }

  /** After each step; to be awaited when it returns a promise. */
  step(count = 1): Promise<void> | undefined {
    const before = this.#done
    this.#done += count
    // The clock costs more than most steps do.
    if (before >> 6 === this.#done >> 6 && count < 64) return undefined
    const now = Date.now()
    if (now - this.#told >= TELL_MS) this.#tell(now)
    if (now - this.#turned < TURN_MS) return undefined
    return this.#turn()
  }

  async #turn(): Promise<void> {
    throwIfAborted(this.#options.signal)
    await new Promise<void>((resolve) => setImmediate(resolve))
    this.#turned = Date.now()
  }

  #tell(now: number): void {
    this.#told = now
    const total = this.#total === null ? null : Math.max(this.#total, this.#done)
    this.#options.onProgress?.({ phase: this.#phase, done: this.#done, total })
  }
}
