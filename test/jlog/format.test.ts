import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  checkpointFile,
  decodeCheckpoint,
  decodeMetastore,
  encodeCheckpoint,
  encodeMetastore,
  indexFile,
  isCompressed,
  parseCheckpointFile,
  parseSegmentFile,
  readRecordHeader,
  segmentFile,
  writeRecordHeader,
} from '../../jlog/format.js'

const u32 = () => fc.nat(0xffffffff)

describe('what is encoded decodes to itself', () => {
  test('record headers, of 16 bytes and of 20', () => {
    fc.assert(
      fc.property(
        u32(),
        u32(),
        u32(),
        u32(),
        fc.boolean(),
        (sec, usec, length, other, compressed) => {
          const magic = compressed ? 0x15106a01 : 0x663a7318
          const header = { magic, sec, usec, length, storedLength: compressed ? other : length }
          const bytes = Buffer.alloc(28, 0xaa)
          writeRecordHeader(bytes, 4, header)
          expect(readRecordHeader(bytes, 4, magic)).toEqual(header)
          expect(bytes.subarray(4 + (compressed ? 20 : 16)).every((byte) => byte === 0xaa)).toBe(
            true,
          )
        },
      ),
    )
  })

  test('metastores', () => {
    const safety = fc.constantFrom(0 as const, 1 as const, 2 as const)
    const magic = fc.constantFrom(0x663a7318, 0x15106a00, 0x15106a01, 0)
    fc.assert(
      fc.property(u32(), u32(), safety, magic, (storageLog, unitLimit, safety, hdrMagic) => {
        const meta = { storageLog, unitLimit, safety, hdrMagic }
        expect(decodeMetastore(encodeMetastore(meta))).toEqual(meta)
      }),
    )
  })

  test('checkpoints, and their names of any bytes', () => {
    fc.assert(
      fc.property(
        u32(),
        u32(),
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        (log, marker, name) => {
          expect(decodeCheckpoint(encodeCheckpoint({ log, marker }))).toEqual({ log, marker })
          expect(parseCheckpointFile(checkpointFile(name))).toEqual(Buffer.from(name))
        },
      ),
    )
  })

  test('names of segments', () => {
    fc.assert(
      fc.property(u32(), (log) => {
        expect(parseSegmentFile(segmentFile(log))).toBe(log)
      }),
    )
  })
})

test('what is none of them decodes to null', () => {
  expect(decodeMetastore(Buffer.alloc(15))).toBeNull()
  expect(decodeMetastore(Buffer.alloc(16, 0xff))).toBeNull()
  expect(decodeMetastore(Buffer.from(new Uint32Array([0, 1, 1, 5]).buffer))).toBeNull()
  expect(decodeCheckpoint(Buffer.alloc(5))).toBeNull()
  for (const name of ['0000000', '000000000', '0000000A', '00000000.idx', '00000000.torn-0']) {
    expect(parseSegmentFile(name)).toBeNull()
  }
  for (const name of ['cp', 'cp.6', 'cp.6A', 'cp.61.new', 'metastore']) {
    expect(parseCheckpointFile(name)).toBeNull()
  }
})

test('names are as libjlog gives them', () => {
  expect(segmentFile(0xabc)).toBe('00000abc')
  expect(indexFile(1)).toBe('00000001.idx')
  expect(checkpointFile('mail-log/ü')).toBe('cp.6d61696c2d6c6f672fc3bc')
  expect(parseCheckpointFile('cp.')).toEqual(Buffer.alloc(0))
})

test('a journal is compressed by its magic', () => {
  expect([0x663a7318, 0, 0x15106a00, 0x15106a01].map(isCompressed)).toEqual([
    false,
    false,
    true,
    true,
  ])
})
