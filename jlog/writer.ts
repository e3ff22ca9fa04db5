/**
 * Writing to a journal: appends from any number of callers, put together into few writes and few syncs.
 *
 * Promises: an append settles only once its records are as safe as the journal's safety says, and with the ids that
 * readers will see. The records of one call stand together, in order, in one segment; calls stand in the order in
 * which they were made. After a failed write or sync nothing more is acknowledged until the journal is opened again.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Append, AppendQueue, type Group } from './append-queue.js'
import { JlogError } from './errors.js'
import { SAFETY } from './format.js'
import type { LogId } from './log-id.js'
import { assertPreCommitSize } from './pre-commit.js'
import { PreCommitStage } from './pre-commit-stage.js'
import { type AppendRecord, assertTime, RecordEncoder, type RecordTime } from './record-encoder.js'

export type { AppendRecord, RecordTime, TimedRecord } from './record-encoder.js'
export type { AppendedBatch, WriterObserver, WriterOptions } from './writer-options.js'

import { SegmentAppender } from './segment-appender.js'
import type { AppendedBatch, WriterOptions } from './writer-options.js'

const DEFAULT_MAX_PENDING_BYTES = 256 * 1024 * 1024
/** Of a group being written, so much is encoded before the next write: more would only leave the processor's cache. */
const ENCODE_AHEAD_BYTES = 512 * 1024
/** Above this share of `maxPendingBytes`, `ready` waits. */
const READY_SHARE = 1 / 8

/**
 * Opens a journal for appending. Any number of writers, of any number of processes and libjlog's among them, may have
 * it open, unless it has a pre-commit buffer: that is for one at a time.
 *
 * What a dead writer left is put right first: an incomplete record at the end goes into a file
 * `<segment>.torn-<n>` beside the segment, and pending pre-commit records go to the segment.
 * @throws JlogError JLOG_ERR_OPEN, JLOG_ERR_NOTDIR, JLOG_ERR_META_OPEN, JLOG_ERR_PRE_COMMIT_OPEN, JLOG_ERR_LOCK,
 *   JLOG_ERR_NOT_SUPPORTED (unknown compression)
 */
export function openWriter(dir: string, options: WriterOptions = {}): Promise<JournalWriter> {
  return JournalWriter.open(dir, options)
}

export class JournalWriter {
  readonly #appender: SegmentAppender
  readonly #encoder: RecordEncoder
  readonly #queue: AppendQueue
  #stage: PreCommitStage | null
  readonly #maxPending: number
  readonly #readyAt: number
  #pump: Promise<void> | null = null
  #readyWaiters: (() => void)[] = []
  #closing: Promise<void> | null = null
  #failure: JlogError | null = null

  private constructor(
    appender: SegmentAppender,
    encoder: RecordEncoder,
    stage: PreCommitStage | null,
    options: WriterOptions,
  ) {
    this.#appender = appender
    this.#encoder = encoder
    this.#stage = stage
    this.#queue = new AppendQueue(encoder)
    this.#maxPending = options.maxPendingBytes ?? DEFAULT_MAX_PENDING_BYTES
    this.#readyAt = this.#maxPending * READY_SHARE
  }

  /** See `openWriter`. */
  static async open(dir: string, options: WriterOptions): Promise<JournalWriter> {
    const { fileMode, lockTimeout, checksums, direct, observer } = options
    const appender = await SegmentAppender.open(dir, {
      ...(fileMode === undefined ? {} : { fileMode }),
      ...(checksums === undefined ? {} : { checksums }),
      ...(direct === undefined ? {} : { direct }),
      ...(lockTimeout === undefined ? {} : { timeout: lockTimeout }),
      observer,
    })
    try {
      const encoder = new RecordEncoder(appender.hdrMagic)
      // Before any roll: a dead writer's flush is to be found at the end of the segment it was made to.
      await appender.begin({ evenIfFull: true })
      try {
        const stage = await PreCommitStage.open(appender, encoder, options.preCommit)
        return new JournalWriter(appender, encoder, stage, options)
      } finally {
        appender.release()
      }
    } catch (error) {
      await appender.abandon()
      throw error
    }
  }

  /**
   * Null, or why this writer takes no more appends: a write or sync failed. What was acknowledged stands; what was
   * not may or may not. Close it and open another, which starts from what the disk says.
   */
  get failure(): JlogError | null {
    return this.#failure
  }

  /** Bytes held by appends that have not settled yet, about. */
  get pendingBytes(): number {
    return this.#queue.pendingBytes
  }

