/**
 * Following a journal for many at once. A journal that is followed is read once and each batch is written out once, as one
 * buffer that all its followers share; a follower that is behind, or slow, reads for itself at its own pace until it has
 * caught up. So a slow one makes nobody wait, and what is held for one is bounded.
 */
import { setMaxListeners } from 'node:events'
import { compareLogIds, type LogId, type RecordBatch } from '../jlog/index.js'

/** More than this unsent, and a follower reads for itself again. */
const MAX_UNSENT_BYTES = 1024 * 1024
const CATCH_UP_BYTES = 256 * 1024
const HEARTBEAT_MS = 15_000

/** Where a follower's bytes go; a Node.js `ServerResponse` is one. */
export interface FollowerOutput {
  readonly writableLength: number
  /** Whether a 'drain' is to come. */
  readonly writableNeedDrain: boolean
  readonly destroyed: boolean
  write(bytes: Uint8Array | string): boolean
  once(event: 'drain' | 'close', listener: () => void): unknown
  off(event: 'drain' | 'close', listener: () => void): unknown
}

export interface JournalSource {
  /** Batches after `after`, to the end as it is now; a first part of them when they take more than `limitBytes`. */
  records(after: LogId | undefined, limitBytes: number): AsyncIterable<RecordBatch>
  /** Batches after `after`, for ever. */
  follow(after: LogId, signal: AbortSignal): AsyncIterable<RecordBatch>
  /** Id of the last record. */
  end(): Promise<LogId>
}

/** The bytes that a batch is sent as. */
export type EncodeBatch = (batch: RecordBatch) => Buffer

interface Follower {
  readonly output: FollowerOutput
  /** Last record sent; undefined before the first of all. */
  position: LogId | undefined
  /** Whether it takes the shared batches. */
  attached: boolean
  /** Called when it is no longer attached, or has ended. */
  wake: () => void
}

/** One journal's followers. */
class TailHub {
  readonly followers = new Set<Follower>()
  readonly #source: JournalSource
  readonly #encode: EncodeBatch
  readonly #stop = new AbortController()
  readonly #heartbeat: NodeJS.Timeout
  /** The last record that was shared. */
  #position: LogId | undefined
  #started: Promise<void> | undefined
  /** Why following ended, once it has. */
  #failure: unknown

  constructor(source: JournalSource, encode: EncodeBatch) {
    this.#source = source
    setMaxListeners(0, this.#stop.signal)
    this.#encode = encode
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS).unref()
  }

  /** Sends what comes after the follower's position until its output closes or the hub does. */
  async run(follower: Follower): Promise<void> {
    this.followers.add(follower)
    const { output } = follower
    const onClose = () => follower.wake()
    output.once('close', onClose)
    try {
      await this.#start()
      while (!output.destroyed && !this.#stop.signal.aborted) {
        const shared = this.#position
        await this.#catchUp(follower)
        if (this.#failure !== undefined) throw this.#failure
        if (!this.#attach(follower, shared)) continue
        await new Promise<void>((resolve) => {
          follower.wake = resolve
          if (output.destroyed || this.#stop.signal.aborted) resolve()
        })
        follower.attached = false
      }
    } finally {
      output.off('close', onClose)
      this.followers.delete(follower)
    }
  }

  close(): void {
    clearInterval(this.#heartbeat)
    this.#stop.abort()
    for (const follower of this.followers) follower.wake()
  }

  #start(): Promise<void> {
    this.#started ??= this.#source.end().then((end) => {
      this.#position = end
      this.#pump(end).catch((error: unknown) => {
        if (this.#stop.signal.aborted) return
        this.#failure = error
        for (const follower of this.followers) follower.wake()
      })
    })
    return this.#started
  }

