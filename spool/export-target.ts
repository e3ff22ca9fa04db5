/**
 * Where messages are exported to: a directory that one export at a time has, and that never loses what is in it.
 * A message is there under its name only when all of it is on the disk; nothing is written over.
 */
import { createHash, type Hash } from 'node:crypto'
import { type FileHandle, link, open, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { tryLock } from 'fs-native-extensions'
import { makeDirectories } from './durable.js'
import { SpoolError } from './errors.js'

/** A message, as far as an export needs to know it. */
export interface ExportedMessage {
  readonly id: string
  readonly mailfrom: string
  readonly rcptto: string
  readonly state: string
  /** Milliseconds since the epoch. */
  readonly created: number
  /** Of the content, hexadecimal; null when it was dropped. */
  readonly sha256: string | null
  /** Flags that a Maildir gave it. */
  readonly flags: string
}

/** The names of the header fields that keep the envelope; null: it is not kept. */
export type EnvelopeNames = { readonly from: string; readonly to: string } | null

/** Gives the content of a message, with what is put before it. */
export type ContentOf = (message: ExportedMessage) => AsyncIterable<Uint8Array>

export interface ExportTarget {
  /** Whether it is there, from an export before this one. */
  has(message: ExportedMessage): Promise<boolean>
  /** Writes it; throws what the content throws, and then there is nothing of it. */
  write(message: ExportedMessage, content: AsyncIterable<Uint8Array>): Promise<void>
  /** Makes what was written durable. */
  settle(): Promise<void>
  /** All of it is written. */
  finish(): Promise<void>
  /** Idempotent. What was not finished can be taken up again. */
  close(): Promise<void>
}

const LOCK = '.bobbin-export'

/** Makes the directory, and holds it until `release`. Throws SPOOL_ERR_BUSY, SPOOL_ERR_WRITE. */
export async function holdDirectory(
  directory: string,
): Promise<{ release(isFinished: boolean): Promise<void> }> {
  const file = join(directory, LOCK)
  try {
    await makeDirectories(directory)
    for (;;) {
      const handle = await open(file, 'a')
      if (!tryLock(handle.fd)) {
        await handle.close()
        throw new SpoolError('SPOOL_ERR_BUSY', 'another export is writing there', {
          file: directory,
          advice: 'wait for it, or name another directory',
        })
      }
      // Whoever had it may have removed it just now.
      const [ours, there] = [await handle.stat(), await stat(file).catch(() => undefined)]
      if (there?.ino === ours.ino) return { release: (isFinished) => release(handle, isFinished) }
      await handle.close()
    }
  } catch (error) {
    throw error instanceof SpoolError ? error : describe(error, directory)
  }

  async function release(handle: FileHandle, isFinished: boolean): Promise<void> {
    if (isFinished) await unlink(file).catch(() => undefined)
    await handle.close()
  }
}

/** The file under its name, once it is on the disk, unless there is one; then it stays as it is. */
export async function publish(temporary: string, file: string): Promise<void> {
  try {
    await link(temporary, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  await unlink(temporary)
}

export async function exists(file: string): Promise<boolean> {
  try {
    await stat(file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

/** The content, and afterwards its hash. */
export class Hashing {
  readonly #hash: Hash = createHash('sha256')

  async *of(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const piece of content) {
      this.#hash.update(piece)
      yield piece
    }
  }

  digest(): string {
    return this.#hash.digest('hex')
  }
}

export function describe(cause: unknown, file: string): SpoolError {
  const { code = '' } = cause as NodeJS.ErrnoException
  const kind = code === 'ENOSPC' || code === 'EDQUOT' ? 'SPOOL_ERR_FULL' : 'SPOOL_ERR_WRITE'
  return new SpoolError(kind, 'the export cannot be written', { file, cause })
}
