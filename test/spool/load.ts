/**
 * Runs child-load.mjs, kills it, and holds the spool and the journal against what the child was told:
 * every acknowledged message byte for byte, nothing removed come back, each reception logged once.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect } from 'vitest'
import { checkSpool, openSpool, type Spool } from '../../spool/index.js'
import { sha256 } from './support.js'

const SCRIPT = join(import.meta.dirname, 'child-load.mjs')

interface Line {
  ready?: boolean
  stored?: string[]
  size?: number
  sha256?: string
  meta?: string
  version?: number
  removing?: string
  removed?: string
}

/** What was acknowledged over all runs. */
export class Ledger {
  readonly stored = new Map<string, { sha256: string; size: number }>()
  readonly versions = new Map<string, number>()
  readonly removing = new Set<string>()
  readonly removed = new Set<string>()

  take(line: Line): void {
    for (const id of line.stored ?? []) {
      this.stored.set(id, { sha256: line.sha256 as string, size: line.size as number })
    }
    if (line.meta !== undefined) this.versions.set(line.meta, line.version as number)
    if (line.removing !== undefined) this.removing.add(line.removing)
    if (line.removed !== undefined) this.removed.add(line.removed)
  }
}

export interface Load {
  readonly child: ChildProcess
  /** Acknowledgements in this run. */
  readonly count: () => number
  /** Resolves after so many acknowledgements, or when the child has ended. */
  acknowledged(count: number): Promise<void>
  /** Resolves when the child has ended and all it said is in the ledger. */
  readonly ended: Promise<void>
}

export function startLoad(
  ledger: Ledger,
  path: string,
  journal: string,
  { compacts = false } = {},
): Load {
  const child = spawn(process.execPath, [SCRIPT, path, journal], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...(compacts ? { COMPACTS: '1' } : {}) },
  })
  let count = 0
  let wake: () => void = () => undefined
  const exited = once(child, 'exit')
  const read = (async () => {
    for await (const text of createInterface(child.stdout!)) {
      let line: Line
      try {
        line = JSON.parse(text) as Line
      } catch {
        continue // cut off by the kill
      }
      ledger.take(line)
      if (line.stored !== undefined) count++
      wake()
    }
  })()
  const ended = Promise.all([exited, read]).then(() => undefined)
  return {
    child,
    count: () => count,
    ended,
    async acknowledged(wanted) {
      const over = ended.then(() => 'over' as const)
      while (count < wanted) {
        const woken = new Promise<'woken'>((resolve) => {
          wake = () => resolve('woken')
        })
        if ((await Promise.race([woken, over])) === 'over') return
      }
    },
  }
}

/** Lets the relay finish what the crash left in the outbox. */
export async function relayRest(path: string, journal: string): Promise<void> {
  const child = spawn(process.execPath, [SCRIPT, path, journal], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, RELAY_ONLY: '1' },
  })
  const [code] = (await once(child, 'exit')) as [number | null]
  expect(code).toBe(0)
}

/** Opens the spool after a crash and compares it with the ledger. Returns messages compared. */
export async function compare(ledger: Ledger, path: string, journal: string): Promise<number> {
  await relayRest(path, journal)
  const { problems, staged } = await checkSpool(path)
  expect({ problems, staged }).toEqual({ problems: [], staged: 0 })
  const spool = await openSpool({ path })
  try {
    await compareMessages(ledger, spool)
  } finally {
    await spool.close()
  }
  const logged = new Map<string, number>()
  for (const line of (await readFile(journal, 'utf8')).split('\n')) {
    if (line === '') continue
    const { id } = JSON.parse(line) as { id: string }
    logged.set(id, (logged.get(id) ?? 0) + 1)
  }
  const wrong = [...ledger.stored.keys()].filter((id) => logged.get(id) !== 1)
  expect(wrong).toEqual([])
  expect([...logged.values()].filter((times) => times !== 1)).toEqual([])
  return ledger.stored.size
}

async function compareMessages(ledger: Ledger, spool: Spool): Promise<void> {
  const lost: string[] = []
  for (const [id, { sha256: digest, size }] of ledger.stored) {
    if (ledger.removed.has(id)) {
      await expect(spool.meta(id)).rejects.toMatchObject({ code: 'SPOOL_ERR_NOT_FOUND' })
      continue
    }
    try {
      const body = await (await spool.swapIn(id)).buffer()
      if (body.length !== size || sha256(body) !== digest) lost.push(`${id}: other bytes`)
      const { version } = await spool.meta(id)
      if (version < (ledger.versions.get(id) ?? 1)) lost.push(`${id}: meta went back`)
    } catch (error) {
      if (!ledger.removing.has(id)) lost.push(`${id}: ${String(error)}`)
    }
  }
  expect(lost).toEqual([])
}
