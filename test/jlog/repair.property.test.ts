/**
 * Random journals, random damage: repair ends, changes nothing the second time, keeps what is confirmed, skips
 * nothing for any subscriber, and every byte that was there is in the journal or in a file beside it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, expect, it } from 'vitest'
import { repairJournal } from '../../jlog/repair.js'
import type { CutRange, RepairReport } from '../../jlog/repair-report.js'
import {
  confirmed,
  type Damage,
  type Damaged,
  damage,
  findIntact,
  headerBytes,
  indexOf,
  inflict,
  type Kind,
  MAGICS,
  payloadOf,
  segmentOf,
  type WrittenRecord,
} from './damage-model.js'
import {
  removeTemporaryDirectories,
  segmentsOf,
  snapshot,
  temporaryDirectory,
  walk,
} from './repair-helpers.js'

afterAll(removeTemporaryDirectories)

interface Journal {
  kind: Kind
  segments: { payloads: Buffer[]; indexed: boolean; hits: Damage[]; gone: boolean }[]
  /** Fractions of all records. */
  subscribers: number[]
  metastore: 'sound' | 'gone' | 'short' | 'garbage' | 'behind'
}

const share = fc.double({ min: 0, max: 1, noNaN: true })

const journals: fc.Arbitrary<Journal> = fc
  .constantFrom<Kind>('plain', 'plain', 'lz4', 'none')
  .chain((kind) =>
    fc.record({
      kind: fc.constant(kind),
      segments: fc.array(
        fc.record({
          payloads: fc.array(payloadOf(MAGICS[kind], false), { minLength: 1, maxLength: 10 }),
          indexed: fc.boolean(),
          hits: fc.oneof(fc.constant<Damage[]>([]), fc.array(damage, { maxLength: 2 })),
          gone: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
        }),
        { minLength: 1, maxLength: 4 },
      ),
      subscribers: fc.array(share, { maxLength: 3 }),
      metastore: fc.constantFrom('sound', 'sound', 'gone', 'short', 'garbage', 'behind'),
    }),
  )

interface Laid {
  dir: string
  magic: number
  written: WrittenRecord[][]
  damaged: (Damaged | null)[]
  checkpoints: { name: string; log: number; marker: number }[]
}

function lay(journal: Journal): Laid {
  const dir = temporaryDirectory()
  const magic = MAGICS[journal.kind]
  const last = journal.segments.length - 1
  const written = journal.segments.map(({ payloads }, i) => segmentOf(magic, payloads, i * 100))
  const damaged = journal.segments.map(({ hits, gone, indexed }, i) => {
    const name = i.toString(16).padStart(8, '0')
    if (gone && i < last) return null
    const result = inflict(Buffer.concat(written[i]!.map(({ bytes }) => bytes)), hits)
    writeFileSync(join(dir, name), result.bytes)
    if (indexed) writeFileSync(join(dir, `${name}.idx`), indexOf(written[i]!, i < last))
    return result
  })
  const meta = Buffer.alloc(16)
  meta.writeUInt32LE(journal.metastore === 'behind' ? Math.max(0, last - 2) : last, 0)
  meta.writeUInt32LE(1024, 4)
  meta.writeUInt32LE(1, 8)
  meta.writeUInt32LE(magic, 12)
  if (journal.metastore === 'garbage') meta.fill(0xb7)
  const size = journal.metastore === 'short' ? 9 : 16
  if (journal.metastore !== 'gone') writeFileSync(join(dir, 'metastore'), meta.subarray(0, size))
  const ids = written.flatMap((records, log) =>
    [0, ...records].map((_, marker) => ({ log, marker })),
  )
  const checkpoints = journal.subscribers.map((at, i) => {
    const id = ids[Math.floor(at * (ids.length - 1))]!
    const name = `cp.${(0x61 + i).toString(16)}`
    const bytes = Buffer.alloc(8)
    bytes.writeUInt32LE(id.log, 0)
    bytes.writeUInt32LE(id.marker, 4)
    writeFileSync(join(dir, name), bytes)
    return { name, ...id }
  })
  return { dir, magic, written, damaged, checkpoints }
}

/** Kept and cut ranges, put together again, are the segment as it was. */
function nothingDestroyed({ dir, damaged }: Laid, report: RepairReport) {
  for (const segment of report.segments) {
    const before = damaged[segment.log]!.bytes
    const kept = readIfThere(join(dir, segment.file))
    const cut =
      segment.cutFile === null ? Buffer.alloc(0) : readFileSync(join(dir, segment.cutFile))
    const pieces: Buffer[] = []
    let [keptAt, cutAt, at] = [0, 0, 0]
    for (const range of segment.cut) {
      pieces.push(kept.subarray(keptAt, keptAt + range.offset - at))
      pieces.push(cut.subarray(cutAt, cutAt + range.bytes))
      keptAt += range.offset - at
      cutAt += range.bytes
      at = range.offset + range.bytes
    }
    pieces.push(kept.subarray(keptAt))
    expect(Buffer.concat(pieces).equals(before), `segment ${segment.log}`).toBe(true)
    expect(cut.length).toBe(cutAt)
  }
}

