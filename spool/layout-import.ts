/**
 * Rows of `imports`: what an import did, so that one that was killed goes on, and one that is run again takes
 * what is new. A source and its messages are known by digests of their names.
 */
import { createHash } from 'node:crypto'
import { pack, unpack } from './layout-bytes.js'
import { ID_BYTES } from './message-id.js'

const PREFIX = 'i'.charCodeAt(0)
const DIGEST_BYTES = 16
export const IMPORT_KEY_BYTES = 1 + 2 * DIGEST_BYTES
const NO_MESSAGE = Buffer.alloc(DIGEST_BYTES)

/** How far the import of a source is. */
export interface ImportRunRow {
  /** Counted up with each run that begins anew. */
  readonly run: number
  /** Messages imported in runs before this one are imported again. */
  readonly since: number
  /** It has not come to its end. */
  readonly isOpen: boolean
  readonly path: string
  readonly format: string
}

/** What became of a message of the source. */
export interface ImportMarkRow {
  readonly run: number
  readonly result: number
  /** Ours, or the first of them; null when there is none. */
  readonly id: Buffer | null
}

export function importRunKey(source: string): Buffer {
  return Buffer.concat([Buffer.of(PREFIX), digest(source), NO_MESSAGE])
}

export function importMarkKey(source: string, message: string): Buffer {
  return Buffer.concat([Buffer.of(PREFIX), digest(source), digest(message)])
}

/** All marks of a source, without the row of its run. */
export function importMarkRange(source: string): { start: Buffer; end: Buffer } {
  const run = importRunKey(source)
  return {
    start: Buffer.concat([run, Buffer.of(0)]),
    end: Buffer.concat([run.subarray(0, 1 + DIGEST_BYTES), Buffer.alloc(DIGEST_BYTES + 1, 0xff)]),
  }
}

export function isImportKey(key: Buffer): boolean {
  return key.length === IMPORT_KEY_BYTES && key[0] === PREFIX
}

export function encodeImportRun({ run, since, isOpen, path, format }: ImportRunRow): Buffer {
  return pack([run, since, isOpen, path, format])
}

export function encodeImportMark({ run, result, id }: ImportMarkRow): Buffer {
  return pack([run, result, id])
}

/** undefined for what is no such row. */
export function decodeImportRun(row: Buffer): ImportRunRow | undefined {
  const [run, since, isOpen, path, format] = fieldsOf(row)
  if (!isNumber(run) || !isNumber(since) || typeof isOpen !== 'boolean') return undefined
  if (typeof path !== 'string' || typeof format !== 'string') return undefined
  return { run, since, isOpen, path, format }
}

/** undefined for what is no such row. */
export function decodeImportMark(row: Buffer): ImportMarkRow | undefined {
  const [run, result, id] = fieldsOf(row)
  if (!isNumber(run) || !isNumber(result)) return undefined
  if (id === null) return { run, result, id }
  if (!(id instanceof Uint8Array) || id.length !== ID_BYTES) return undefined
  return { run, result, id: Buffer.from(id) }
}

/** Whether a row is what its key says. */
export function isImportRow(key: Buffer, value: Buffer): boolean {
  if (!isImportKey(key)) return false
  const isRun = key.subarray(1 + DIGEST_BYTES).equals(NO_MESSAGE)
  return (isRun ? decodeImportRun(value) : decodeImportMark(value)) !== undefined
}

function fieldsOf(row: Buffer): unknown[] {
  try {
    const fields = unpack(row)
    return Array.isArray(fields) ? fields : []
  } catch {
    return []
  }
}

function digest(name: string): Buffer {
  return createHash('sha256').update(name).digest().subarray(0, DIGEST_BYTES)
}

function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value)
}