  /**
   * Appends one record. Many at a time are put together into one write, and one sync where the safety asks for it.
   *
   * The journal's safety says when the promise settles. 0 (unsafe) and 1 (almost safe): once the record is written to
   * the segment; it survives the death of this process, but until `sync`, or the end of the segment, not a power cut.
   * 2 (safe): once it is on the disk, by fdatasync. (0 and 1 differ for libjlog and for checkpoints only.)
   *
   * A caller that does not wait for the promises awaits `ready()` between appends instead, so that no more than
   * `maxPendingBytes` are pending. Bytes given must not be changed until the promise settles.
   * @param time of the record; default: now, to the millisecond
   * @returns its id, as readers will see it
   * @throws JlogError JLOG_ERR_FILE_WRITE: not written, or not known to be; see `failure`. JLOG_ERR_LOCK: another
   *   process holds the segment. JLOG_ERR_ILLEGAL_WRITE: closed, too much pending, or nothing that can be a record
   */
  append(payload: Uint8Array | string, time?: RecordTime): Promise<LogId> {
    return new Promise((resolve, reject) => {
      if (time !== undefined) assertTime(time)
      this.#enqueue([payload], time, resolve, reject)
    })
  }

  /**
   * Appends many records with nothing between them, in one segment, also when that makes the segment larger than its
   * limit. For the rest as `append`; records without a time of their own get the same one.
   * @throws JlogError as `append`; JLOG_ERR_ILLEGAL_WRITE for an empty batch
   */
  appendBatch(records: readonly AppendRecord[]): Promise<AppendedBatch> {
    return new Promise((resolve, reject) => {
      const count = records.length
      if (count === 0) throw new JlogError('JLOG_ERR_ILLEGAL_WRITE', 'a batch without records')
      const settle = (first: LogId) => {
        resolve({ first, last: { log: first.log, marker: first.marker + count - 1 }, count })
      }
      this.#enqueue(records, undefined, settle, reject)
    })
  }

  /** Settles when the pending appends leave room for more: at once, mostly. Never rejects. */
  async ready(): Promise<void> {
    if (this.#queue.pendingBytes <= this.#readyAt) return
    await new Promise<void>((resolve) => this.#readyWaiters.push(resolve))
  }

  /**
   * Id of the last complete record, whoever wrote it (marker 0 when the segment has none), after the appends made
   * before this. Records in the pre-commit buffer count: it is the id that they will have.
   */
  end(): Promise<LogId> {
    return this.#operation(async () => {
      await this.#appender.beginSoon()
      try {
        await this.#stage?.forgetMoved()
        const { log, marker } = this.#appender.place
        return { log, marker: marker + (this.#stage?.records ?? 0) }
      } finally {
        this.#appender.release()
      }
    })
  }

  /** Everything appended before this is durable after it, whatever the safety. */
  sync(): Promise<void> {
    return this.#operation(async () => {
      if (this.#stage !== null) {
        await this.#appender.begin()
        try {
          await this.#stage.sync()
        } finally {
          this.#appender.release()
        }
      }
      await this.#appender.syncAll()
    })
  }

  /** Moves the records of the pre-commit buffer to the segment, where readers see them. */
  flush(): Promise<void> {
    return this.#operation(() => this.#flushStage())
  }

