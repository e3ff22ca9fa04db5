/**
 * The file layer: positional reads and writes, durability, and the whole-file write locks that libjlog honours
 * and that honour libjlog.
 *
 * Promises: a write is whole or an error; what `sync` returned for is on the disk; a lock excludes every other
 * holder, be it libjlog, another process, another descriptor of this process, or another caller of the same object.
 */
import {
  close as closeCallback,
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  fsync,
  ftruncate,
  open as openCallback,
  openSync,
  read as readCallback,
  readSync,
  statSync,
  write as writeCallback,
  writeSync,
  writev as writevCallback,
  writevSync,
} from 'node:fs'
import { rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { tryLock, unlock } from 'fs-native-extensions'
import { JlogError, type JlogErrorCode } from './errors.js'

const openFd = promisify(openCallback)
const closeFd = promisify(closeCallback)
const fdatasyncFd = promisify(fdatasync)
const fsyncFd = promisify(fsync)
const ftruncateFd = promisify(ftruncate)

/**
 * Opens what is a file, and nothing else. Without O_NONBLOCK, a pipe in its place would hold up whoever opens it for ever.
 */
async function openRegular(path: string, flags: number, mode?: number): Promise<number> {
  return assertRegular(await openFd(path, flags | constants.O_NONBLOCK, mode))
}

function assertRegular(fd: number): number {
  if (fstatSync(fd).isFile()) return fd
  closeSync(fd)
  throw Object.assign(new Error('this is no regular file'), { code: 'EINVAL' })
}

/**
 * The first `most` bytes of a file that ought to be small; a damaged one may be of any size.
 * @throws Error of the system call, or with code EINVAL when it is no regular file
 */
export async function readSmallFile(path: string, most = 1024 * 1024): Promise<Buffer> {
  const fd = await openRegular(path, constants.O_RDONLY)
  try {
    const buffer = Buffer.allocUnsafe(Math.min(most, fstatSync(fd).size))
    return buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, 0))
  } finally {
    closeSync(fd)
  }
}

/** So many buffers go into one system call (IOV_MAX). */
const MOST_VECTORS = 1024

/** How long a lock is waited for before JLOG_ERR_LOCK, in milliseconds. */
export const LOCK_TIMEOUT_MS = 30_000

/** The codes with which a file's failures are reported; they say what kind of file it is. */
export interface FileErrorCodes {
  readonly open: JlogErrorCode
  readonly read: JlogErrorCode
  readonly write: JlogErrorCode
}

/** Of segments, and of files that libjlog has no codes for. */
export const DATA_FILE_ERRORS: FileErrorCodes = {
  open: 'JLOG_ERR_FILE_OPEN',
  read: 'JLOG_ERR_FILE_READ',
  write: 'JLOG_ERR_FILE_WRITE',
}
export const INDEX_FILE_ERRORS: FileErrorCodes = {
  open: 'JLOG_ERR_IDX_OPEN',
  read: 'JLOG_ERR_IDX_READ',
  write: 'JLOG_ERR_IDX_WRITE',
}
export const METASTORE_FILE_ERRORS: FileErrorCodes = {
  open: 'JLOG_ERR_META_OPEN',
  read: 'JLOG_ERR_META_OPEN',
  write: 'JLOG_ERR_FILE_WRITE',
}
export const CHECKPOINT_FILE_ERRORS: FileErrorCodes = {
  open: 'JLOG_ERR_CHECKPOINT',
  read: 'JLOG_ERR_CHECKPOINT',
  write: 'JLOG_ERR_CHECKPOINT',
}
export const PRE_COMMIT_FILE_ERRORS: FileErrorCodes = {
  open: 'JLOG_ERR_PRE_COMMIT_OPEN',
  read: 'JLOG_ERR_PRE_COMMIT_OPEN',
  write: 'JLOG_ERR_FILE_WRITE',
}

