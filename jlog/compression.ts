/**
 * Payloads of compressed journals: as they are (provider 0), or as one raw LZ4 block (provider 1).
 *
 * lz4-napi puts four bytes of length before the block; a journal has none there, its header knows the length.
 * A length that the stored bytes cannot make is refused before memory is taken for it.
 */
import { compressSync, uncompressSync } from 'lz4-napi'
import { JlogError } from './errors.js'
import { COMPRESSION_PROVIDERS } from './format.js'

const LENGTH_PREFIX_BYTES = 4
/** An LZ4 block makes at most 255 bytes of one. */
const MOST_EXPANSION = 255
/** The largest payload that an LZ4 block can hold (LZ4_MAX_INPUT_SIZE), and so libjlog. */
export const MAX_LZ4_PAYLOAD_BYTES = 0x7e000000

/** What libjlog stores for a payload of 0 bytes where nothing compresses: as many zeros as its buffer has. */
const LIBJLOG_EMPTY_BYTES = 16384

/** May a payload of `length` bytes take `stored` bytes where nothing compresses? */
export function isStoredAsIs(length: number, stored: number): boolean {
  return length === stored || (length === 0 && stored === LIBJLOG_EMPTY_BYTES)
}

/** @returns the bytes to store; a view of the payload itself for provider none */
export type Compress = (payload: Uint8Array) => Uint8Array

/** @throws JlogError JLOG_ERR_NOT_SUPPORTED for a provider that neither libjlog nor this knows */
export function compressorFor(provider: number): Compress {
  if (provider === COMPRESSION_PROVIDERS.none) return (payload) => payload
  if (provider === COMPRESSION_PROVIDERS.lz4) return compressLz4
  throw unknownProvider(provider)
}

/** Most bytes that `length` bytes of payload may take when stored. */
export function storedBound(length: number): number {
  return length + Math.ceil(length / MOST_EXPANSION) + 16
}

/**
 * @param stored the payload's bytes as they stand on disk
 * @param length how long it is, as its header says
 * @throws JlogError JLOG_ERR_FILE_CORRUPT when it does not come out at that length; JLOG_ERR_NOT_SUPPORTED
 */
export function decompressPayload(stored: Buffer, length: number, provider: number): Buffer {
  if (provider === COMPRESSION_PROVIDERS.none) {
    if (isStoredAsIs(length, stored.length)) return stored.subarray(0, length)
  } else if (provider === COMPRESSION_PROVIDERS.lz4) {
    const payload = decompressLz4(stored, length)
    if (payload?.length === length) return payload
  } else {
    throw unknownProvider(provider)
  }
  throw new JlogError(
    'JLOG_ERR_FILE_CORRUPT',
    `${stored.length} stored bytes do not decompress to the ${length} that the header says`,
  )
}

function compressLz4(payload: Uint8Array): Uint8Array {
  const bytes = Buffer.isBuffer(payload)
    ? payload
    : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  return compressSync(bytes).subarray(LENGTH_PREFIX_BYTES)
}

function decompressLz4(stored: Buffer, length: number): Buffer | null {
  if (length > stored.length * MOST_EXPANSION) return null
  const prefixed = Buffer.allocUnsafe(LENGTH_PREFIX_BYTES + stored.length)
  prefixed.writeUInt32LE(length, 0)
  stored.copy(prefixed, LENGTH_PREFIX_BYTES)
  try {
    return uncompressSync(prefixed)
  } catch {
    return null
  }
}

function unknownProvider(provider: number): JlogError {
  return new JlogError('JLOG_ERR_NOT_SUPPORTED', `unknown compression provider ${provider}`, {
    advice: 'read this journal with a version that knows it',
  })
}
