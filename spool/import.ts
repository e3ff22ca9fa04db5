/**
 * Import: every message of a source becomes ours once, however often the import is killed and begun again, and
 * each has one log record with what became of it. What cannot be read is left where it is and stops
 * nothing. A message is taken out of the source, if that was asked for, only when ours is on the disk.
 */
import { setMaxListeners } from 'node:events'
import { realpath } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { Core } from './core.js'
import { invalid, SpoolError } from './errors.js'
import { ImportMarks, lastFormat } from './import-marks.js'
import { MessageImporter } from './import-message.js'
import { type LongOptions, type Progress, throwIfAborted } from './jobs.js'
import { openSource } from './sources/detect.js'
import {
  type ImportFormat,
  type ImportResult,
  type Source,
  SourceError,
  SourceGone,
  type SourceMessage,
  SUCCESS,
} from './sources/source.js'
import { isCount, validateMessage } from './validate.js'

export interface ImportOptions extends LongOptions {
  /** Told by what is there when not given. */
  readonly format?: ImportFormat | undefined
  /** Messages under way at once, 1 to 256; 8 when not given. */
  readonly concurrency?: number | undefined
  /** Envelope sender of messages that do not tell theirs. */
  readonly mailfrom?: string | undefined
  /** Recipients of messages that do not tell theirs. */
  readonly rcptto?: readonly string[] | undefined
  /** Give every message a new id. */
  readonly regenerateIds?: boolean | undefined
  /** Put no `Received:` field before the messages. */
  readonly suppressTrace?: boolean | undefined
  /** Take messages out of the source once they are ours. */
  readonly remove?: boolean | undefined
  /** Seconds that an imported message may stay at most, from when it was made. */
  readonly maxRetention?: number | undefined
  /** Import also what was imported before. */
  readonly again?: boolean | undefined
  /** Asked before each message: the import waits while it gives a reason. */
  readonly hold?: (() => string | null) | undefined
}

export interface ImportFailure {
  readonly originalId: string
  readonly result: 2 | 3 | 4
  readonly reason: string
}

export interface ImportReport {
  readonly format: ImportFormat
  /** Where the source is, as the log records say it. */
  readonly source: string
  /** It went on with a run that had not come to its end. */
  readonly resumed: boolean
  /** Messages of the source. */
  readonly total: number
  /** Those that were imported now. */
  readonly imported: number
  /** What they became: one a recipient. */
  readonly messages: number
  /** Those that were imported before. */
  readonly already: number
  /** Those that could not be, also before the run was interrupted. */
  readonly failed: number
  /** Of this call, by the result that was logged. */
  readonly results: Record<ImportResult, number>
  /** Those taken out of the source. */
  readonly removed: number
  /** Why the source was not emptied, although that was asked for. */
  readonly left: string | null
  /** The first thousand. */
  readonly failures: ImportFailure[]
}

export interface ImportProgress extends Progress {
  readonly failed: number
  readonly results: Record<ImportResult, number>
}

const DEFAULT_CONCURRENCY = 8
const MAX_CONCURRENCY = 256
const MAX_FAILURES = 1000
const TELL_MS = 200
const HOLD_MS = 250
/** Removals that are synced together. */
const REMOVALS = 256

export class Imports {
  readonly #core: Core
  readonly #nodeName: string
  readonly #running = new Set<string>()

  constructor(core: Core, nodeName: string) {
    this.#core = core
    this.#nodeName = nodeName
  }