export interface OpenOptions {
  /** Open for reading and writing; needed for locking, too. Default: read only. */
  readonly write?: boolean
  /** Create the file with this mode (less the umask) when it is not there; implies `write`. */
  readonly create?: number
  /** With `create`: fail with EEXIST when it is there. */
  readonly exclusive?: boolean
  /** Codes for failures. Default: DATA_FILE_ERRORS. */
  readonly errors?: FileErrorCodes
}

export interface LockOptions {
  /** Milliseconds to wait. Default: LOCK_TIMEOUT_MS. */
  readonly timeout?: number
}

function flagsOf({ write, create, exclusive }: OpenOptions): number {
  let flags = write || create !== undefined ? constants.O_RDWR : constants.O_RDONLY
  if (create !== undefined) flags |= constants.O_CREAT
  if (exclusive) flags |= constants.O_EXCL
  return flags
}

export class JournalFile {
  readonly path: string
  readonly #errors: FileErrorCodes
  #fd: number
  #locked: boolean = false

  private constructor(path: string, fd: number, errors: FileErrorCodes) {
    this.path = path
    this.#fd = fd
    this.#errors = errors
  }

  /** @throws JlogError with the kind's `open` code; `errnoOf` tells ENOENT from the rest */
  static async open(path: string, options: OpenOptions = {}): Promise<JournalFile> {
    const errors = options.errors ?? DATA_FILE_ERRORS
    try {
      const fd = await openRegular(path, flagsOf(options), options.create)
      return new JournalFile(path, fd, errors)
    } catch (cause) {
      throw new JlogError(errors.open, 'cannot open the file', { file: path, cause })
    }
  }

  /** As `open`, at once. */
  static openNow(path: string, options: OpenOptions = {}): JournalFile {
    const errors = options.errors ?? DATA_FILE_ERRORS
    try {
      const fd = openSync(path, flagsOf(options) | constants.O_NONBLOCK, options.create)
      return new JournalFile(path, assertRegular(fd), errors)
    } catch (cause) {
      throw new JlogError(errors.open, 'cannot open the file', { file: path, cause })
    }
  }

  /** Descriptor number, for calls that this class does not have. -1 once closed. */
  get fd(): number {
    return this.#fd
  }

  get locked(): boolean {
    return this.#locked
  }

