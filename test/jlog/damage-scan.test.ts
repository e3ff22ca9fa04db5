import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { DamageBytes } from '../../jlog/damage-bytes.js'
import { type Extent, scanSegment } from '../../jlog/damage-scan.js'
import {
  confirmed,
  type Damage,
  damage,
  encode,
  findIntact,
  headerBytes,
  inflict,
  type Kind,
  MAGICS,
  payloadOf,
  segmentOf,
} from './damage-model.js'
import { removeTemporaryDirectories, temporaryDirectory } from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

const dir = temporaryDirectory()
const file = join(dir, '00000000')

async function scan(bytes: Buffer, magic: number) {
  writeFileSync(file, bytes)
  const fd = openSync(file, 'r')
  const records: { offset: number; end: number }[] = []
  const extents: Extent[] = []
  try {
    const visit = (offset: number, end: number) => records.push({ offset, end })
    const walk = scanSegment(new DamageBytes(fd, bytes.length, file), magic, {}, visit)
    for await (const extent of walk) extents.push(extent)
  } finally {
    closeSync(fd)
  }
  return { records, extents }
}

/** A damaged header's own length is tried first: where it happens to lead to a header, what it passes is not read. */
function leadsOver(
  bytes: Buffer,
  { kind, offset, end }: Extent,
  at: number,
  magic: number,
): boolean {
  const size = headerBytes(magic)
  if (kind === 'kept' || at < offset || at >= end || offset + size > bytes.length) return false
  return offset + size + bytes.readUInt32LE(offset + size - 4) === end
}

function claims(extent: Extent, at: number): boolean {
  if (extent.kind === 'kept' || at < extent.offset || at >= extent.end) return false
  return extent.record !== undefined
}

const kinds = fc.constantFrom<Kind>('plain', 'none', 'lz4', 'legacy')

function journals(nested: boolean, hits: fc.Arbitrary<Damage[]>) {
  return kinds.chain((kind) =>
    fc.record({
      magic: fc.constant(MAGICS[kind] as number),
      payloads: fc.array(payloadOf(MAGICS[kind], nested), { maxLength: 14 }),
      hits,
    }),
  )
}

