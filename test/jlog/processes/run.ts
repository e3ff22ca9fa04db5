/** A run of several processes on one journal, from its making to the verdict. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type CreateOptions,
  createJournal,
  lastId,
  openWriter,
  readRecords,
} from '../../../jlog/index.js'
import { ACK_BYTES, labelOf, randomFrom } from './common.mjs'
import { Fleet, type Role } from './fleet.js'
import { Verdict } from './verdict.js'

export interface RunOptions extends Omit<CreateOptions, 'subscribers'> {
  /** Records to be acknowledged, at least. */
  readonly records: number
  /** Processes to be killed, at least. */
  readonly kills: number
  /** Records that each writer appends a millisecond, about. */
  readonly rate: number
  readonly checksums: boolean
  /** Whether segments that all have read may go; otherwise a subscriber that never moves holds them. */
  readonly removing: boolean
  /** Repair it all the while. */
  readonly repairing?: boolean
  readonly writers?: number
  readonly subscribers?: number
  readonly seed?: number
  /** The command of a writer or subscriber, where another program than ours is to do it. */
  readonly instead?: (task: Task) => readonly string[] | null
  /** Further processes; they end when the file `finish` is there. */
  readonly further?: (dir: string, finish: string) => readonly Role[]
}

/** What a process is started for. */
export interface Task {
  readonly kind: 'writer' | 'subscriber'
  readonly name: string
  readonly number: number
  readonly incarnation: number
  readonly dir: string
  /** The file that ends it. */
  readonly until: string
  readonly rate: number
}

export interface RunReport {
  readonly problems: readonly string[]
  readonly records: number
  readonly acknowledged: number
  readonly kills: number
  readonly segments: number
  /** Names in the journal that are neither its own files nor those of its segments. */
  readonly strays: readonly string[]
}

const HERE = import.meta.dirname
const PATIENCE_MS = 120_000
const KILL_WITHIN_MS = 80

export async function run(scratch: string, options: RunOptions): Promise<RunReport> {
  const { rate, checksums, removing, seed = Math.floor(Math.random() * 2 ** 31) } = options
  const dir = join(scratch, 'journal')
  const out = join(scratch, 'said')
  const stop = join(scratch, 'stop')
  const finish = join(scratch, 'finish')
  await mkdir(out)
  const names = (kind: string, count: number) => Array.from({ length: count }, (_, i) => kind + i)
  const writers = names('writer', options.writers ?? 2)
  const subscribers = names('subscriber', options.subscribers ?? 2)
  await createJournal(dir, {
    ...options,
    subscribers: removing ? subscribers : [...subscribers, '~keeper'],
  })
  const fleet = new Fleet(out, randomFrom(seed))
  const node = (script: string, ...args: readonly string[]) => [
    process.execPath,
    join(HERE, script),
    ...args,
  ]
  const other = options.instead ?? (() => null)
  try {
    writers.forEach((name, number) => {
      fleet.start({
        name,
        mortal: true,
        command: (incarnation) =>
          other({ kind: 'writer', name, number, incarnation, dir, until: stop, rate }) ??
          node(
            'writer.mjs',
            dir,
            `${name}.${incarnation}`,
            stop,
            String(rate),
            checksums ? '{"checksums":true}' : '{}',
          ),
      })
    })
    subscribers.forEach((name, number) => {
      fleet.start({
        name,
        mortal: true,
        command: (incarnation) =>
          other({ kind: 'subscriber', name, number, incarnation, dir, until: finish, rate }) ??
          node('subscriber.mjs', dir, name, finish, String(seed + incarnation)),
      })
    })
    fleet.start({
      name: 'follower',
      mortal: true,
      command: (_, said) => node('follower.mjs', dir, finish, lastSeen(said)),
    })
    const caretakers = ['clean', 'index', 'look', ...(options.repairing ? ['repair'] : [])]
    for (const task of caretakers) {
      fleet.start({
        name: task,
        mortal: true,
        command: () => node('caretaker.mjs', dir, task, finish),
      })
    }
    for (const role of options.further?.(dir, finish) ?? []) fleet.start(role)

    const acknowledged = () =>
      writers.reduce((sum, name) => sum + fleet.saidBytes(name), 0) / ACK_BYTES
    while (fleet.kills < options.kills || acknowledged() < options.records) {
      if (fleet.failures.length > 0) break
      await fleet.killOne(KILL_WITHIN_MS)
    }
    await writeFile(stop, '')
    await fleet.ended(writers, PATIENCE_MS)
    // What a killed one left half done is for the next writer to see to.
    await (await openWriter(dir, { checksums })).close()
    const final = await lastId(dir)
    // Whole when it is there: it is looked at all the while.
    await writeFile(`${finish}.new`, `${final.log} ${final.marker}`)
    await rename(`${finish}.new`, finish)
    await fleet.ended([...subscribers, 'follower', ...caretakers], PATIENCE_MS)
    return await judge(fleet, dir, { writers, subscribers, removing })
  } catch (error) {
    throw new Error(`${(error as Error).message}; seed ${seed}; ${fleet.failures.join('; ')}`)
  } finally {
    await fleet.end()
  }
}

async function judge(
  fleet: Fleet,
  dir: string,
  {
    writers,
    subscribers,
    removing,
  }: { writers: string[]; subscribers: string[]; removing: boolean },
): Promise<RunReport> {
  const verdict = new Verdict()
  for (const name of writers) {
    for (const [i, said] of fleet.said(name).entries()) verdict.addWriter(`${name}.${i}`, said)
  }
  for (const name of [...subscribers, 'follower']) verdict.addReader(name, fleet.said(name))
  for await (const batch of readRecords(dir)) {
    for (const { id, payload } of batch) verdict.addRecord(id, labelOf(payload))
  }
  verdict.judgeRecords()
  for (const name of subscribers) verdict.judgeSubscriber(name)
  verdict.judgeFollower('follower', removing)
  const names = await readdir(dir)
  return {
    problems: [...fleet.failures, ...verdict.problems],
    records: verdict.records,
    acknowledged: verdict.acknowledged,
    kills: fleet.kills,
    segments: names.filter((name) => /^[0-9a-f]{8}$/.test(name)).length,
    strays: names.filter(
      (name) => !/^(?:[0-9a-f]{8}(?:\.idx|\.sum)?|cp\.[0-9a-f]+|metastore|pre_commit)$/.test(name),
    ),
  }
}

/** The id that a follower said last, for its next incarnation to go on after. */
function lastSeen(said: readonly string[]): string {
  for (const text of said.toReversed()) {
    const line = text.split('\n').at(-2)
    if (line !== undefined) return line.split(' ').slice(1, 3).join(' ')
  }
  return 'begin'
}

export function isBuilt(): boolean {
  return existsSync(join(HERE, '../../../dist/jlog/index.js'))
}