  /** Up to `length` bytes from `position`; fewer only where the file ends. */
  async read(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length)
    const read = await this.readAt(buffer, position)
    return read === length ? buffer : buffer.subarray(0, read)
  }

  /** Fills `buffer` from `position`. @returns bytes read; fewer than `buffer.length` only where the file ends */
  async readAt(buffer: Uint8Array, position: number): Promise<number> {
    let done = 0
    while (done < buffer.length) {
      const read = await new Promise<number>((resolve, reject) => {
        readCallback(
          this.#fd,
          buffer,
          done,
          buffer.length - done,
          position + done,
          (cause, bytes) => {
            if (cause) reject(this.#failure('read', 'cannot read', cause, position + done))
            else resolve(bytes)
          },
        )
      })
      if (read === 0) break
      done += read
    }
    return done
  }

  /** As `read`, but at once: for a few bytes that are sure to be in the page cache. */
  readNow(position: number, length: number): Buffer {
    const buffer = Buffer.allocUnsafe(length)
    try {
      return buffer.subarray(0, readSync(this.#fd, buffer, 0, length, position))
    } catch (cause) {
      throw this.#failure('read', 'cannot read', cause, position)
    }
  }

  /**
   * Writes all of `bytes` at `position`, going on after short writes.
   * @throws JlogError with the kind's `write` code; part of the bytes may then stand in the file
   */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    let done = 0
    while (done < bytes.length) {
      done += await new Promise<number>((resolve, reject) => {
        writeCallback(
          this.#fd,
          bytes,
          done,
          bytes.length - done,
          position + done,
          (cause, written) => {
            if (cause) reject(this.#failure('write', 'cannot write', cause, position + done))
            else resolve(written)
          },
        )
      })
    }
  }

  /** As `write`, at once: into the page cache, which may make it wait when the disk is slow. */
  writeNow(bytes: Uint8Array, position: number): void {
    let done = 0
    while (done < bytes.length) {
      try {
        done += writeSync(this.#fd, bytes, done, bytes.length - done, position + done)
      } catch (cause) {
        throw this.#failure('write', 'cannot write', cause, position + done)
      }
    }
  }

  /** Writes the buffers one after the other at `position`, as `writeNow` does. */
  writeAllNow(buffers: readonly Uint8Array[], position: number): void {
    let written = 0
    if (buffers.length > 1 && buffers.length <= MOST_VECTORS) {
      try {
        written = writevSync(this.#fd, buffers, position)
      } catch (cause) {
        throw this.#failure('write', 'cannot write', cause, position)
      }
    }
    let start = 0
    for (const buffer of buffers) {
      const done = Math.max(0, written - start)
      if (done < buffer.length) this.writeNow(buffer.subarray(done), position + start + done)
      start += buffer.length
    }
  }

  /** Writes the buffers one after the other at `position`, as `write` does. */
  async writeAll(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let rest = buffers.filter((buffer) => buffer.length > 0)
    let at = position
    while (rest.length > 0) {
      const batch = rest.slice(0, MOST_VECTORS)
      let written = await new Promise<number>((resolve, reject) => {
        writevCallback(this.#fd, batch, at, (cause, bytes) => {
          if (cause) reject(this.#failure('write', 'cannot write', cause, at))
          else resolve(bytes)
        })
      })
      at += written
      let whole = 0
      while (whole < batch.length && written >= batch[whole]!.length) {
        written -= batch[whole]!.length
        whole++
      }
      rest = rest.slice(whole)
      if (written > 0) rest[0] = rest[0]!.subarray(written)
    }
  }

  /** The file's size now, in bytes. */
  size(): number {
    return this.stat().size
  }

  /** Size now, and how many names the file has: 0 once it was removed, or replaced by another. */
  stat(): { size: number; links: number } {
    try {
      const { size, nlink } = fstatSync(this.#fd)
      return { size, links: nlink }
    } catch (cause) {
      throw this.#failure('read', 'cannot stat', cause)
    }
  }

  /** Is this still the file of its path? Not once it, or a directory above it, was removed, renamed or replaced. */
  bearsItsName(): boolean {
    try {
      const found = statSync(this.path, { throwIfNoEntry: false })
      if (found === undefined) return false
      const { ino, dev, nlink } = fstatSync(this.#fd)
      return nlink > 0 && found.ino === ino && found.dev === dev
    } catch (cause) {
      throw this.#failure('read', 'cannot stat', cause)
    }
  }

  async truncate(length: number): Promise<void> {
    try {
      await ftruncateFd(this.#fd, length)
    } catch (cause) {
      throw this.#failure('write', 'cannot truncate', cause, length)
    }
  }

  /**
   * The file's data, and the size it needs, are on the disk after this (fdatasync). A failure means that the kernel
   * may have dropped what was written: a second try that succeeds proves nothing.
   */
  async sync(): Promise<void> {
    try {
      await fdatasyncFd(this.#fd)
    } catch (cause) {
      throw this.#failure('write', 'cannot sync', cause)
    }
  }

  /**
   * Takes the write lock over the whole file if nobody holds it. Costs one system call and never waits.
   * The file must be open for writing.
   */
  tryLock(): boolean {
    if (this.#locked) return false
    try {
      this.#locked = tryLock(this.#fd)
    } catch (cause) {
      throw new JlogError('JLOG_ERR_LOCK', 'cannot lock the file', { file: this.path, cause })
    }
    return this.#locked
  }

  /**
   * Waits for the lock without holding a thread: tries again each turn, then each millisecond or so.
   * @throws JlogError JLOG_ERR_LOCK after `timeout`
   */
  async lock(options: LockOptions = {}): Promise<void> {
    if (this.tryLock()) return
    const timeout = options.timeout ?? LOCK_TIMEOUT_MS
    const deadline = performance.now() + timeout
    for (let tries = 1; ; tries++) {
      if (tries <= 8) await nextTurn()
      else await delay(tries <= 256 ? 1 : 2)
      if (this.#fd < 0) {
        throw new JlogError('JLOG_ERR_LOCK', 'the file was closed while its lock was waited for', {
          file: this.path,
        })
      }
      if (this.tryLock()) return
      if (performance.now() > deadline) {
        throw new JlogError('JLOG_ERR_LOCK', `the file stayed locked for ${timeout} ms`, {
          file: this.path,
          advice: 'find the process that holds it (see /proc/locks) and end it',
        })
      }
    }
  }

  unlock(): void {
    if (!this.#locked) return
    this.#locked = false
    try {
      unlock(this.#fd)
    } catch (cause) {
      throw new JlogError('JLOG_ERR_LOCK', 'cannot unlock the file', { file: this.path, cause })
    }
  }

  /** Runs `work` under the lock. */
  async withLock<T>(work: () => T | Promise<T>, options?: LockOptions): Promise<T> {
    await this.lock(options)
    try {
      return await work()
    } finally {
      if (this.#fd >= 0) this.unlock()
    }
  }

  /** Closes the descriptor, which also drops the lock. Harmless when closed already. */
  async close(): Promise<void> {
    const fd = this.#fd
    if (fd < 0) return
    this.#fd = -1
    this.#locked = false
    await closeFd(fd)
  }

  /** As `close`, at once. */
  closeNow(): void {
    const fd = this.#fd
    if (fd < 0) return
    this.#fd = -1
    this.#locked = false
    closeSync(fd)
  }

  #failure(kind: 'read' | 'write', what: string, cause: unknown, offset?: number): JlogError {
    return new JlogError(this.#errors[kind], what, {
      file: this.path,
      cause,
      ...(offset === undefined ? {} : { offset }),
      ...(errnoOf(cause) === 'ENOSPC' ? { advice: 'make room on the disk' } : {}),
    })
  }
}

/** The system's name for what went wrong (`ENOENT`, `ENOSPC`, …), also from within a JlogError. */
export function errnoOf(error: unknown): string | undefined {
  let current: unknown = error
  while (current instanceof JlogError) current = current.cause
  if (current instanceof Error && 'code' in current && typeof current.code === 'string') {
    return current.code
  }
  return undefined
}

/** Makes a directory's entries durable: files created, renamed or removed in it. */
export async function syncDirectory(dir: string): Promise<void> {
  try {
    const fd = await openFd(dir, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      await fsyncFd(fd)
    } finally {
      await closeFd(fd)
    }
  } catch (cause) {
    throw new JlogError('JLOG_ERR_FILE_WRITE', 'cannot sync the directory', { file: dir, cause })
  }
}

/**
 * A whole small file, durable with its directory entry. With `exclusive` the file must not be there (EEXIST);
 * without, an older one is replaced in one step, so that a crash leaves the old bytes or the new, never a mixture.
 */
export async function writeFileDurably(
  path: string,
  bytes: Uint8Array,
  options: {
    readonly mode: number
    readonly exclusive?: boolean
    readonly errors?: FileErrorCodes
  },
): Promise<void> {
  const target = options.exclusive ? path : `${path}.${process.pid}.new`
  if (!options.exclusive) await unlink(target).catch(() => {})
  const file = await JournalFile.open(target, {
    create: options.mode,
    exclusive: true,
    ...(options.errors ? { errors: options.errors } : {}),
  })
  try {
    await file.write(bytes, 0)
    await file.sync()
    if (target !== path) await rename(target, path)
  } catch (cause) {
    await unlink(target).catch(() => {})
    throw cause
  } finally {
    await file.close()
  }
  await syncDirectory(dirname(path))
}
