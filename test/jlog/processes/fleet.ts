/**
 * Processes at work on one journal, killed at random and started again, each incarnation with a file of its own for what it
 * says. Which process does what is up to the caller.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** One that takes part. */
export interface Role {
  readonly name: string
  /** The command for the incarnation with this number; `said` is what those before it have said. */
  readonly command: (incarnation: number, said: readonly string[]) => readonly string[]
  /** Whether it may be killed. */
  readonly mortal: boolean
}

interface Running {
  readonly role: Role
  readonly files: string[]
  process: ChildProcess
  ended: Promise<void>
}

export class Fleet {
  readonly #out: string
  readonly #random: () => number
  readonly #running: Running[] = []
  readonly #failures: string[] = []
  kills = 0

  constructor(out: string, random: () => number) {
    this.#out = out
    this.#random = random
  }

  /** What went wrong: processes that ended by themselves and not well. */
  get failures(): readonly string[] {
    return this.#failures
  }

  start(role: Role): void {
    const running = { role, files: [] } as unknown as Running
    this.#running.push(running)
    this.#incarnate(running)
  }

  /** Files of what it has said, one an incarnation. */
  said(name: string): string[] {
    const files = this.#running.find(({ role }) => role.name === name)?.files ?? []
    return files.map((file) => readFileSync(file, 'latin1'))
  }

  /** Bytes that it has said. */
  saidBytes(name: string): number {
    const files = this.#running.find(({ role }) => role.name === name)?.files ?? []
    return files.reduce((sum, file) => sum + statSync(file).size, 0)
  }

  /** Kills one that has said something since it was started, a random moment later, and starts it again. */
  async killOne(within: number): Promise<void> {
    const mortal = this.#running.filter(({ role, process }) => role.mortal && isAlive(process))
    const victim = mortal[Math.floor(this.#random() * mortal.length)]
    if (victim === undefined) return
    const { process } = victim
    const until = performance.now() + 2000
    while (isAlive(process) && statSync(victim.files.at(-1)!).size === 0) {
      if (performance.now() > until) return
      await delay(2)
    }
    await delay(this.#random() * within)
    if (!isAlive(process)) return
    process.kill('SIGKILL')
    await victim.ended
    if (process.signalCode === 'SIGKILL') this.kills++
    this.#incarnate(victim)
  }

  /**
   * Settles when all of these have ended by themselves.
   * @throws an Error that names those who are stuck, after `timeout` milliseconds; they are killed then
   */
  async ended(names: readonly string[], timeout: number): Promise<void> {
    const waited = this.#running.filter(({ role }) => names.includes(role.name))
    const all = Promise.all(waited.map(({ ended }) => ended))
    await Promise.race([all, delay(timeout, undefined, { ref: false })])
    const stuck = waited.filter(({ process }) => isAlive(process)).map(({ role }) => role.name)
    if (stuck.length > 0) throw new Error(`stuck: ${stuck.join(', ')}`)
  }

  /** Kills what is left. */
  async end(): Promise<void> {
    for (const { process } of this.#running) process.kill('SIGKILL')
    await Promise.all(this.#running.map(({ ended }) => ended))
  }

  #incarnate(running: Running): void {
    const { role, files } = running
    const incarnation = files.length
    const said = files.map((file) => readFileSync(file, 'latin1'))
    const [command, ...args] = role.command(incarnation, said)
    const file = join(this.#out, `${role.name}.${incarnation}`)
    const errors = `${file}.errors`
    const fds = [openSync(file, 'a'), openSync(errors, 'a')]
    files.push(file)
    running.process = spawn(command!, args, { stdio: ['ignore', ...fds] })
    for (const fd of fds) closeSync(fd)
    const { process } = running
    running.ended = once(process, 'exit').then(() => {
      if (process.exitCode === 0 || process.signalCode === 'SIGKILL') return
      const how = process.signalCode ?? process.exitCode
      this.#failures.push(`${role.name} ended (${how}): ${readFileSync(errors, 'utf8')}`)
    })
  }
}

function isAlive(process: ChildProcess): boolean {
  return process.exitCode === null && process.signalCode === null
}
