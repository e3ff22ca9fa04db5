/**
 * Judges a run by what all its processes said. Every one who saw a record must have seen the same one at its id; from that comes the
 * truth about the journal, also about segments that are gone. Then: what was acknowledged is there, each writer's records are
 * there once and in order without a gap, and each reader got one after the other.
 */
import { compareLogIds, formatLogId, type LogId } from '../../../jlog/index.js'

/** What one incarnation of a reader said. */
interface Reading {
  readonly records: readonly { readonly id: LogId; readonly label: string }[]
  /** Checkpoints that were begun, and whether they were seen to be done, in order. */
  readonly checkpoints: readonly { readonly id: LogId; readonly done: boolean }[]
}

const MOST_PROBLEMS = 20

export class Verdict {
  /** Labels by marker, of each segment. */
  readonly #truth = new Map<number, string[]>()
  readonly #ids = new Map<string, LogId>()
  readonly #readings = new Map<string, Reading[]>()
  readonly #acknowledged: { readonly label: string; readonly id: LogId | null }[] = []
  readonly #problems: string[] = []
  #count = 0

  /** What is wrong; empty when nothing is. */
  get problems(): readonly string[] {
    return this.#problems
  }

  /** Records known to be, or to have been, in the journal. */
  get records(): number {
    return this.#count
  }

  get acknowledged(): number {
    return this.#acknowledged.length
  }

  /** Lines `<n> <log> <marker>` of a writer's incarnation; or `<n>` alone of one that does not know the ids. */
  addWriter(who: string, said: string): void {
    for (const line of wholeLines(said)) {
      const [n, log, marker] = line.trim().split(' ')
      const id = log === undefined ? null : { log: Number(log), marker: Number(marker) }
      const label = `${who} ${n}`
      this.#acknowledged.push({ label, id })
      if (id !== null) this.#see(id, label, who)
    }
  }

  /** What the incarnations of a subscriber or follower said, in their order. */
  addReader(name: string, said: readonly string[]): void {
    const readings = said.map((text) => parseReading(text))
    this.#readings.set(name, readings)
    readings.forEach(({ records }) => {
      for (const { id, label } of records) this.#see(id, label, name)
    })
  }

  /** What lies on the disk at the end. */
  addRecord(id: LogId, label: string): void {
    this.#see(id, label, 'the disk')
  }

