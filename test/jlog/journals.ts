/** What the journal's tests share: the fixtures, temporary directories, and a plain reading of segments. */
import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decompressPayload } from '../../jlog/compression.js'
import { headerBytes, isCompressed, parseSegmentFile, readRecordHeader } from '../../jlog/format.js'

const FIXTURES = join(import.meta.dirname, '../fixtures/jlog')

/** `[sec, usec, bytes, first 16 digits of the payload's sha256]` */
export type WrittenRecord = [sec: number, usec: number, bytes: number, sha256: string]

export interface FixtureFacts {
  readonly written: WrittenRecord[]
  readonly meta: {
    readonly storage_log: number
    readonly unit_limit: number
    readonly safety: number
    readonly hdr_magic: number
  }
}

export const manifest = JSON.parse(readFileSync(join(FIXTURES, 'manifest.json'), 'utf8')) as Record<
  string,
  FixtureFacts
>

/** Directory of a fixture; never to be written to. */
export function fixture(name: string): string {
  return join(FIXTURES, name)
}

export function makeTemporary(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'bobbin-jlog-'))
}

/** The names of segments among `names`, in order. */
export function inSegments(names: readonly string[]): string[] {
  return names.filter((name) => parseSegmentFile(name) !== null).sort()
}

export interface RecordOnDisk {
  readonly log: number
  readonly marker: number
  readonly sec: number
  readonly usec: number
  readonly payload: Buffer
}

/** Reads all segments straight from the format's description, up to the first incomplete record of each. */
export async function recordsOnDisk(dir: string): Promise<RecordOnDisk[]> {
  const metastore = await readFile(join(dir, 'metastore'))
  const hdrMagic = metastore.length === 16 ? metastore.readUInt32LE(12) : 0
  const header = headerBytes(hdrMagic)
  const records: RecordOnDisk[] = []
  for (const name of inSegments(await readdir(dir))) {
    const bytes = await readFile(join(dir, name))
    let marker = 0
    for (let at = 0; at + header <= bytes.length; ) {
      const { magic, sec, usec, length, storedLength } = readRecordHeader(bytes, at, hdrMagic)
      const end = at + header + storedLength
      if (magic !== hdrMagic || end > bytes.length) break
      const stored = bytes.subarray(at + header, end)
      const payload = isCompressed(hdrMagic)
        ? decompressPayload(stored, length, hdrMagic & 0xff)
        : stored
      marker++
      records.push({ log: Number.parseInt(name, 16), marker, sec, usec, payload })
      at = end
    }
  }
  return records
}