describe('a scan of a damaged segment', () => {
  it('has every byte in exactly one extent, and every record where one was written', async () => {
    const several = fc.array(damage, { maxLength: 3 })
    await fc.assert(
      fc.asyncProperty(journals(false, several), async ({ magic, payloads, hits }) => {
        // Where any four zeros are a magic, bytes that moved read as other headers, and nobody can tell.
        fc.pre(magic !== 0 || hits.every(({ kind }) => kind === 'flip' || kind === 'end'))
        const written = segmentOf(magic, payloads)
        const damaged = inflict(Buffer.concat(written.map(({ bytes }) => bytes)), hits)
        const { records, extents } = await scan(damaged.bytes, magic)
        let at = 0
        for (const { offset, end } of extents) {
          expect(offset).toBe(at)
          expect(end).toBeGreaterThan(offset)
          at = end
        }
        expect(at).toBe(damaged.bytes.length)
        // A record that is kept may have been hit (without checksums nobody knows), but it was written there.
        const starts = new Set(written.map(({ offset }) => offset))
        for (const { offset } of records) {
          const header = damaged.origins.slice(offset, offset + 16)
          const untouched = header.find((origin) => origin >= 0)
          if (untouched !== undefined) {
            const origin = untouched - header.indexOf(untouched)
            expect(starts.has(origin), `a record at ${offset}`).toBe(true)
          }
        }
      }),
      { numRuns: 1500 },
    )
  })

  it('keeps every record that is intact and confirmed', async () => {
    const one = fc.array(damage, { minLength: 1, maxLength: 3 })
    await fc.assert(
      fc.asyncProperty(journals(false, one), async ({ magic, payloads, hits }) => {
        // Where any four zeros are a magic, bytes that moved read as other headers, and nobody can tell.
        fc.pre(magic !== 0 || hits.every(({ kind }) => kind === 'flip' || kind === 'end'))
        const written = segmentOf(magic, payloads)
        const damaged = inflict(Buffer.concat(written.map(({ bytes }) => bytes)), hits)
        const { records, extents } = await scan(damaged.bytes, magic)
        const kept = new Set(records.map(({ offset, end }) => `${offset}-${end}`))
        for (const record of written) {
          const at = findIntact(damaged, record)
          const end = at + record.bytes.length
          if (at < 0 || !confirmed(damaged.bytes, end, magic)) continue
          if (extents.some((extent) => leadsOver(damaged.bytes, extent, at, magic))) continue
          // With more damage behind it, a length that lies cannot be told from one that holds records.
          if (hits.length > 1 && extents.some((extent) => claims(extent, at))) continue
          expect(kept.has(`${at}-${end}`), `the record written at ${record.offset}`).toBe(true)
        }
      }),
      { numRuns: 3000 },
    )
  })

  it('takes no record out of a payload when one header has lost its magic', async () => {
    const nested = journals(true, fc.constant([])).filter(({ payloads }) => payloads.length > 0)
    await fc.assert(
      fc.asyncProperty(nested, fc.nat(), async ({ magic, payloads }, which) => {
        const written = segmentOf(magic, payloads)
        const bytes = Buffer.concat(written.map((record) => record.bytes))
        const victim = written[which % written.length]!
        bytes.writeUInt32LE(0xdeadbeef, victim.offset)
        const { records } = await scan(bytes, magic)
        const rest = written.filter((record) => record !== victim)
        expect(records).toEqual(rest.map(({ offset, end }) => ({ offset, end })))
      }),
      { numRuns: 800 },
    )
  })

  it('takes no record out of a torn tail', async () => {
    const nested = journals(true, fc.constant([])).filter(({ payloads }) => payloads.length > 0)
    const share = fc.double({ min: 0, max: 1, noNaN: true })
    await fc.assert(
      fc.asyncProperty(nested, share, async ({ magic, payloads }, left) => {
        const written = segmentOf(magic, payloads)
        const last = written.at(-1)!
        const whole = Buffer.concat(written.map((record) => record.bytes))
        const size = last.offset + Math.floor(left * (last.bytes.length - 1))
        const { records } = await scan(whole.subarray(0, size), magic)
        const rest = written.slice(0, -1).map(({ offset, end }) => ({ offset, end }))
        // Cut just where an inner record ends, nothing tells it from a record whose length is damaged.
        if (records.length !== rest.length) {
          expect(records.at(-1)!.end).toBe(size)
        } else expect(records).toEqual(rest)
      }),
      { numRuns: 800 },
    )
  })

  it('takes no record out of a payload when garbage was inserted behind it', async () => {
    const nested = journals(true, fc.constant([])).filter(({ payloads }) => payloads.length > 1)
    const garbage = fc.uint8Array({ minLength: 30, maxLength: 80 }).map((a) => a.map((x) => x | 1))
    await fc.assert(
      fc.asyncProperty(nested, fc.nat(), garbage, async ({ magic, payloads }, which, extra) => {
        fc.pre(magic !== 0) // zeros in payloads are headers enough, where the magic is zero
        const written = segmentOf(magic, payloads)
        const after = which % (written.length - 1)
        const place = written[after]!.end
        const whole = Buffer.concat(written.map((record) => record.bytes))
        const bytes = Buffer.concat([whole.subarray(0, place), extra, whole.subarray(place)])
        const { records } = await scan(bytes, magic)
        const expected = written.flatMap(({ offset, end }, i) => {
          if (i === after) return []
          return i < after
            ? [{ offset, end }]
            : [{ offset: offset + extra.length, end: end + extra.length }]
        })
        expect(records).toEqual(expected)
      }),
      { numRuns: 800 },
    )
  })

  it('sees no records in zeros, also where the magic is zero', async () => {
    for (const magic of Object.values(MAGICS)) {
      expect((await scan(Buffer.alloc(5000), magic)).records).toEqual([])
      const record = encode(magic, 1_700_000_000, 5, Buffer.from('here'))
      const lost = Buffer.concat([record, record, Buffer.alloc(4096), record, record])
      const { records } = await scan(lost, magic)
      expect(records.map(({ offset }) => offset)).toEqual([
        0,
        2 * record.length + 4096,
        3 * record.length + 4096,
      ])
    }
  })
})
