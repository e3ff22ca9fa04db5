/** What the spool's tests share: temporary spools that clean up after themselves, and sources of bytes. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect } from 'vitest'
import {
  checkSpool,
  type EventOptions,
  type NewMessage,
  openSpool,
  type Spool,
  type SpoolErrorCode,
  type SpoolOptions,
} from '../../spool/index.js'

const directories: string[] = []
const spools: Spool[] = []

afterEach(async () => {
  for (const spool of spools.splice(0)) await spool.close()
  for (const path of directories.splice(0)) await rm(path, { recursive: true, force: true })
})

export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'bobbin-spool-'))
  directories.push(path)
  return path
}

export const EVENTS: EventOptions = { format: 'json', journalOf: () => 'mainlog' }

/** Opens a spool in a directory of its own, or in `options.path`; closed after the test. */
export async function temporarySpool(options: Partial<SpoolOptions> = {}): Promise<Spool> {
  const path = options.path ?? join(await temporaryDirectory(), 'spool')
  const spool = await openSpool({ events: EVENTS, ...options, path })
  spools.push(spool)
  return spool
}

export function message(body: Uint8Array | string, more: Partial<NewMessage> = {}): NewMessage {
  return {
    mailfrom: 'sender@example.org',
    rcptto: ['recipient@example.com'],
    body: typeof body === 'string' ? Buffer.from(body) : body,
    ...more,
  }
}

/** Bytes that differ from chunk to chunk, NULs and all. */
export function bytes(size: number, seed = 1): Buffer {
  const buffer = Buffer.allocUnsafe(size)
  let state = seed * 2654435761
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    buffer[i] = state >>> 24
  }
  return buffer
}

export async function* pieces(
  buffer: Uint8Array,
  size: number,
): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < buffer.length; at += size) yield buffer.subarray(at, at + size)
}

export function sha256(buffer: Uint8Array): string {
  return createHash('sha256').update(buffer).digest('hex')
}

export async function bodyOf(spool: Spool, id: string): Promise<Buffer> {
  return (await spool.swapIn(id)).buffer()
}

export async function codeOf(promise: Promise<unknown>): Promise<SpoolErrorCode | undefined> {
  try {
    await promise
    return undefined
  } catch (error) {
    return (error as { code: SpoolErrorCode }).code
  }
}

/** Closes the spool and finds nothing wrong with it, and no staged body left. */
export async function expectSound(spool: Spool, path: string): Promise<void> {
  await spool.close()
  const { problems, staged } = await checkSpool(path)
  expect({ problems, staged }).toEqual({ problems: [], staged: 0 })
}

/** Lines of words as mail has them: different for each seed, and worth compressing. */
export function text(size: number, seed = 1): Buffer {
  const words = 'Dear customer, your invoice of March is attached. Kind regards from Lisbon'.split(
    ' ',
  )
  const dice = bytes(Math.ceil(size / 4) + 16, seed)
  const lines: string[] = []
  for (let at = 0, length = 0; length < size; ) {
    let line = ''
    while (line.length < 64) line += `${words[(dice[at++ % dice.length] as number) % 12]} `
    line += `${dice[at++ % dice.length]}\r\n`
    lines.push(line)
    length += line.length
  }
  return Buffer.from(lines.join('')).subarray(0, size)
}

/** Eight writers, until they are stopped, and what was acknowledged to them. */
export function startWriters(spool: Spool): {
  acknowledged: Map<string, Buffer>
  stop(): Promise<void>
} {
  const acknowledged = new Map<string, Buffer>()
  let writing = true
  const write = async (first: number) => {
    for (let seed = first; writing; seed += 8) {
      const body = bytes(1 + (seed % 7) * 9_000, seed)
      const { ids } = await spool.swapOut(message(body))
      acknowledged.set(ids[0] as string, body)
    }
  }
  const writers = Array.from({ length: 8 }, (_, i) => write(i))
  const stop = async () => {
    writing = false
    await Promise.all(writers)
  }
  return { acknowledged, stop }
}
