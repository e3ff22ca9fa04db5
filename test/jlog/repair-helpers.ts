/** What the repair tests share: copies of fixtures, and a reading of journals that uses none of the code under test. */
import { createHash } from 'node:crypto'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decompressRawSync } from './lz4-block.js'

export const FIXTURES = fileURLToPath(new URL('../fixtures/jlog/', import.meta.url))

/** `[sec, usec, bytes, first 16 hex digits of the payload's sha256]`, as in the manifest. */
export type Entry = [number, number, number, string]

export interface BadFixture {
  damage: string
  expected: Entry[]
  reference_repair: { subscribers_after: Record<string, string> }
}

export interface SoundFixture {
  meta: { hdr_magic: number }
  subscribers: Record<string, string>
}

export const manifest = JSON.parse(readFileSync(join(FIXTURES, 'manifest.json'), 'utf8')) as Record<
  string,
  BadFixture & SoundFixture
>

const made: string[] = []

export function temporaryDirectory(): string {
  const dir = mkdtempSync(join(tmpdir(), 'bobbin-repair-'))
  made.push(dir)
  return dir
}

export function removeTemporaryDirectories(): void {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true, force: true })
}

export function copyOfFixture(name: string): string {
  const dir = temporaryDirectory()
  cpSync(join(FIXTURES, name), dir, { recursive: true })
  return dir
}

/** Every file by name; what two of these have in common nobody has touched. */
export function snapshot(dir: string): Map<string, string> {
  const files = readdirSync(dir).sort()
  return new Map(files.map((name) => [name, readFileSync(join(dir, name)).toString('latin1')]))
}

export function restore(dir: string, files: ReadonlyMap<string, string>): void {
  rmSync(dir, { recursive: true, force: true })
  cpSync(temporaryDirectory(), dir, { recursive: true })
  for (const [name, bytes] of files) writeFileSync(join(dir, name), Buffer.from(bytes, 'latin1'))
}

export interface PlainRecord {
  sec: number
  usec: number
  payload: Buffer
}

interface StoredRecord {
  at: number
  /** As it stands in the segment, compressed where the journal is. */
  stored: Buffer
}

/** The records of a segment that walks cleanly from end to end, whatever their payloads are; throws otherwise. */
export function walk(bytes: Buffer, magic: number): StoredRecord[] {
  const header = isCompressed(magic) ? 20 : 16
  const records: StoredRecord[] = []
  let at = 0
  while (at < bytes.length) {
    if (bytes.length - at < header) throw new Error(`torn header at ${at}`)
    if (bytes.readUInt32LE(at) !== magic) throw new Error(`no header at ${at}`)
    const end = at + header + bytes.readUInt32LE(at + header - 4)
    if (end > bytes.length) throw new Error(`torn record at ${at}`)
    records.push({ at, stored: bytes.subarray(at + header, end) })
    at = end
  }
  return records
}

/** Records of a segment that walks cleanly, and whose payloads are sound; throws otherwise. */
export function recordsOf(bytes: Buffer, magic: number): PlainRecord[] {
  const isLz4 = isCompressed(magic) && (magic & 0xff) === 1
  return walk(bytes, magic).map(({ at, stored }) => ({
    sec: bytes.readUInt32LE(at + 4),
    usec: bytes.readUInt32LE(at + 8),
    payload: isLz4 ? decompressRawSync(stored, bytes.readUInt32LE(at + 12)) : stored,
  }))
}

function isCompressed(magic: number): boolean {
  return (magic & 0x15106a00) === 0x15106a00
}

export function segmentsOf(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => /^[0-9a-f]{8}$/.test(name))
    .sort()
}

/** Every record of the journal, in order. */
export function entriesOf(dir: string): Entry[] {
  const meta = readFileSync(join(dir, 'metastore'))
  const magic = meta.length === 16 ? meta.readUInt32LE(12) : 0
  return segmentsOf(dir)
    .flatMap((name) => recordsOf(readFileSync(join(dir, name)), magic))
    .map(({ sec, usec, payload }) => [sec, usec, payload.length, digest(payload)])
}

export function digest(payload: Buffer): string {
  return createHash('sha256').update(payload).digest('hex').slice(0, 16)
}
