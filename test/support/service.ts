/** The real service as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach } from 'vitest'

export const PROGRAM = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url))

export interface RunningService {
  readonly url: string
  readonly pid: number
  /** Log lines so far. */
  readonly log: readonly Record<string, unknown>[]
  /** Sends the signal; resolves with how the process ended. */
  kill(signal: NodeJS.Signals): Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** Sends the signal and does not wait. */
  signal(signal: NodeJS.Signals): void
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

const running = new Set<ChildProcess>()
const directories = new Set<string>()

/** A directory that is removed after the test. */
export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'bobbin-'))
  directories.add(path)
  return path
}

/** Starts it on a free port and waits until it takes requests. */
export async function startService(
  data: string,
  env: Record<string, string> = {},
  args: string[] = [],
): Promise<RunningService> {
  const child = spawn(
    process.execPath,
    [PROGRAM, 'serve', '--data', data, '--listen', '127.0.0.1:0', ...args],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    },
  )
  running.add(child)
  // Closed, not only gone: what it said last is in the log then.
  const ended = once(child, 'close').then(([code, signal]) => {
    running.delete(child)
    return { code: code as number | null, signal: signal as NodeJS.Signals | null }
  })
  const log: Record<string, unknown>[] = []
  let errors = ''
  child.stderr!.on('data', (text: Buffer) => {
    errors += text.toString()
  })
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const entry = JSON.parse(line) as Record<string, unknown>
      log.push(entry)
      if (entry.msg === 'ready') resolve(String(entry.address))
    })
    void ended.then(({ code, signal }) =>
      reject(new Error(`the service ended (${code ?? signal}): ${errors}`)),
    )
  })
  const send = (signal: NodeJS.Signals) => void child.kill(signal)
  return {
    url,
    pid: child.pid!,
    log,
    ended,
    signal: send,
    kill: (signal) => {
      send(signal)
      return ended
    },
  }
}

/** Runs `bobbin` to its end. */
export async function bobbin(
  args: string[],
  { input, env = {} }: { input?: Uint8Array | string; env?: Record<string, string> } = {},
): Promise<{ code: number | null; stdout: Buffer; stderr: string }> {
  const child = spawn(process.execPath, [PROGRAM, ...args], { env: { ...process.env, ...env } })
  running.add(child)
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes))
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString()
  })
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const [code] = (await once(child, 'close')) as [number | null]
  running.delete(child)
  return { code, stdout: Buffer.concat(stdout), stderr }
}

afterEach(async () => {
  await Promise.all(
    [...running].map(async (child) => {
      const exited = once(child, 'exit')
      if (child.kill('SIGKILL')) await exited
    }),
  )
  running.clear()
  for (const path of directories) await rm(path, { recursive: true, force: true })
  directories.clear()
})