  /** To be called once all is known, before the readers are judged. */
  judgeRecords(): void {
    for (const { label, id } of this.#acknowledged) {
      const there = this.#ids.get(label)
      if (there === undefined) this.#problem(`${label} was acknowledged and is not there`)
      else if (id !== null && compareLogIds(there, id) !== 0) {
        this.#problem(`${label} is at ${formatLogId(there)}, and not at ${formatLogId(id)}`)
      }
    }
    const next = new Map<string, number>()
    const logs = [...this.#truth.keys()].sort((a, b) => a - b)
    for (const [i, log] of logs.entries()) {
      if (i > 0 && logs[i - 1] !== log - 1) this.#problem(`nobody saw segment ${log - 1}`)
      const labels = this.#truth.get(log)!
      for (let marker = 1; marker < labels.length; marker++) {
        const label = labels[marker]
        if (label === undefined) {
          this.#problem(`nobody saw ${formatLogId({ log, marker })}`)
          continue
        }
        this.#count++
        const [who, n] = label.split(' ')
        const expected = next.get(who!) ?? 0
        if (Number(n) !== expected) this.#problem(`${label} stands where ${who} ${expected} should`)
        next.set(who!, Number(n) + 1)
      }
    }
  }

  /** Each record once, from the beginning to the end; after a kill on from the last checkpoint. */
  judgeSubscriber(name: string): void {
    let begins: LogId[] = [{ log: 0, marker: 0 }]
    let last: LogId = { log: 0, marker: 0 }
    for (const [i, { records, checkpoints }] of this.#readings.get(name)!.entries()) {
      const who = `${name}.${i}`
      const [first] = records
      if (first !== undefined) {
        const may = begins.map((id) => this.#after(id)).filter((id) => id !== null)
        if (!may.some((id) => compareLogIds(id, first.id) === 0)) {
          const from = begins.map((id) => formatLogId(id)).join(' or ')
          this.#problem(`${who} began with ${formatLogId(first.id)} after ${from}`)
        }
      }
      this.#judgeRun(who, records)
      for (const { id, done } of checkpoints) begins = done ? [id] : [...begins, id]
      last = records.at(-1)?.id ?? last
    }
    this.#judgeEnd(name, last)
  }

  /**
   * As a subscriber, but what it read last is where it goes on.
   * @param overtaken whether segments may have been removed before it came to them
   */
  judgeFollower(name: string, overtaken: boolean): void {
    let last: LogId = { log: 0, marker: 0 }
    for (const [i, { records }] of this.#readings.get(name)!.entries()) {
      const who = `${name}.${i}`
      const [first] = records
      if (first === undefined) continue
      const next = this.#after(last)
      const goesOn = next !== null && compareLogIds(next, first.id) === 0
      if (!goesOn && !(overtaken && first.id.log > last.log && first.id.marker === 1)) {
        this.#problem(`${who} began with ${formatLogId(first.id)} after ${formatLogId(last)}`)
      }
      this.#judgeRun(who, records, overtaken)
      last = records.at(-1)!.id
    }
    this.#judgeEnd(name, last)
  }

  #judgeRun(who: string, records: Reading['records'], overtaken = false): void {
    for (let i = 1; i < records.length; i++) {
      const { id } = records[i]!
      const before = records[i - 1]!.id
      if (id.log === before.log && id.marker === before.marker + 1) continue
      const next = this.#after(before)
      if (next !== null && compareLogIds(next, id) === 0) continue
      const whole = before.marker === this.#last(before.log)
      if (overtaken && whole && id.log > before.log && id.marker === 1) continue
      this.#problem(`${who} got ${formatLogId(id)} after ${formatLogId(before)}`)
    }
  }

  #judgeEnd(name: string, last: LogId): void {
    const left = this.#after(last)
    if (left !== null) this.#problem(`${name} never got ${formatLogId(left)}`)
  }

  /** Last marker of a segment. */
  #last(log: number): number {
    return Math.max(0, (this.#truth.get(log)?.length ?? 0) - 1)
  }

  /** The record after this place; null at the end. */
  #after({ log, marker }: LogId): LogId | null {
    if (marker < this.#last(log)) return { log, marker: marker + 1 }
    return this.#truth.has(log + 1) ? { log: log + 1, marker: 1 } : null
  }

  #see(id: LogId, label: string, who: string): void {
    const at = formatLogId(id)
    let labels = this.#truth.get(id.log)
    if (labels === undefined) {
      labels = []
      this.#truth.set(id.log, labels)
    }
    const known = labels[id.marker]
    if (known === label) return
    if (known !== undefined) this.#problem(`${at} was ${known}, and ${label} to ${who}`)
    const elsewhere = this.#ids.get(label)
    if (elsewhere !== undefined) {
      this.#problem(`${label} is at ${formatLogId(elsewhere)} and at ${at} (${who})`)
    }
    labels[id.marker] = label
    this.#ids.set(label, id)
  }

  #problem(text: string): void {
    if (this.#problems.length < MOST_PROBLEMS) this.#problems.push(text)
  }
}

/** A line that a kill has cut counts as not said. */
function wholeLines(said: string): string[] {
  return said.split('\n').slice(0, -1)
}

function parseReading(said: string): Reading {
  const records: { id: LogId; label: string }[] = []
  const checkpoints: { id: LogId; done: boolean }[] = []
  for (const line of wholeLines(said)) {
    const [kind, log, marker, ...label] = line.split(' ')
    const id = { log: Number(log), marker: Number(marker) }
    if (kind === 'r') records.push({ id, label: label.join(' ') })
    else checkpoints.push({ id, done: kind === 'done' })
  }
  return { records, checkpoints }
}