  /**
   * Gives the journal's pre-commit buffer another size in bytes, 0 for none, between the appends made before and after this. What it
   * holds goes to the segment first.
   * @throws JlogError JLOG_ERR_CREATE_PRE_COMMIT for what is no size
   */
  resizePreCommit(capacity: number): Promise<void> {
    return this.#operation(async () => {
      assertPreCommitSize(capacity)
      await this.#appender.begin()
      try {
        const former = this.#stage
        await former?.flush()
        this.#stage = null
        await former?.close()
        this.#stage = await PreCommitStage.open(this.#appender, this.#encoder, capacity)
      } finally {
        this.#appender.release()
      }
    })
  }

  /** Writes what is pending, flushes, syncs and closes. Idempotent; appends made after it are refused. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    try {
      if (this.#failure === null) await this.#queued(() => this.#flushStage())
      await this.#pump
      await this.#stage?.close()
      if (this.#failure === null) await this.#appender.close()
    } finally {
      await this.#pump
      await this.#stage?.close()
      await this.#appender.abandon()
    }
  }

  async #flushStage(): Promise<void> {
    if (this.#stage === null || this.#stage.records === 0) return
    await this.#appender.beginSoon()
    try {
      await this.#stage.flush()
    } finally {
      this.#appender.release()
    }
  }

  #enqueue(
    records: readonly AppendRecord[],
    time: RecordTime | undefined,
    resolve: (first: LogId) => void,
    reject: (error: unknown) => void,
  ): void {
    this.#assertOpen()
    const bound = this.#encoder.bound(records)
    const pending = this.#queue.pendingBytes
    if (pending > 0 && pending + bound > this.#maxPending) {
      throw new JlogError(
        'JLOG_ERR_ILLEGAL_WRITE',
        `${pending} bytes of appends are pending already`,
        {
          file: this.#appender.dir,
          advice: 'wait for them, or for ready(), before appending more',
        },
      )
    }
    this.#queue.push(new Append(records, time ?? now(), bound, resolve, reject))
    this.#start()
  }

  #operation<T>(work: () => Promise<T>): Promise<T> {
    try {
      this.#assertOpen()
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#queued(work)
  }

  /** Runs `work` after everything queued before it and before everything queued later. */
  #queued<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = async () => {
        try {
          resolve(await work())
        } catch (error) {
          this.#noteFailure(error)
          reject(error)
        }
      }
      this.#queue.push({ run, reject })
      this.#start()
    })
  }

  #assertOpen(): void {
    if (this.#failure !== null) throw this.#stopped(this.#failure)
    if (this.#closing !== null) {
      throw new JlogError('JLOG_ERR_ILLEGAL_WRITE', 'the writer is closed', {
        file: this.#appender.dir,
      })
    }
  }

  #stopped(cause: unknown): JlogError {
    return new JlogError(
      'JLOG_ERR_FILE_WRITE',
      'this writer stopped after a failed write or sync',
      {
        file: this.#appender.dir,
        advice: 'close it and open another',
        cause,
      },
    )
  }

  #start(): void {
    this.#pump ??= this.#run().finally(() => {
      this.#pump = null
      if (!this.#queue.empty) this.#start()
    })
  }

  /** Takes groups and operations, one after the other, until there are none. Never rejects. */
  async #run(): Promise<void> {
    for (;;) {
      // The callers that are about to append have this turn to do so, and share the write.
      // Writes made at once leave the event loop no turn of its own.
      if (!this.#queue.pressing || this.#appender.direct) await nextTurn()
      const next = this.#queue.take()
      if (next === undefined) return
      if (!('appends' in next)) {
        await next.run()
        continue
      }
      try {
        await this.#commit(next)
      } catch (error) {
        this.#noteFailure(error)
        // Part of a group may be in the segment by way of the buffer; only the disk knows which.
        if (this.#stage !== null) this.#failure ??= this.#stopped(error)
        for (const append of next.appends) append.reject(error)
      }
      this.#queue.done(next)
      if (this.#failure !== null) this.#refuseWaiting()
      this.#wakeReady()
    }
  }

  /** Writes a group, makes it as safe as the journal asks for, and settles its promises. */
  async #commit(group: Group): Promise<void> {
    const appender = this.#appender
    if (!appender.tryBegin()) await appender.begin()
    let ids: LogId[] | null = null
    let rollFailure: unknown
    const first = appender.place
    const { safety, unitLimit } = appender.meta
    // The next group starts after this one, or a new segment.
    const left = unitLimit - first.offset - group.bound
    this.#queue.limitGroups(left > 0 ? left : unitLimit)
    try {
      if (this.#stage === null) await this.#write(group)
      else ids = await this.#stage.write(group)
      if (appender.full) {
        if (safety === SAFETY.safe) await appender.sync()
        // The records stand; that the next segment cannot be made is the next append's trouble.
        await appender.roll().catch((error: unknown) => {
          rollFailure = error
        })
      }
    } finally {
      appender.release()
    }
    if (safety === SAFETY.safe) await appender.sync()
    settle(group, first, ids)
    this.#noteFailure(rollFailure)
  }

  /** Writes a group piece by piece; what comes next is encoded meanwhile. */
  async #write(group: Group): Promise<void> {
    const appender = this.#appender
    const place = appender.place
    let writing: Promise<void> | null = null
    try {
      for (;;) {
        const direct = appender.direct
        const piece = group.take(direct ? appender.stride : undefined)
        if (piece === null) break
        writing = appender.append(piece.buffers, piece.bytes, piece.records, piece.more)
        if (!direct) {
          group.encode(ENCODE_AHEAD_BYTES)
          this.#queue.encodeAhead()
        }
        await writing
      }
    } catch (error) {
      await writing?.catch(() => {})
      // A reader may have seen the records that were cut: later ones are not to take their ids. (From a segment without
      // others there is no roll, or a disk that stays full would get an empty segment for each try.)
      const cut = await appender.cutBack(place)
      if (cut && place.marker > 0) await appender.roll().catch(() => {})
      throw error
    }
  }

  /** A failed write or sync is for good: what the kernel holds is not what was written any more. */
  #noteFailure(error: unknown): void {
    if (error instanceof JlogError && error.code === 'JLOG_ERR_FILE_WRITE') this.#failure ??= error
  }

  #refuseWaiting(): void {
    for (const item of this.#queue.drain()) item.reject(this.#stopped(this.#failure))
  }

  #wakeReady(): void {
    if (this.#readyWaiters.length === 0 || this.#queue.pendingBytes > this.#readyAt) return
    const waiters = this.#readyWaiters
    this.#readyWaiters = []
    for (const wake of waiters) wake()
  }
}

function settle(group: Group, place: LogId, ids: readonly LogId[] | null): void {
  let marker = place.marker + 1
  group.appends.forEach((append, i) => {
    append.resolve(ids?.[i] ?? { log: place.log, marker })
    marker += append.records.length
  })
}

function now(): RecordTime {
  const milliseconds = Date.now()
  const sec = Math.floor(milliseconds / 1000)
  return { sec, usec: (milliseconds - sec * 1000) * 1000 }
}
