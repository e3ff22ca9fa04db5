/**
 * Waking those who wait for a journal to change. File events where the system gives them, with a poll as a net for file systems
 * that give none: events lost or never sent cost latency, never a record. One watcher a directory however many wait, released with the last of them.
 */
import { type FSWatcher, watch } from 'node:fs'
import { resolve } from 'node:path'

/** How often to look when events come; and when none do. Milliseconds. */
const POLL_WITH_EVENTS_MS = 500
const POLL_WITHOUT_EVENTS_MS = 10

/** After news that no event told of, this many looks at the fast pace; then the slow one again. */
const FAST_LOOKS = 200

class SharedWatch {
  readonly #dir: string
  readonly #watcher: FSWatcher | null
  readonly #waiting = new Set<() => void>()
  users = 0
  /** Counts events. */
  changes = 0
  /** Counts events about names: files made, removed or renamed. */
  nameChanges = 0
  broken: boolean = false

  constructor(dir: string) {
    this.#dir = dir
    this.#watcher = this.#start()
  }

  #start(): FSWatcher | null {
    try {
      const watcher = watch(this.#dir, (event) => {
        this.changes++
        if (event === 'rename') this.nameChanges++
        this.#wake()
      })
      // Out of watches, or the directory is gone: from now on the poll does it alone.
      watcher.on('error', () => {
        this.broken = true
        this.#wake()
      })
      return watcher
    } catch {
      this.broken = true
      return null
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }

  add(wake: () => void): void {
    this.#waiting.add(wake)
  }

  remove(wake: () => void): void {
    this.#waiting.delete(wake)
  }

  close(): void {
    this.#watcher?.close()
  }
}

const shared = new Map<string, SharedWatch>()

export class DirectoryWatch {
  readonly #key: string
  readonly #watch: SharedWatch
  #seen: number
  #fastLooks = 0
  #closed: boolean = false

  /** Changes are noticed from now on, also those before the first `changed()`. */
  constructor(dir: string) {
    this.#key = resolve(dir)
    let watch = shared.get(this.#key)
    if (watch === undefined) {
      watch = new SharedWatch(this.#key)
      shared.set(this.#key, watch)
    }
    watch.users++
    this.#watch = watch
    this.#seen = watch.changes
  }

  /** Changes whenever a file was made or removed, as far as events tell. */
  get names(): number {
    return this.#watch.nameChanges
  }

  /** Resolves when something has changed since the last call, when it is time to look anyway, or on abort. */
  async changed(signal: AbortSignal): Promise<'event' | 'poll' | 'aborted'> {
    if (signal.aborted) return 'aborted'
    if (this.#watch.changes !== this.#seen) {
      this.#seen = this.#watch.changes
      return 'event'
    }
    const fast = this.#watch.broken || this.#fastLooks > 0
    if (this.#fastLooks > 0) this.#fastLooks--
    const why = await new Promise<'event' | 'poll' | 'aborted'>((settle) => {
      const done = (reason: 'event' | 'poll' | 'aborted') => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
        this.#watch.remove(onEvent)
        settle(reason)
      }
      const onEvent = () => done('event')
      const onAbort = () => done('aborted')
      const timer = setTimeout(
        () => done('poll'),
        fast ? POLL_WITHOUT_EVENTS_MS : POLL_WITH_EVENTS_MS,
      )
      signal.addEventListener('abort', onAbort, { once: true })
      this.#watch.add(onEvent)
    })
    this.#seen = this.#watch.changes
    return why
  }

  /** A poll found news: events do not come here, so look more often for a while. */
  missed(): void {
    this.#fastLooks = FAST_LOOKS
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#watch.users--
    if (this.#watch.users > 0) return
    if (shared.get(this.#key) === this.#watch) shared.delete(this.#key)
    this.#watch.close()
  }
}
