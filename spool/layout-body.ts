/** Keys of the chunks of a body. */
import { cut } from './layout-bytes.js'
import { ID_BYTES } from './message-id.js'

export const CHUNK_BYTES = 16_000
export const CHUNK_KEY_BYTES = ID_BYTES + 4

export function chunkKey(body: Buffer, n: number): Buffer {
  const key = cut(ID_BYTES + 4)
  key.set(body)
  key.writeUInt32BE(n, ID_BYTES)
  return key
}

export function chunkCount(size: number): number {
  return Math.ceil(size / CHUNK_BYTES)
}

/** Of chunk `n` of a body of `size` bytes; not above 0 when it has no such chunk. */
export function chunkLength(size: number, n: number): number {
  return Math.min(CHUNK_BYTES, size - n * CHUNK_BYTES)
}

export function splitChunkKey(key: Buffer): { body: Buffer; n: number } {
  return { body: key.subarray(0, ID_BYTES), n: key.readUInt32BE(ID_BYTES) }
}
