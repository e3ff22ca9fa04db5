/** Small pieces that the rows are made of: slabs to cut them from, and msgpack. */
import { Packr } from 'msgpackr'

/** Of a time in a key: milliseconds since the epoch. */
export const DUE_BYTES = 6
/** Sorts after every time: not scheduled. */
export const NEVER = 2 ** 48 - 1

export const packr = new Packr({ useRecords: false })

// Small values are cut from larger buffers: lmdb-js asks for the address of each buffer once.
const SLAB_BYTES = 64 * 1024
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
let slabUsed = 0

/** `size` bytes that stay the caller's. */
export function cut(size: number): Buffer {
  if (size > SLAB_BYTES >> 2) return Buffer.allocUnsafeSlow(size)
  if (slabUsed + size > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
    slabUsed = 0
  }
  const bytes = slab.subarray(slabUsed, slabUsed + size)
  slabUsed += size
  return bytes
}

/** A small row, in msgpack. */
export function pack(value: unknown): Buffer {
  const packed = packr.pack(value)
  const bytes = cut(packed.length)
  bytes.set(packed)
  return bytes
}

export function unpack(bytes: Buffer): unknown {
  return packr.unpack(bytes)
}
