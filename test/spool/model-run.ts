/**
 * Runs operations on a real spool in a process of its own, that is killed now and then, and on the model
 * beside it; after each kill, and every now and then, all of both is compared.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect } from 'vitest'
import { checkSpool } from '../../spool/index.js'
import { type Answer, Calls, type Dump, LARGE, type Prepared } from './model-calls.js'
import type { Op } from './model-ops.js'
import { metaOf, textOf, World } from './model-state.js'

const SCRIPT = join(import.meta.dirname, 'child-model.mjs')
/** With more messages no further ones are made. */
const MAX_MESSAGES = 80

export interface ModelOptions {
  /** Messages may be deferred. */
  readonly defers: boolean
  /** Seconds. */
  readonly maxRetention: number | null
}

/** Returns how many operations were done. Throws what the comparison throws, with the operations before. */
export async function runModel(ops: readonly Op[], options: ModelOptions): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'bobbin-model-'))
  const run = new Run(join(directory, 'spool'), options)
  try {
    await run.open(false)
    for (const op of ops) await run.do(op)
    await run.finish()
    return run.steps
  } catch (error) {
    if (error instanceof Error) error.message += `\n\n${run.history()}`
    throw error
  } finally {
    await run.kill()
    await rm(directory, { recursive: true, force: true })
  }
}

class Run {
  steps = 0
  readonly #path: string
  readonly #options: ModelOptions
  readonly #world = new World()
  readonly #calls: Calls
  readonly #done: string[] = []
  #child: Child | undefined
  #now = Date.now()
  /** Events from here on may have come in any order. */
  #ordered = 0

  constructor(path: string, options: ModelOptions) {
    this.#path = path
    this.#options = options
    this.#calls = new Calls(this.#world, options)
  }

  async open(compress: boolean): Promise<void> {
    this.#child = new Child()
    await this.#call('open', {
      path: this.#path,
      options: {
        largeMessageThreshold: LARGE,
        compression: compress ? 'deflate' : 'none',
        ...(this.#options.maxRetention === null
          ? {}
          : { maxRetention: this.#options.maxRetention }),
        ...(this.#options.defers
          ? { unsafeSpooling: true, suppressRetries: 2, maxResidentMessages: 12 }
          : {}),
      },
    })
  }

  async do(op: Op): Promise<void> {
    this.#now += op.op === 'advance' ? op.seconds * 1000 : 1
    this.#calls.now = this.#now
    if (op.op === 'together') return this.#together(op)
    if (op.op === 'reopen') return this.#reopen(op.how, op.compress)
    if (op.op === 'dump') return this.#compare()
    const prepared = this.#prepare(op)
    if (prepared === null) return
    this.#ordered = this.#world.events.length
    prepared.settle(await this.#ask(prepared))
    if (op.op === 'advance' || op.op === 'multi') await this.#compare()
  }

  async finish(): Promise<void> {
    await this.#compare()
    const checked = await this.#call('check', {})
    expect(checked).toMatchObject({ found: 0 })
    await this.#call('close', {})
    // A body that is being deleted may be left for the next open.
    expect(await checkSpool(this.#path)).toMatchObject({ problems: [] })
  }

  async kill(): Promise<void> {
    await this.#child?.kill()
  }

  history(): string {
    return `the last of ${this.steps} operations:\n${this.#done.slice(-12).join('\n')}`
  }

  #prepare(op: Op): Prepared | null {
    const isFull = this.#world.messages.size >= MAX_MESSAGES
    const makes = op.op === 'store' || op.op === 'multi' || op.op === 'refs' || op.op === 'copy'
    const prepared = this.#calls.prepare(isFull && makes ? REMOVE : op)
    if (prepared === null) return null
    this.steps++
    const { call, args, about } = prepared
    const short = JSON.stringify(args, (_, value) =>
      typeof value === 'string' && value.length > 80 ? `… ${value.length}` : value,
    )
    this.#done.push(`${this.#now} ${call} ${about.join(' ')} ${short}`)
    return prepared
  }

  async #ask({ call, args }: Prepared): Promise<Answer> {
    const answer = await (this.#child as Child).call(call, args, this.#now)
    if (answer === undefined) throw new Error(`the process has ended at ${call}`)
    return answer
  }

  async #call(call: string, args: object): Promise<unknown> {
    const answer = await this.#ask({ call, args, about: [], settle: () => undefined })
    if ('error' in answer) throw new Error(`${call}: ${answer.error}`)
    return answer.value
  }

  async #reopen(how: 'close' | 'compact' | 'kill', compress: boolean): Promise<void> {
    this.steps++
    this.#done.push(how)
    this.#ordered = this.#world.events.length
    if (how === 'compact') await this.#call('compact', {})
    if (how !== 'kill') {
      await this.#call('close', {})
      for (const message of this.#world.messages.values()) message.held = false
      this.#world.synced()
    }
    await this.kill()
    await this.open(compress)
    await this.#compare([], [])
  }

  /** Several at once; what was not answered before the kill was done or not. */
  async #together(op: Op & { op: 'together' }): Promise<void> {
    const about = new Set<string>()
    const prepared: Prepared[] = []
    for (const each of op.ops) {
      const next = this.#prepare(each)
      if (next === null || next.about.some((name) => about.has(name))) continue
      for (const name of next.about) about.add(name)
      prepared.push(next)
    }
    this.#ordered = this.#world.events.length
    const child = this.#child as Child
    let answered = 0
    const asked = prepared.map(async ({ call, args }) => {
      const answer = await child.call(call, args, this.#now)
      if (++answered === op.killAfter) void child.kill()
      return answer
    })
    if (op.killAfter === 0) void child.kill()
    const answers = await Promise.all(asked)
    const open: Prepared[] = []
    for (const [i, answer] of answers.entries()) {
      const each = prepared[i] as Prepared
      if (answer === undefined) open.push(each)
      else each.settle(answer)
    }
    if (op.killAfter === null) return this.#compare()
    this.#done.push(`killed, ${open.length} of ${prepared.length} not answered`)
    await this.kill()
    await this.open(op.compress)
    await this.#compare(
      open,
      open.flatMap(({ maybe = [] }) => maybe),
    )
  }