/** A damaged header's own length is tried first: where it happens to lead to a header, what it passes is not read. */
function leadsOver(bytes: Buffer, cut: CutRange, at: number, magic: number): boolean {
  const size = headerBytes(magic)
  const end = cut.offset + cut.bytes
  if (at < cut.offset || at >= end || cut.offset + size > bytes.length) return false
  return cut.offset + size + bytes.readUInt32LE(cut.offset + size - 4) === end
}

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}

it('a repaired journal is whole, and nothing of the damaged one is lost', async () => {
  await fc.assert(
    fc.asyncProperty(journals, async (journal) => {
      const laid = lay(journal)
      const { dir, magic, written, damaged, checkpoints } = laid
      const others = [...snapshot(dir)].filter(([name]) => !/^[0-9a-f]{8}$/.test(name))
      const report = await repairJournal(dir)
      const files = snapshot(dir)

      // What is left can be read from end to end. (Damage within a payload stays, without checksums to tell it.)
      const left = new Map(segmentsOf(dir).map((name) => [Number.parseInt(name, 16), name]))
      for (const name of left.values()) walk(readFileSync(join(dir, name)), magic)
      nothingDestroyed(laid, report)
      const contents = new Set(files.values())
      for (const [name, bytes] of others) {
        if (!name.startsWith('cp.') && bytes !== '') expect(contents.has(bytes), name).toBe(true)
      }

      // Each record that is intact and confirmed is there, in order; each subscriber still has what it has not read.
      for (const [log, records] of written.entries()) {
        const state = damaged[log]!
        if (state === null) continue
        const name = left.get(log)
        const bytes = name === undefined ? Buffer.alloc(0) : readFileSync(join(dir, name))
        const known = new Map(records.map((record, i) => [record.bytes.readUInt32LE(4), i + 1]))
        const order = walk(bytes, magic).map(({ at }) => known.get(bytes.readUInt32LE(at + 4)) ?? 0)
        const single = journal.segments[log]!.hits.length <= 1
        for (const [i, record] of records.entries()) {
          const at = findIntact(state, record)
          const end = at + record.bytes.length
          if (at < 0 || !single || !confirmed(state.bytes, end, magic)) continue
          const cuts = report.segments.find((segment) => segment.log === log)!.cut
          if (cuts.some((cut) => leadsOver(state.bytes, cut, at, magic))) continue
          expect(bytes.includes(record.bytes), `record ${i + 1} of segment ${log}`).toBe(true)
        }
        // Whole records that vanished without a trace leave no damage to see.
        const seen = report.segments.find((segment) => segment.log === log)!.cutRanges > 0
        if (!seen && journal.segments[log]!.hits.some(({ kind }) => kind === 'cut')) continue
        for (const checkpoint of checkpoints) {
          const now = readFileSync(join(dir, checkpoint.name))
          const to = { log: now.readUInt32LE(0), marker: now.readUInt32LE(4) }
          const unread = order.findIndex((ordinal) => {
            return log > checkpoint.log || (log === checkpoint.log && ordinal > checkpoint.marker)
          })
          if (unread < 0) continue
          const skipped = to.log > log || (to.log === log && to.marker > unread)
          expect(skipped, `${checkpoint.name} skips record ${unread + 1} of ${log}`).toBe(false)
        }
      }

      const again = await repairJournal(dir)
      expect(again.changed).toBe(false)
      expect(snapshot(dir)).toEqual(files)
      rmSync(dir, { recursive: true })
    }),
    { numRuns: 150 },
  )
})

it('a subscriber reads nothing twice when the index tells what was lost', async () => {
  const payloads = fc.array(payloadOf(MAGICS.plain, false), { minLength: 3, maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(payloads, fc.nat(), fc.nat(), async (all, victimAt, markerAt) => {
      const magic = MAGICS.plain
      const records = segmentOf(magic, all)
      const victim = records[victimAt % records.length]!
      const marker = markerAt % (records.length + 1)
      const dir = temporaryDirectory()
      const bytes = Buffer.concat(records.map((record) => record.bytes))
      bytes.fill(0xff, victim.offset, victim.offset + 16)
      writeFileSync(join(dir, '00000000'), bytes)
      writeFileSync(join(dir, '00000000.idx'), indexOf(records, true))
      writeFileSync(join(dir, '00000001'), records[0]!.bytes)
      const checkpoint = Buffer.alloc(8)
      checkpoint.writeUInt32LE(marker, 4)
      writeFileSync(join(dir, 'cp.61'), checkpoint)
      const report = await repairJournal(dir)
      const left = walk(readIfThere(join(dir, '00000000')), magic)
      expect(left).toHaveLength(report.segments[0]!.records)
      const read = records.slice(0, marker)
      const isLeft = (record: WrittenRecord) =>
        readIfThere(join(dir, '00000000')).includes(record.bytes)
      if (left.length > 0) {
        expect(readFileSync(join(dir, 'cp.61')).readUInt32LE(4)).toBe(read.filter(isLeft).length)
      }
      rmSync(dir, { recursive: true })
    }),
    { numRuns: 60 },
  )
})
