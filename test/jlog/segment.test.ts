import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  COMPRESSED_MAGIC,
  headerBytes,
  isCompressed,
  PLAIN_MAGIC,
  writeRecordHeader,
} from '../../jlog/format.js'
import {
  type PositionalReader,
  RecordOffsets,
  WALK_CHUNK_BYTES,
  walkRecords,
  walkSegment,
} from '../../jlog/segment.js'

const MAGICS = [PLAIN_MAGIC, 0, COMPRESSED_MAGIC | 1]

/** Records of the given stored sizes, end to end, and where each begins. */
function segment(hdrMagic: number, sizes: readonly number[]): { bytes: Buffer; starts: number[] } {
  const header = headerBytes(hdrMagic)
  const bytes = Buffer.alloc(
    sizes.reduce((sum, size) => sum + header + size, 0),
    0xa5,
  )
  const starts: number[] = []
  let at = 0
  for (const size of sizes) {
    starts.push(at)
    writeRecordHeader(bytes, at, {
      magic: hdrMagic,
      sec: 1,
      usec: 2,
      length: isCompressed(hdrMagic) ? size + 7 : size,
      storedLength: size,
    })
    at += header + size
  }
  return { bytes, starts }
}

function inMemory(bytes: Buffer): PositionalReader {
  return {
    readAt: (into, position) =>
      Promise.resolve(bytes.copy(into, 0, position, position + into.length)),
  }
}

describe('walkRecords', () => {
  it('finds each record of a plain, a legacy and a compressed stretch, also with an offset', () => {
    for (const magic of MAGICS) {
      const { bytes, starts } = segment(magic, [0, 1, 100, 0, 5000])
      const shifted = Buffer.concat([Buffer.alloc(3, 1), bytes]).subarray(3)
      const offsets = new RecordOffsets(1)
      expect(walkRecords(shifted, 0, bytes.length, magic, offsets)).toEqual({
        stop: 'end',
        at: bytes.length,
        needed: 0,
      })
      expect([...offsets.view()]).toEqual(starts)
      offsets.clear()
      walkRecords(shifted, starts[2]!, bytes.length, magic, offsets)
      expect([...offsets.view()]).toEqual(starts.slice(2))
    }
  })

  it('says why it stops, at every place where the bytes may end', () => {
    for (const magic of MAGICS) {
      const header = headerBytes(magic)
      const { bytes, starts } = segment(magic, [9, 0, 40])
      for (let end = 0; end <= bytes.length; end++) {
        const offsets = new RecordOffsets()
        const { stop, at, needed } = walkRecords(bytes, 0, end, magic, offsets)
        const ends = [...starts.slice(1), bytes.length]
        const whole = ends.filter((e) => e <= end).length
        expect([...offsets.view()]).toEqual(starts.slice(0, whole))
        expect(at).toBe(whole === 0 ? 0 : ends[whole - 1])
        const left = end - at
        expect(stop).toBe(
          left === 0 ? 'end' : left < header ? 'incomplete-header' : 'incomplete-payload',
        )
        expect(needed).toBe(left === 0 ? 0 : left < header ? header : ends[whole]! - at)
      }
    }
  })

  it('stops at a foreign header, at a length past the end, and at the limit', () => {
    const { bytes, starts } = segment(PLAIN_MAGIC, [5, 5, 5])
    const offsets = new RecordOffsets()
    expect(walkRecords(bytes, 0, bytes.length, PLAIN_MAGIC, offsets, 2)).toMatchObject({
      stop: 'limit',
      at: starts[2],
    })
    bytes.writeUInt32LE(0xfffffff0, starts[2]! + 12)
    offsets.clear()
    expect(walkRecords(bytes, 0, bytes.length, PLAIN_MAGIC, offsets)).toEqual({
      stop: 'incomplete-payload',
      at: starts[2],
      needed: 0xfffffff0 + 16,
    })
    bytes.writeUInt32LE(0, starts[1]!)
    offsets.clear()
    expect(walkRecords(bytes, 0, bytes.length, PLAIN_MAGIC, offsets)).toMatchObject({
      stop: 'bad-magic',
      at: starts[1],
    })
    expect(offsets.length).toBe(1)
  })
})

describe('walkSegment', () => {
  it('finds the same records in a file as in one stretch, whatever their sizes are to the chunk', async () => {
    const size = fc.oneof(
      fc.nat(300),
      fc.integer({ min: WALK_CHUNK_BYTES - 40, max: WALK_CHUNK_BYTES + 40 }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...MAGICS),
        fc.array(size, { maxLength: 6 }),
        fc.nat(60),
        async (magic, sizes, cut) => {
          const { bytes } = segment(magic, sizes)
          const end = Math.max(0, bytes.length - cut)
          const offsets = new RecordOffsets()
          const whole = walkRecords(bytes, 0, end, magic, offsets)
          const found: number[] = []
          const result = await walkSegment(inMemory(bytes), 0, end, magic, (part, base) => {
            for (const offset of part) found.push(base + offset)
          })
          expect(found).toEqual([...offsets.view()])
          expect(result).toEqual({ ...whole, records: offsets.length })
        },
      ),
      { numRuns: 60 },
    )
  })

  it('reports a file that is shorter than it was said to be', async () => {
    const { bytes } = segment(PLAIN_MAGIC, [10, 10])
    expect(await walkSegment(inMemory(bytes), 0, bytes.length + 100, PLAIN_MAGIC)).toMatchObject({
      stop: 'incomplete-header',
      at: bytes.length,
      records: 2,
    })
  })
})
