/**
 * How a chunk lies in its row: as it is, or packed, when that saves at least a page. Its length tells
 * which: the size of the body says how long each of its chunks is, and a packed one is shorter. A packed
 * one begins with a byte that names its codec, so what was packed is read whatever the settings say now.
 *
 * A chunk is packed by itself: a range reads no more than it has to, and damage stays where it is. To do
 * that in zlib's own threads costs this thread as much as doing it here (measured: starting the job is
 * most of it), so only a body of many chunks goes there, for it would hold up the others.
 */
import { promisify } from 'node:util'
import { deflate, deflateSync, inflateSync } from 'node:zlib'
import { CHUNK_BYTES } from './layout.js'

/** zlib (RFC 1950), whose check sum also finds damage. */
const ZLIB = 1
const PAGE_BYTES = 4096
/** Beside the value in its pages. */
const PAGE_HEADER = 16
/** Values up to it share a page with others. */
const INLINE_BYTES = 2000

/** The window need not be larger than a chunk. */
const OPTIONS = { level: 1, windowBits: 14, memLevel: 8 }
/** Of zlib's four threads at most so many: the store's own writes need one, too. */
const MAX_JOBS = 2

const deflateApart = promisify(deflate)

/** Packs a chunk, or gives it back when that does not pay. */
export function packChunk(chunk: Uint8Array): Uint8Array {
  return worth(chunk, deflateSync(chunk, OPTIONS))
}

let jobs = 0
const waiting: (() => void)[] = []

/** As `packChunk`, apart from this thread, a few at a time in the whole process. */
export async function packChunkApart(chunk: Uint8Array): Promise<Uint8Array> {
  if (jobs < MAX_JOBS) jobs++
  else await new Promise<void>((resolve) => waiting.push(resolve))
  try {
    return worth(chunk, await deflateApart(chunk, OPTIONS))
  } finally {
    const next = waiting.shift()
    if (next === undefined) jobs--
    else next()
  }
}

/**
 * The chunk that a row holds, `length` being what it must have. undefined: the row is damaged. Not a copy
 * when it was not packed.
 */
export function unpackChunk(row: Uint8Array, length: number): Uint8Array | undefined {
  // The buffers of lmdb-js may be larger than their length says, which zlib and `set` would be misled by.
  if (row.length === length) return new Uint8Array(row.buffer, row.byteOffset, length)
  if (!isPacked(row, length)) return undefined
  const chunk = inflate(row, length)
  return chunk?.length === length ? chunk : undefined
}

/** As `unpackChunk`, of a body whose size is not known: what can be unpacked was packed. */
export function unpackAny(row: Uint8Array): Uint8Array | undefined {
  if (!isPacked(row, CHUNK_BYTES)) return row
  const chunk = inflate(row, CHUNK_BYTES)
  return chunk !== undefined && chunk.length > row.length ? chunk : undefined
}

/** Whether the row of a chunk of this length says that it is packed. */
export function isPacked(row: Uint8Array, length: number): boolean {
  return row.length > 1 && row.length < length && row[0] === ZLIB
}

/** Never more than `length` bytes, whatever the row is. */
function inflate(row: Uint8Array, length: number): Buffer | undefined {
  const packed = new Uint8Array(row.buffer, row.byteOffset + 1, row.length - 1)
  try {
    return inflateSync(packed, { maxOutputLength: length })
  } catch {
    return undefined
  }
}

function worth(chunk: Uint8Array, packed: Buffer): Uint8Array {
  if (pages(packed.length + 1) >= pages(chunk.length) || packed.length + 1 >= chunk.length)
    return chunk
  const row = Buffer.allocUnsafeSlow(packed.length + 1)
  row[0] = ZLIB
  row.set(packed, 1)
  return row
}

function pages(bytes: number): number {
  return bytes <= INLINE_BYTES ? bytes / PAGE_BYTES : Math.ceil((bytes + PAGE_HEADER) / PAGE_BYTES)
}
