/**
 * Making a journal. It appears whole or not at all: it is made under another name beside, synced, and renamed.
 * Layout: jlog-format, "A journal is a directory".
 */
import { randomBytes } from 'node:crypto'
import { chmod, lstat, mkdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { checksumFile } from './checksums.js'
import { JlogError } from './errors.js'
import { errnoOf, syncDirectory, writeFileDurably } from './file.js'
import {
  COMPRESSED_MAGIC,
  COMPRESSION_PROVIDERS,
  checkpointFile,
  DEFAULT_UNIT_LIMIT,
  encodeCheckpoint,
  encodeMetastore,
  METASTORE_FILE,
  PLAIN_MAGIC,
  PRE_COMMIT_FILE,
  PRE_COMMIT_HEADER_BYTES,
  SAFETY,
  type Safety,
} from './format.js'
import { assertSafety, assertUnitLimit } from './metastore.js'
import { assertPreCommitSize } from './pre-commit.js'

export const DEFAULT_FILE_MODE = 0o640
/** libjlog's MAXLOGPATHLEN: room for a segment's index must be left in a path of 4096 bytes. */
const MAX_PATH_BYTES = 4096 - 13 - 1
/** A checkpoint's file name, `cp.` and two digits a byte, must fit the 255 bytes of a name. */
export const MAX_SUBSCRIBER_BYTES = 126

export type Compression = 'off' | 'none' | 'lz4'

export interface CreateOptions {
  /** Bytes at which a segment is finished. Default 4 MiB. */
  readonly unitLimit?: number
  /** See `openWriter`. Default 1. */
  readonly safety?: Safety
  /** `off`: a plain journal. `none`, `lz4`: one with compressed records, by that provider. Default `off`. */
  readonly compression?: Compression
  /** Bytes of the pre-commit buffer; 0 is none. Default 0. */
  readonly preCommit?: number
  /** Write sidecar checksums, which find flipped bits in payloads; libjlog ignores them. Default false. */
  readonly checksums?: boolean
  /** Mode of the files, less the umask; the directory has an execute bit for each read bit. Default 0640. */
  readonly fileMode?: number
  /** Names of subscribers to begin with, at the beginning. */
  readonly subscribers?: readonly (string | Uint8Array)[]
}

/**
 * Makes the directory `dir`, whose parent must exist, with everything in it durable.
 * @throws JlogError JLOG_ERR_CREATE_EXISTS when there is anything of that name, JLOG_ERR_CREATE_PATHLEN,
 *   JLOG_ERR_CREATE_MKDIR, JLOG_ERR_CREATE_META; JLOG_ERR_NOT_SUPPORTED, JLOG_ERR_INVALID_SUBSCRIBER or
 *   JLOG_ERR_SUBSCRIBER_EXISTS for options that cannot be
 */
export async function createJournal(dir: string, options: CreateOptions = {}): Promise<void> {
  const files = filesOfNewJournal(options)
  const path = resolve(dir)
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new JlogError('JLOG_ERR_CREATE_PATHLEN', 'the path is too long for a journal', {
      file: path,
    })
  }
  await refuseExisting(path)
  const mode = options.fileMode ?? DEFAULT_FILE_MODE
  const making = join(
    dirname(path),
    `.${basename(path).slice(0, 200)}.${randomBytes(6).toString('hex')}.new`,
  )
  try {
    await makeDirectory(making, path, mode)
    for (const [name, bytes] of files) {
      await writeFileDurably(join(making, name), bytes, {
        mode,
        exclusive: true,
        errors: CREATE_ERRORS,
      })
    }
    await syncDirectory(making)
    await refuseExisting(path)
    await rename(making, path).catch((cause: unknown) => {
      const taken = errnoOf(cause) === 'ENOTEMPTY' || errnoOf(cause) === 'EEXIST'
      throw taken ? existing(path) : cannotMake(path, cause)
    })
  } catch (error) {
    await rm(making, { recursive: true, force: true }).catch(() => {})
    throw error
  }
  await syncDirectory(dirname(path))
}

const CREATE_ERRORS = {
  open: 'JLOG_ERR_CREATE_META',
  read: 'JLOG_ERR_CREATE_META',
  write: 'JLOG_ERR_CREATE_META',
} as const

