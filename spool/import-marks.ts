/**
 * What an import remembers, in the transaction of each message: so it knows after a kill what it did. A run that
 * did not come to its end goes on: what failed in it is not tried again, and not logged again. A new run
 * tries again what failed before, and leaves alone what was imported, unless it is told to begin anew.
 */
import type { Transaction } from './committer.js'
import type { Core } from './core.js'
import {
  decodeImportMark,
  decodeImportRun,
  encodeImportMark,
  encodeImportRun,
  type ImportRunRow,
  importMarkKey,
  importMarkRange,
  importRunKey,
} from './layout.js'
import { IMPORT_FORMATS, type ImportFormat, SUCCESS } from './sources/source.js'

/** Marks deleted in one transaction. */
const BATCH = 1000

export class ImportMarks {
  /** It goes on with a run that did not come to its end. */
  readonly resumed: boolean
  readonly #core: Core
  readonly #source: string
  readonly #run: ImportRunRow

  /** Begins a run, or goes on with one. `again`: also with what was imported before. */
  static async begin(
    core: Core,
    { base, format }: { base: string; format: ImportFormat },
    again: boolean,
  ): Promise<ImportMarks> {
    const last = lastRun(core, base)
    const resumed = last?.isOpen === true && !again
    const number = (last?.run ?? 0) + (resumed ? 0 : 1)
    const since = again ? number : (last?.since ?? 1)
    const run = { run: number, since, isOpen: true, path: base, format }
    const marks = new ImportMarks(core, base, resumed, run)
    if (!resumed) await marks.#write(marks.#run)
    return marks
  }

  private constructor(core: Core, source: string, resumed: boolean, run: ImportRunRow) {
    this.#core = core
    this.#source = source
    this.resumed = resumed
    this.#run = run
  }

  /** What became of a message: 1 imported, above 1 failed in this run, undefined: it is to be imported. */
  resultOf(message: string): number | undefined {
    return this.#result(this.#core.store.db('imports').get(importMarkKey(this.#source, message)))
  }

  /** As `resultOf`, within a transaction. */
  resultIn(tx: Transaction, message: string): number | undefined {
    return this.#result(tx.get('imports', importMarkKey(this.#source, message)))
  }

  /** Within the transaction of what it says. */
  put(tx: Transaction, message: string, result: number, id: Buffer | null): void {
    const row = encodeImportMark({ run: this.#run.run, result, id })
    tx.put('imports', importMarkKey(this.#source, message), row)
  }

  /** The source has these messages no more, durably. */
  async forget(messages: readonly string[]): Promise<void> {
    await this.#remove(messages.map((message) => importMarkKey(this.#source, message)))
  }

  /** The source has no message any more, durably. */
  async forgetAll(): Promise<void> {
    for (;;) {
      const keys: Buffer[] = []
      const range = { ...importMarkRange(this.#source), limit: BATCH }
      for (const key of this.#core.store.db('imports').getKeys(range)) keys.push(Buffer.from(key))
      if (keys.length === 0) return
      await this.#remove(keys)
    }
  }

  /** The run has come to its end. */
  async end(): Promise<void> {
    await this.#write({ ...this.#run, isOpen: false })
  }

  #result(row: Buffer | undefined): number | undefined {
    const mark = row === undefined ? undefined : decodeImportMark(row)
    if (mark === undefined) return undefined
    const { run, since } = this.#run
    const counts = mark.result === SUCCESS ? mark.run >= since : mark.run === run
    return counts ? mark.result : undefined
  }

  async #write(run: ImportRunRow): Promise<void> {
    const row = encodeImportRun(run)
    await this.#core.committer.submit(
      (tx) => tx.put('imports', importRunKey(this.#source), row),
      row.length,
    )
  }

  async #remove(keys: readonly Buffer[]): Promise<void> {
    await this.#core.committer.submit((tx) => {
      for (const key of keys) tx.remove('imports', key)
    }, keys.length * 64)
  }
}

/** The format that a source had when it was last imported: it may have no message left to tell it by. */
export function lastFormat(core: Core, source: string): ImportFormat | undefined {
  const format = lastRun(core, source)?.format
  return IMPORT_FORMATS.find((known) => known === format)
}

function lastRun(core: Core, source: string): ImportRunRow | undefined {
  const row = core.store.db('imports').get(importRunKey(source))
  return row === undefined ? undefined : decodeImportRun(row)
}
