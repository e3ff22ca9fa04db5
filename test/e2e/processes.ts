/** The parts of a mail system as processes of their own, which are killed and started again where they were. */
import { type ChildProcess, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach } from 'vitest'
import { PROGRAM } from '../support/service.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const HARAKA = join(ROOT, 'examples/haraka')
export const HARAKA_PROGRAM = join(HARAKA, 'node_modules/Haraka/bin/haraka')

const running = new Set<ChildProcess>()

/** A program that is ready once it prints a line that says so. */
export class Part extends EventEmitter<{ line: [string] }> {
  readonly name: string
  readonly #args: readonly string[]
  readonly #env: NodeJS.ProcessEnv
  readonly #ready: RegExp
  #child: ChildProcess | undefined
  #stopping = false
  /** Rejects when it ends of itself. */
  died: Promise<never> = new Promise(() => undefined)
  /** What it printed last, for when it does not start. */
  readonly #tail: string[] = []

  constructor(name: string, ready: RegExp, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    super()
    this.name = name
    this.#ready = ready
    this.#args = args
    this.#env = env
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, this.#args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...this.#env },
    })
    this.#child = child
    running.add(child)
    this.#stopping = false
    this.died = once(child, 'exit').then(([code, signal]) => {
      running.delete(child)
      if (this.#stopping) return new Promise(() => undefined)
      throw new Error(`${this.name} ended (${code ?? signal}):\n${this.#tail.join('\n')}`)
    })
    this.died.catch(() => undefined)
    const ready = new Promise<void>((resolve) => {
      for (const stream of [child.stdout!, child.stderr!]) {
        createInterface({ input: stream }).on('line', (line) => {
          this.#tail.push(line)
          if (this.#tail.length > 50) this.#tail.shift()
          this.emit('line', line)
          if (this.#ready.test(line)) resolve()
        })
      }
    })
    await Promise.race([ready, this.died])
  }

  /** Resolves with its exit code once it has ended; null when a signal ended it. */
  async stop(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child
    if (child === undefined || !running.has(child))
      throw new Error(`${this.name} has ended already`)
    const exited = once(child, 'exit') as Promise<[number | null]>
    this.#stopping = true
    child.kill(signal)
    const [code] = await exited
    return code
  }
}

export interface Ports {
  readonly bobbin: number
  readonly haraka: number
  readonly sink: number
}

/** Ports that were free a moment ago: each part comes back to its own. */
export async function freePorts(): Promise<Ports> {
  const servers = await Promise.all(
    [1, 2, 3].map(async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const [bobbin, haraka, sink] = servers.map(
    (server) => (server.address() as { port: number }).port,
  )
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return { bobbin: bobbin!, haraka: haraka!, sink: sink! }
}

export function bobbinPart(data: string, { bobbin }: Ports, env: NodeJS.ProcessEnv = {}): Part {
  const args = [PROGRAM, 'serve', '--data', data, '--listen', `127.0.0.1:${bobbin}`]
  return new Part('bobbin', /"msg":"ready"/, args, { BOBBIN_RETRY_DELAYS: '1', ...env })
}

/** The example's plugin and configuration, at these ports. */
export async function harakaPart(
  directory: string,
  { bobbin, haraka }: Ports,
  settings = '',
): Promise<Part> {
  await mkdir(join(directory, 'config'), { recursive: true })
  await cp(join(HARAKA, 'config'), join(directory, 'config'), { recursive: true })
  await cp(join(HARAKA, 'plugins'), join(directory, 'plugins'), { recursive: true })
  await symlink(join(HARAKA, 'node_modules'), join(directory, 'node_modules'))
  await writeFile(join(directory, 'config/smtp.ini'), `listen=127.0.0.1:${haraka}\nnodes=0\n`)
  const ini = `url=http://127.0.0.1:${bobbin}\ndeadline=10\ntimeout=5\n${settings}`
  await writeFile(join(directory, 'config/bobbin.ini'), ini)
  return new Part('haraka', /Listening on/, [HARAKA_PROGRAM, '-c', directory])
}

export function relayPart({ bobbin, sink }: Ports, { lease = 3 } = {}): Part {
  const options = {
    url: `http://127.0.0.1:${bobbin}`,
    port: sink,
    concurrency: 4,
    lease,
    poll: 50,
  }
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  return new Part('relay', /"started"/, [join(ROOT, 'examples/relay/relay.js'), ...args])
}

/** Writes what it takes into the file, a line of JSON each. */
export function sinkPart(file: string, { sink }: Ports): Part {
  const child = fileURLToPath(new URL('sink-child.mjs', import.meta.url))
  return new Part('sink', /listening/, [child, file, String(sink)])
}

afterEach(async () => {
  await Promise.all(
    [...running].map(async (child) => {
      const exited = once(child, 'exit')
      if (child.kill('SIGKILL')) await exited
    }),
  )
  running.clear()
})
