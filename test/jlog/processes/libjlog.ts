/**
 * libjlog as a peer in the tests, where there is one: the environment variable TEST_LIBJLOG names its shared library, and
 * libjlog.py calls it.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { RunOptions, Task } from './run.js'

const PEER = join(import.meta.dirname, 'libjlog.py')

/** Why libjlog cannot take part; null when it can. */
export function whyNoLibjlog(): string | null {
  const library = process.env.TEST_LIBJLOG
  if (library === undefined) return 'TEST_LIBJLOG does not name a shared library of libjlog'
  if (!existsSync(library)) return `TEST_LIBJLOG names ${library}, which is not there`
  try {
    execFileSync('python3', ['--version'], { stdio: 'ignore' })
    return null
  } catch {
    return 'there is no python3 to call libjlog with'
  }
}

/** Runs libjlog to the end. @returns the lines that it said */
export function libjlog(...args: readonly string[]): string[] {
  const said = execFileSync('python3', [PEER, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  return said.toString().split('\n').slice(0, -1)
}

/**
 * Every second writer is libjlog's; the first subscriber is, the second is ours, each further one is the one's and the
 * other's in turn; and both clean.
 */
export const MIXED = {
  instead: ({ kind, name, number, incarnation, dir, until, rate }: Task) => {
    const turn = number > 1 ? incarnation : number
    const theirs = kind === 'writer' ? number % 2 === 1 : turn % 2 === 0
    if (!theirs) return null
    const args =
      kind === 'writer' ? [`${name}.${incarnation}`, until, `${rate}`] : [name, until, '1']
    return ['python3', PEER, kind, dir, ...args]
  },
  further: (dir, finish) => [
    {
      name: 'their-cleaner',
      mortal: true,
      command: () => ['python3', PEER, 'cleaner', dir, finish],
    },
  ],
} satisfies Partial<RunOptions>