  async #pump(from: LogId): Promise<void> {
    for await (const batch of this.#source.follow(from, this.#stop.signal)) {
      if (batch.length === 0) continue
      const bytes = this.#encode(batch)
      this.#position = batch.last
      for (const follower of this.followers) {
        if (follower.attached) this.#share(follower, batch, bytes)
      }
      batch.release()
    }
  }

  #share(follower: Follower, batch: RecordBatch, bytes: Buffer): void {
    const { output, position } = follower
    const seen = position === undefined ? 0 : recordsUpTo(batch, position)
    if (seen >= batch.length) return
    if (output.writableLength > MAX_UNSENT_BYTES) {
      follower.attached = false
      follower.wake()
      return
    }
    follower.position = batch.last
    output.write(seen === 0 ? bytes : this.#encode(batch.slice(seen)))
  }

  /** Reads for the follower alone, to the journal's end. */
  async #catchUp(follower: Follower): Promise<void> {
    const { output } = follower
    for (let read = true; read; ) {
      await drained(output, this.#stop.signal)
      read = false
      for await (const batch of this.#source.records(follower.position, CATCH_UP_BYTES)) {
        if (output.destroyed || this.#stop.signal.aborted) return
        if (batch.length === 0) continue
        read = true
        follower.position = batch.last
        output.write(this.#encode(batch))
        batch.release()
      }
    }
  }

  /** Takes part from now on, unless something was shared meanwhile that the follower has not read. */
  #attach(follower: Follower, sharedBefore: LogId | undefined): boolean {
    const shared = this.#position!
    const read = follower.position
    if (shared !== sharedBefore && (read === undefined || compareLogIds(read, shared) < 0))
      return false
    if (read === undefined || compareLogIds(read, shared) < 0) follower.position = shared
    follower.attached = true
    return true
  }

  #beat(): void {
    for (const { output } of this.followers)
      if (output.writableLength === 0) output.write(': still here\n\n')
  }
}

/** How many of the batch's records are at or before `id`. */
function recordsUpTo(batch: RecordBatch, id: LogId): number {
  if (id.log !== batch.log) return id.log > batch.log ? batch.length : 0
  return Math.max(0, id.marker - batch.first.marker + 1)
}

async function drained(output: FollowerOutput, signal: AbortSignal): Promise<void> {
  if (!output.writableNeedDrain || output.destroyed || signal.aborted) return
  await new Promise<void>((resolve) => {
    const done = () => {
      output.off('drain', done)
      output.off('close', done)
      signal.removeEventListener('abort', done)
      resolve()
    }
    output.once('drain', done)
    output.once('close', done)
    signal.addEventListener('abort', done)
  })
}

/** All journals' followers, counted against one limit. */
export class TailHubs {
  readonly #hubs = new Map<string, TailHub>()
  readonly #max: number
  readonly #stop = new AbortController()
  #open = 0

  constructor(max: number) {
    this.#max = max
    // Each who waits listens; how many may is bounded.
    setMaxListeners(0, this.#stop.signal)
  }

  /** Fires when the service closes: whoever waits for records stops. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /**
   * Counts one who waits for records while `wait` runs.
   * @returns null when there are too many already
   */
  async admit<T>(wait: () => Promise<T>): Promise<T | null> {
    if (this.#open >= this.#max) return null
    this.#open++
    try {
      return await wait()
    } finally {
      this.#open--
    }
  }

  /** Sends `output` what comes after `position`, until it closes or the service does. */
  async follow(
    key: string,
    source: JournalSource,
    encode: EncodeBatch,
    output: FollowerOutput,
    position: LogId | undefined,
  ): Promise<void> {
    let hub = this.#hubs.get(key)
    if (hub === undefined) {
      hub = new TailHub(source, encode)
      this.#hubs.set(key, hub)
    }
    try {
      await hub.run({ output, position, attached: false, wake: () => undefined })
    } finally {
      if (hub.followers.size === 0) {
        hub.close()
        if (this.#hubs.get(key) === hub) this.#hubs.delete(key)
      }
    }
  }

  close(): void {
    this.#stop.abort()
    for (const hub of this.#hubs.values()) hub.close()
    this.#hubs.clear()
  }
}
