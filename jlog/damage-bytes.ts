/**
 * A file's words at any offset, for code that must jump about in damaged bytes: one window that slides forward, and
 * single small reads outside it. Memory is the window, whatever the file holds or claims.
 *
 * Reads are synchronous: a jump costs a system call of a microsecond or two, where a promise would cost twenty. Whoever
 * walks with it lets it `breathe` when it is `breathless`, so that the process serves others in between.
 */
import { readSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { JlogError } from './errors.js'

const WINDOW_BYTES = 256 * 1024
/** Bytes a single look outside the window takes: the longest header, and a little. */
const GLANCE_BYTES = 32
/** The event loop gets a turn about so often. */
const BREATH_MS = 8

export class DamageBytes {
  /** Bytes of the file that are looked at; what lies after them is not there. */
  readonly size: number
  readonly #fd: number
  readonly #path: string
  readonly #window: Buffer
  #start = 0
  #end = 0
  readonly #glance = Buffer.allocUnsafeSlow(GLANCE_BYTES)
  #glanceStart = 0
  #glanceEnd = 0
  #lastBreath = performance.now()
  #steps = 0

  constructor(fd: number, size: number, path: string) {
    this.#fd = fd
    this.size = size
    this.#path = path
    this.#window = Buffer.allocUnsafeSlow(Math.max(GLANCE_BYTES, Math.min(WINDOW_BYTES, size)))
  }

  /** Little-endian u32 at `at`; the caller knows that `at + 4 <= size`. */
  word(at: number): number {
    if (at >= this.#start && at + 4 <= this.#end) {
      return this.#window.readUInt32LE(at - this.#start)
    }
    if (at < this.#glanceStart || at + 4 > this.#glanceEnd) {
      this.#glanceStart = at
      this.#glanceEnd = at + this.#read(this.#glance, at)
      if (at + 4 > this.#glanceEnd) throw this.#shrunk(at)
    }
    return this.#glance.readUInt32LE(at - this.#glanceStart)
  }

  byte(at: number): number {
    if (at >= this.#start && at < this.#end) return this.#window[at - this.#start]!
    if (at < this.#glanceStart || at >= this.#glanceEnd) {
      this.#glanceStart = at
      this.#glanceEnd = at + this.#read(this.#glance, at)
      if (at >= this.#glanceEnd) throw this.#shrunk(at)
    }
    return this.#glance[at - this.#glanceStart]!
  }

  /** Says that work goes on at `at`, forward: slides the window there when it is about to be left. */
  slide(at: number): void {
    if (at >= this.#start && (at + GLANCE_BYTES <= this.#end || this.#end === this.size)) return
    this.#load(at)
  }

  /**
   * Looks for the four bytes `word` in [from, to), as far as the window goes.
   * @returns the offset where they begin; or, negative, that nothing begins before `-result`: to be called again from there
   */
  find(word: Buffer, from: number, to: number): number {
    const last = Math.min(to + word.length - 1, this.size)
    if (from + word.length > last) return -last
    if (from < this.#start || from + word.length > this.#end) this.#load(from)
    const end = Math.min(this.#end, last)
    const found = this.#window.subarray(0, end - this.#start).indexOf(word, from - this.#start)
    return found >= 0 ? this.#start + found : -(end === last ? last : end - word.length + 1)
  }

  /** First offset in [from, to) whose byte is not 0, looking as far as the window goes; `to` or the window's end if none. */
  skipZeros(from: number, to: number): number {
    if (from < this.#start || from >= this.#end) this.#load(from)
    const end = Math.min(this.#end, to) - this.#start
    let at = from - this.#start
    while (at < end && this.#window[at] === 0) at++
    return this.#start + at
  }

  /** True when it is time for `breathe`; asked once a step, it costs next to nothing. */
  get breathless(): boolean {
    if (++this.#steps < 1024) return false
    this.#steps = 0
    return performance.now() - this.#lastBreath >= BREATH_MS
  }

  /** Gives the event loop a turn. */
  async breathe(): Promise<void> {
    await nextTurn()
    this.#lastBreath = performance.now()
  }

  #load(at: number): void {
    this.#steps += 128
    this.#start = at
    const wanted = Math.min(this.#window.length, this.size - at)
    this.#end = at + this.#read(this.#window.subarray(0, wanted), at)
    if (this.#end < at + wanted) throw this.#shrunk(this.#end)
  }

  #read(into: Buffer, at: number): number {
    let got = 0
    const wanted = Math.min(into.length, this.size - at)
    try {
      while (got < wanted) {
        const n = readSync(this.#fd, into, got, wanted - got, at + got)
        if (n === 0) break
        got += n
      }
    } catch (cause) {
      throw new JlogError('JLOG_ERR_FILE_READ', 'cannot read', {
        file: this.#path,
        offset: at,
        cause,
        advice: 'the disk may be failing: copy the journal elsewhere and repair the copy',
      })
    }
    return got
  }

  #shrunk(at: number): JlogError {
    return new JlogError('JLOG_ERR_FILE_READ', 'the file became shorter while it was read', {
      file: this.#path,
      offset: at,
      advice: 'another process is repairing it; try again',
    })
  }
}