  /**
   * Throws SPOOL_ERR_INVALID for an option, SPOOL_ERR_OPEN for a source that is not there, SPOOL_ERR_OWNED for a
   * spool that is served, SPOOL_ERR_BUSY while it is being imported, SPOOL_ERR_ABORTED, and what a write
   * throws: called again, it goes on.
   */
  async run(path: string, options: ImportOptions = {}): Promise<ImportReport> {
    check(options)
    this.#core.assertWritable()
    const { remove = false } = options
    const base = await realpath(path).catch(() => path)
    if (base === (await realpath(this.#core.store.path))) {
      throw invalid('path', 'a spool is not imported into itself')
    }
    const format = options.format ?? lastFormat(this.#core, base)
    const source = await openSource(path, { format, remove })
    try {
      if (this.#running.has(source.base)) {
        throw new SpoolError('SPOOL_ERR_BUSY', 'it is being imported already', {
          file: source.base,
          advice: 'wait for that import, or cancel it',
        })
      }
      this.#running.add(source.base)
      try {
        const marks = await ImportMarks.begin(this.#core, source, options.again === true)
        return await new Run(this.#core, this.#nodeName, source, marks, options).run()
      } finally {
        this.#running.delete(source.base)
      }
    } finally {
      await source.close()
    }
  }
}

class Run {
  readonly #source: Source
  readonly #marks: ImportMarks
  readonly #importer: MessageImporter
  readonly #options: ImportOptions
  /** Ends all workers when one of them meets what ends the import. */
  readonly #stop = new AbortController()
  readonly #results: Record<ImportResult, number> = { 1: 0, 2: 0, 3: 0, 4: 0 }
  readonly #failures: ImportFailure[] = []
  #phase = 'counting'
  #total: number | null = null
  #imported = 0
  #messages = 0
  #already = 0
  #failed = 0
  #removed = 0
  #left: string | null = null
  /** Taken out of the source, and not synced yet. */
  #removals: string[] = []
  #settling: Promise<void> = Promise.resolve()
  #told = 0

  constructor(
    core: Core,
    nodeName: string,
    source: Source,
    marks: ImportMarks,
    options: ImportOptions,
  ) {
    this.#source = source
    this.#marks = marks
    this.#options = options
    // One for each body that is read.
    setMaxListeners(0, this.#stop.signal)
    const { mailfrom, rcptto, regenerateIds = false, suppressTrace = false, maxRetention } = options
    this.#importer = new MessageImporter(core, marks, {
      mailfrom,
      rcptto,
      regenerateIds,
      trace: !suppressTrace,
      maxRetention,
      base: source.base,
      nodeName,
    })
  }

  async run(): Promise<ImportReport> {
    const { signal } = this.#options
    const stop = () => this.#stop.abort(signal?.reason)
    signal?.addEventListener('abort', stop, { once: true })
    try {
      throwIfAborted(signal)
      this.#tell(true)
      this.#total = await this.#source.count(signal)
      await this.#all()
      await this.#settle()
      await this.#finish()
      await this.#marks.end()
      this.#tell(true)
      return this.#report()
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  async #all(): Promise<void> {
    this.#phase = 'importing'
    const messages = this.#source.messages()[Symbol.asyncIterator]()
    let failure: unknown
    const worker = async () => {
      try {
        while (!this.#stop.signal.aborted) {
          await this.#hold()
          const next = await messages.next()
          if (next.done === true) return
          await this.#one(next.value)
          this.#tell(false)
        }
      } catch (error) {
        // The first says why; the others end because of it.
        if (!this.#stop.signal.aborted) failure = error
        this.#stop.abort()
      }
    }
    const { concurrency = DEFAULT_CONCURRENCY } = this.#options
    await Promise.all(Array.from({ length: concurrency }, worker))
    await messages.return?.()
    throwIfAborted(this.#options.signal)
    if (failure !== undefined) throw failure
  }

  async #one(message: SourceMessage): Promise<void> {
    const before = this.#marks.resultOf(message.key)
    if (before === SUCCESS) {
      this.#already++
      return this.#remove(message)
    }
    if (before !== undefined) {
      this.#failed++
      return
    }
    let messages: number
    try {
      messages = await this.#importer.take(message, this.#stop.signal)
    } catch (error) {
      if (error instanceof SourceGone) {
        if (this.#total !== null) this.#total--
        return
      }
      const result = this.#resultOf(error)
      if (result === undefined) throw error
      if (await this.#importer.fail(message, result)) this.#results[result]++
      this.#failed++
      if (this.#failures.length < MAX_FAILURES) {
        const { originalId } = message
        this.#failures.push({ originalId, result, reason: reasonOf(error) })
      }
      return
    }
    if (messages === 0) this.#already++
    else {
      this.#imported++
      this.#messages += messages
      this.#results[SUCCESS] += messages
    }
    await this.#remove(message)
  }

  /** What is logged of a message that could not be imported; undefined: the import cannot go on. */
  #resultOf(error: unknown): 2 | 3 | 4 | undefined {
    if (error instanceof SourceError) return error.result
    if (!(error instanceof SpoolError)) return 2
    switch (error.code) {
      case 'SPOOL_ERR_ABORTED':
        if (this.#stop.signal.aborted) return undefined
        return error.cause instanceof SourceError ? error.cause.result : 3
      case 'SPOOL_ERR_INVALID':
        return error.field?.startsWith('context') ? 4 : 2
      case 'SPOOL_ERR_TOO_LARGE':
      case 'SPOOL_ERR_REFUSED':
        return 4
      default:
        return undefined
    }
  }

  async #remove(message: SourceMessage): Promise<void> {
    if (this.#options.remove !== true || !this.#source.removesEach) return
    try {
      // What is there under another name, as a Maildir's may be, is still to be known.
      if (!(await message.remove())) return
    } catch (error) {
      this.#left ??= `${message.originalId} cannot be removed: ${(error as Error).message}`
      return
    }
    this.#removed++
    this.#removals.push(message.key)
    if (this.#removals.length >= REMOVALS) await this.#settle()
  }

  /** Makes removals durable before it forgets the messages: one that comes back is known. */
  #settle(): Promise<void> {
    const removals = this.#removals
    this.#removals = []
    const settling = this.#settling.then(async () => {
      if (removals.length === 0) return
      await this.#source.settle()
      await this.#marks.forget(removals)
    })
    // Whoever settles next is not to fail of it again.
    this.#settling = settling.catch(() => undefined)
    return settling
  }

  async #finish(): Promise<void> {
    if (this.#options.remove !== true || this.#source.removesEach) return
    this.#left = this.#failed > 0 ? 'not all of it could be imported' : await this.#source.finish()
    if (this.#left !== null) return
    this.#removed = this.#imported + this.#already
    await this.#marks.forgetAll()
  }

  async #hold(): Promise<void> {
    for (;;) {
      const reason = this.#options.hold?.() ?? null
      if (reason === null) break
      this.#phase = `waiting: ${reason}`
      this.#tell(true)
      await delay(HOLD_MS, undefined, { signal: this.#stop.signal }).catch(() => undefined)
      throwIfAborted(this.#stop.signal)
    }
    this.#phase = 'importing'
  }

  #tell(now: boolean): void {
    const time = Date.now()
    if (!now && time - this.#told < TELL_MS) return
    this.#told = time
    const done = this.#imported + this.#already + this.#failed
    const progress: ImportProgress = {
      phase: this.#phase,
      done,
      total: this.#total === null ? null : Math.max(this.#total, done),
      failed: this.#failed,
      results: { ...this.#results },
    }
    this.#options.onProgress?.(progress)
  }

  #report(): ImportReport {
    const done = this.#imported + this.#already + this.#failed
    return {
      format: this.#source.format,
      source: this.#source.base,
      resumed: this.#marks.resumed,
      total: done,
      imported: this.#imported,
      messages: this.#messages,
      already: this.#already,
      failed: this.#failed,
      results: this.#results,
      removed: this.#removed,
      left: this.#left,
      failures: this.#failures,
    }
  }
}

function check({ concurrency = 1, mailfrom, rcptto, maxRetention }: ImportOptions): void {
  if (!isCount(concurrency) || concurrency < 1 || concurrency > MAX_CONCURRENCY) {
    throw invalid('concurrency', `not a number from 1 to ${MAX_CONCURRENCY}`)
  }
  // Said once, rather than of every message.
  validateMessage({
    mailfrom: mailfrom ?? '',
    rcptto: rcptto ?? ['postmaster'],
    body: Buffer.alloc(0),
    retention: maxRetention,
  })
}

/** Of the source, without what we do about it. */
function reasonOf(error: unknown): string {
  const { cause } = error as Error
  return cause instanceof SourceError ? cause.message : (error as Error).message
}