  /** After a kill: `open` may have been done, and `maybe` logged. */
  async #compare(open?: readonly Prepared[], maybe: readonly string[] = []): Promise<void> {
    const all = (await this.#call('dump', {})) as Dump
    const dump = { ...all, tail: all.events.slice(this.#ordered) }
    const { messages, kept } = this.#world
    const isAfterKill = open !== undefined
    for (const { find } of open ?? []) find?.(dump)
    const there = new Map(dump.metas.map((meta) => [meta.id, meta]))
    for (const message of [...messages.values()]) {
      const meta = there.get(message.id)
      if (isAfterKill) this.#takeBack(message.id, meta && textOf(meta))
      if (messages.has(message.id)) {
        expect(meta && textOf(meta), message.id).toBe(textOf(metaOf(message.now)))
        const { body } = message.now
        expect(dump.contents[message.id], message.id).toEqual(
          body && { size: body.size, sha256: body.sha256 },
        )
      }
    }
    expect(dump.metas.map(({ id }) => id)).toEqual(this.#world.ids)
    const byDue = this.#world.byDue.map(({ id }) => id)
    expect(dump.byDue).toEqual(byDue)
    expect(dump.stats).toMatchObject({ ...this.#world.sums(), readOnly: null })
    expect(dump.quarantine.map(({ name }) => name)).toEqual([...kept.keys()].sort())
    this.#compareEvents(dump, maybe)
    if (!isAfterKill) this.#world.synced()
  }

  /** What a kill may have undone of a message: writes that were not forced, and all of it when it was in memory. */
  #takeBack(id: string, there: string | undefined): void {
    const message = this.#world.messages.get(id)
    if (message === undefined) return
    if (there === undefined && message.held) {
      this.#world.set(message, null)
      for (const claim of this.#world.claims.values()) {
        if (claim.ids.includes(id)) claim.unsure = true
      }
      return
    }
    const older = message.older.find((state) => textOf(metaOf(state)) === there)
    if (older !== undefined) message.now = older
    message.older = []
    message.held = false
  }

  #compareEvents({ events, tail }: Dump, maybe: readonly string[]): void {
    const from = this.#ordered
    expect(events.slice(0, from)).toEqual(this.#world.events.slice(0, from))
    const left = [...tail]
    for (const event of this.#world.events.slice(from)) {
      const at = left.indexOf(event)
      if (at < 0) expect.fail(`not logged: ${event}`)
      left.splice(at, 1)
    }
    const possible = [...maybe]
    const unexplained = left.filter((event) => {
      const at = possible.indexOf(event)
      if (at >= 0) possible.splice(at, 1)
      // Of a message that was lost before it was answered.
      return at < 0 && !(this.#options.defers && event.startsWith('reception '))
    })
    expect(unexplained).toEqual([])
    this.#world.events = events
    this.#ordered = events.length
  }
}

const REMOVE: Op = { op: 'remove', pick: 7 }

/** The process, and calls to it. */
class Child {
  readonly #process: ChildProcess
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>()
  readonly #ended: Promise<unknown>
  #next = 0

  constructor() {
    this.#process = spawn(process.execPath, [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#process.stdin?.on('error', () => undefined)
    const exited = once(this.#process, 'exit')
    const lines = createInterface(this.#process.stdout!)
    const read = (async () => {
      for await (const line of lines) {
        let said: { n: number } & Answer
        try {
          said = JSON.parse(line) as typeof said
        } catch {
          continue // cut off by the kill
        }
        const { n, ...answer } = said
        this.#waiting.get(n)?.(answer)
        this.#waiting.delete(n)
      }
    })()
    this.#ended = Promise.all([exited, read]).then(() => {
      for (const settle of this.#waiting.values()) settle(undefined)
      this.#waiting.clear()
    })
  }

  /** undefined: it ended before it answered. */
  call(call: string, args: object, time: number): Promise<Answer | undefined> {
    const n = this.#next++
    return new Promise((resolve) => {
      this.#waiting.set(n, resolve)
      this.#process.stdin?.write(`${JSON.stringify({ n, call, args, time })}\n`)
    })
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#ended
  }
}