function filesOfNewJournal(options: CreateOptions): Map<string, Uint8Array> {
  const { unitLimit = DEFAULT_UNIT_LIMIT, safety = SAFETY.almostSafe, preCommit = 0 } = options
  assertUnitLimit(unitLimit)
  assertSafety(safety)
  assertPreCommitSize(preCommit)
  const files = new Map<string, Uint8Array>()
  for (const name of options.subscribers ?? []) {
    assertSubscriberName(name)
    const file = checkpointFile(name)
    if (files.has(file)) {
      throw new JlogError('JLOG_ERR_SUBSCRIBER_EXISTS', `subscriber ${String(name)} is named twice`)
    }
    files.set(file, encodeCheckpoint({ log: 0, marker: 0 }))
  }
  if (preCommit > 0) {
    files.set(PRE_COMMIT_FILE, Buffer.alloc(PRE_COMMIT_HEADER_BYTES + preCommit))
  }
  // Writers go on with checksums where there are some.
  if (options.checksums) files.set(checksumFile(0), Buffer.alloc(0))
  const hdrMagic = magicFor(options.compression ?? 'off')
  files.set(METASTORE_FILE, encodeMetastore({ storageLog: 0, unitLimit, safety, hdrMagic }))
  return files
}

/** @throws JlogError JLOG_ERR_INVALID_SUBSCRIBER when no file can bear the name */
export function assertSubscriberName(name: string | Uint8Array): void {
  const bytes = typeof name === 'string' ? Buffer.byteLength(name) : name.length
  if (bytes >= 1 && bytes <= MAX_SUBSCRIBER_BYTES) return
  throw new JlogError('JLOG_ERR_INVALID_SUBSCRIBER', `a subscriber's name of ${bytes} bytes`, {
    advice: `give it 1 to ${MAX_SUBSCRIBER_BYTES} bytes`,
  })
}

function magicFor(compression: Compression): number {
  if (compression === 'off') return PLAIN_MAGIC
  if (Object.hasOwn(COMPRESSION_PROVIDERS, compression)) {
    return (COMPRESSED_MAGIC | COMPRESSION_PROVIDERS[compression]) >>> 0
  }
  throw new JlogError('JLOG_ERR_NOT_SUPPORTED', `not a compression: ${String(compression)}`, {
    advice: 'give off, none or lz4',
  })
}

async function refuseExisting(path: string): Promise<void> {
  try {
    await lstat(path)
  } catch (cause) {
    const errno = errnoOf(cause)
    if (errno === 'ENOENT') return
    if (errno === 'ENAMETOOLONG') {
      throw new JlogError('JLOG_ERR_CREATE_PATHLEN', 'the path is too long', { file: path, cause })
    }
    throw cannotMake(path, cause)
  }
  throw existing(path)
}

async function makeDirectory(making: string, path: string, fileMode: number): Promise<void> {
  const mode = directoryMode(fileMode)
  try {
    await mkdir(making, mode)
    await chmod(making, mode)
  } catch (cause) {
    throw cannotMake(path, cause)
  }
}

/** The files' mode with an execute bit for each read bit. */
export function directoryMode(fileMode: number): number {
  return fileMode | ((fileMode & 0o444) >> 2)
}

function existing(path: string): JlogError {
  return new JlogError('JLOG_ERR_CREATE_EXISTS', 'there is something of that name already', {
    file: path,
  })
}

function cannotMake(path: string, cause: unknown): JlogError {
  return new JlogError('JLOG_ERR_CREATE_MKDIR', 'cannot make the directory', { file: path, cause })
}

/**
 * Makes a directory and those above it that are not there, each durable by a sync of the one above it. (Node's own recursive
 * mkdir does not sync, and does not end where a parent is there and yet takes no directory, as in /proc.)
 * @throws JlogError JLOG_ERR_CREATE_MKDIR
 */
export async function makeDirectories(dir: string, mode: number): Promise<void> {
  try {
    await makeOne(dir, mode)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw cannotMake(dir, error)
    await makeDirectories(dirname(dir), mode)
    await makeOne(dir, mode).catch((cause: unknown) => {
      throw cannotMake(dir, cause)
    })
  }
}

async function makeOne(dir: string, mode: number): Promise<void> {
  try {
    await mkdir(dir, { mode })
  } catch (error) {
    if (errnoOf(error) === 'EEXIST' && (await stat(dir)).isDirectory()) return
    throw error
  }
  await syncDirectory(dirname(dir))
}
