/**
 * Random journals and random damage, with the truth about both: for each byte of a damaged segment it is known where
 * it came from and whether it was hit, so that tests can say what must be left without asking the code under test.
 */
import fc from 'fast-check'
import { compressRawSync } from './lz4-block.js'

export const MAGICS = { plain: 0x663a7318, none: 0x15106a00, lz4: 0x15106a01, legacy: 0 } as const
export type Kind = keyof typeof MAGICS

export interface WrittenRecord {
  offset: number
  end: number
  bytes: Buffer
}

export function headerBytes(magic: number): number {
  return (magic & 0x15106a00) === 0x15106a00 ? 20 : 16
}

export function encode(magic: number, sec: number, usec: number, payload: Buffer): Buffer {
  const compressed = headerBytes(magic) === 20
  const stored = magic === MAGICS.lz4 ? compressRawSync(payload) : payload
  const header = Buffer.alloc(headerBytes(magic))
  header.writeUInt32LE(magic, 0)
  header.writeUInt32LE(sec, 4)
  header.writeUInt32LE(usec, 8)
  header.writeUInt32LE(payload.length, 12)
  if (compressed) header.writeUInt32LE(stored.length, 16)
  return Buffer.concat([header, stored])
}

/** Payloads as they come: empty, text, bytes, with the magic inside; `nested` adds whole records. */
export function payloadOf(magic: number, nested: boolean): fc.Arbitrary<Buffer> {
  const bytes = fc.uint8Array({ maxLength: 60 }).map((a) => Buffer.from(a))
  const word = Buffer.alloc(4)
  word.writeUInt32LE(magic)
  const lookalike = fc.tuple(bytes, bytes).map(([a, b]) => Buffer.concat([a, word, b]))
  const inner = fc
    .tuple(bytes, fc.array(bytes, { minLength: 1, maxLength: 4 }), bytes)
    .map(([before, records, after]) =>
      Buffer.concat([
        before,
        ...records.map((p, i) => encode(magic, 1_600_000_000 + i, i, p)),
        after,
      ]),
    )
  const kinds = [fc.constant(Buffer.alloc(0)), bytes, bytes, lookalike]
  return fc.oneof(...kinds, ...(nested ? [inner, inner] : []))
}

export function segmentOf(magic: number, payloads: readonly Buffer[], first = 0): WrittenRecord[] {
  let offset = 0
  return payloads.map((payload, i) => {
    const bytes = encode(magic, 1_700_000_000 + first + i, (i * 7919) % 1_000_000, payload)
    const record = { offset, end: offset + bytes.length, bytes }
    offset = record.end
    return record
  })
}

export type Damage =
  | { kind: 'flip'; at: number; bit: number }
  | { kind: 'cut'; at: number; bytes: number }
  | { kind: 'end'; at: number }
  | { kind: 'insert'; at: number; bytes: Uint8Array }
  | { kind: 'zero'; at: number; bytes: number }

/** Places are fractions of the segment, so that they fit any. */
const place = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })

export const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: place, bit: fc.nat(7) }),
  fc.record({
    kind: fc.constant('cut' as const),
    at: place,
    bytes: fc.integer({ min: 1, max: 200 }),
  }),
  fc.record({ kind: fc.constant('end' as const), at: place }),
  fc.record({
    kind: fc.constant('insert' as const),
    at: place,
    bytes: fc.uint8Array({ minLength: 1, maxLength: 80 }),
  }),
  fc.record({
    kind: fc.constant('zero' as const),
    at: place,
    bytes: fc.integer({ min: 1, max: 200 }),
  }),
)

/** A segment's bytes, each with the offset it was written at (it may have been changed since), or -1: inserted. */
export interface Damaged {
  bytes: Buffer
  origins: number[]
}

export function inflict(bytes: Buffer, damages: readonly Damage[]): Damaged {
  let cells = [...bytes].map((value, origin) => ({ value, origin }))
  for (const hit of damages) {
    const at = Math.floor(hit.at * cells.length)
    if (hit.kind === 'insert') {
      cells.splice(at, 0, ...[...hit.bytes].map((value) => ({ value, origin: -1 })))
    } else if (hit.kind === 'end') {
      cells = cells.slice(0, at)
    } else if (hit.kind === 'cut') {
      cells.splice(at, hit.bytes)
    } else if (hit.kind === 'flip') {
      const cell = cells[at]
      if (cell !== undefined) cells[at] = { ...cell, value: cell.value ^ (1 << hit.bit) }
    } else {
      for (let i = at; i < Math.min(at + hit.bytes, cells.length); i++) {
        cells[i] = { ...cells[i]!, value: 0 }
      }
    }
  }
  return {
    bytes: Buffer.from(cells.map(({ value }) => value)),
    origins: cells.map((c) => c.origin),
  }
}

/** Where a written record lies whole and unchanged in the damaged segment; -1 when it does not. */
export function findIntact({ bytes, origins }: Damaged, record: WrittenRecord): number {
  const { offset, end } = record
  const at = origins.indexOf(offset)
  if (at < 0 || !bytes.subarray(at, at + end - offset).equals(record.bytes)) return -1
  for (let i = 0; i < end - offset; i++) if (origins[at + i] !== offset + i) return -1
  return at
}

/** The rules that confirm a record that ends at `end`, word by word, without index and checksums. */
export function confirmed(bytes: Buffer, end: number, magic: number): boolean {
  const size = headerBytes(magic)
  const isHeader = (at: number): boolean => {
    if (at + size > bytes.length || bytes.readUInt32LE(at) !== magic) return false
    // The legacy magic is 0: zeros are not records that were written.
    const [sec, usec] = [bytes.readUInt32LE(at + 4), bytes.readUInt32LE(at + 8)]
    return magic !== 0 || (usec < 1_000_000 && sec + usec > 0)
  }
  if (end === bytes.length || isHeader(end)) return true
  if (end + size > bytes.length) {
    const word = Buffer.alloc(4)
    word.writeUInt32LE(magic)
    const torn = bytes.subarray(end, end + 4)
    return torn.equals(word.subarray(0, torn.length))
  }
  const after = end + size + bytes.readUInt32LE(end + size - 4)
  return after === bytes.length || isHeader(after)
}

export function indexOf(records: readonly WrittenRecord[], closed: boolean): Buffer {
  const offsets = records.map(({ offset }) => offset)
  if (closed && offsets.length > 0) offsets.push(0)
  const bytes = Buffer.alloc(offsets.length * 8)
  for (const [i, offset] of offsets.entries()) bytes.writeUInt32LE(offset, i * 8)
  return bytes
}
