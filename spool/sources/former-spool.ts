/**
 * Spools of format 1, which no version opens any more but to import from: their records are without leases and
 * without the end of their retention, and there were fewer indexes. Messages and chunks lie where they do now.
 */
import { type Database, open, type RootDatabase } from 'lmdb'
import { SpoolError } from '../errors.js'
import {
  chunkCount,
  chunkKey,
  chunkLength,
  FORMAT_UNPACKED,
  FORMAT_VERSION,
  type MessageRecord,
  STATE_FORMAT,
  unpack,
} from '../layout.js'
import { MESSAGE_STATES } from '../message.js'
import { formatId, ID_BYTES } from '../message-id.js'

/** Reads a spool of one of the formats that there are. */
export interface SpoolReader {
  count(): number
  /** Keys and values above a key, in order. */
  page(after: Buffer | null, limit: number): { key: Buffer; value: Buffer }[]
  get(key: Buffer): Buffer | undefined
  /** Throws SPOOL_ERR_CORRUPT. */
  decode(key: Buffer, value: Buffer): MessageRecord
  read(record: MessageRecord): AsyncIterable<Uint8Array>
  remove(id: string): Promise<void>
  close(): Promise<void>
}

type Rows = Database<Buffer, Buffer>

const FORMER_VERSION = 1
/** version (1), state (1), size (6), body id (16), sha256 (32) */
const HEADER_BYTES = 56
const FIELDS = 15

/** Null for a spool of a format that is opened as it is. Throws SPOOL_ERR_OPEN. */
export function openFormer(path: string): SpoolReader | null {
  let root: RootDatabase<Buffer, Buffer>
  try {
    root = open<Buffer, Buffer>({
      path,
      readOnly: true,
      noSubdir: false,
      encoding: 'binary',
      keyEncoding: 'binary',
      maxDbs: 32,
    })
  } catch (cause) {
    throw new SpoolError('SPOOL_ERR_OPEN', 'the spool cannot be opened', { file: path, cause })
  }
  try {
    const format = formatOf(rowsOf(root, 'state', path), path)
    if (format === FORMER_VERSION) return readerOf(root, path)
    void root.close()
    if (format === FORMAT_UNPACKED || format === FORMAT_VERSION) return null
    throw new SpoolError('SPOOL_ERR_OPEN', `the spool has format ${format}`, {
      file: path,
      advice: `this version imports formats ${FORMER_VERSION} to ${FORMAT_VERSION}`,
    })
  } catch (error) {
    void root.close()
    throw error
  }
}

export function pageOf(
  rows: Rows,
  after: Buffer | null,
  limit: number,
): { key: Buffer; value: Buffer }[] {
  const range = after === null ? { limit } : { start: after, exclusiveStart: true, limit }
  const page: { key: Buffer; value: Buffer }[] = []
  for (const { key, value } of rows.getRange(range)) {
    page.push({ key: Buffer.from(key), value: Buffer.from(value) })
  }
  return page
}

function readerOf(root: RootDatabase<Buffer, Buffer>, path: string): SpoolReader {
  const messages = rowsOf(root, 'messages', path)
  const chunks = rowsOf(root, 'chunks', path)
  return {
    count: () => (messages.getStats() as { entryCount: number }).entryCount,
    page: (after, limit) => pageOf(messages, after, limit),
    get: (key) => messages.get(key),
    decode: decodeFormer,
    read: (record) => readFormer(chunks, record),
    remove: () => Promise.reject(new Error('it is only read')),
    close: async () => root.close(),
  }
}

function rowsOf(root: RootDatabase<Buffer, Buffer>, name: string, file: string): Rows {
  const rows = root.openDB<Buffer, Buffer>(name, { encoding: 'binary', keyEncoding: 'binary' }) as
    | Rows
    | undefined
  if (rows !== undefined) return rows
  throw new SpoolError('SPOOL_ERR_OPEN', `the spool has no database ${name}`, { file })
}

function formatOf(state: Rows, file: string): unknown {
  const row = state.get(STATE_FORMAT)
  try {
    if (row !== undefined) return unpack(row)
  } catch {}
  throw new SpoolError('SPOOL_ERR_CORRUPT', 'the format of the spool cannot be read', {
    file,
    advice: 'run bobbin spool repair on it first',
  })
}

function decodeFormer(id: Buffer, bytes: Buffer): MessageRecord {
  let fields: unknown
  try {
    fields = unpack(bytes.subarray(HEADER_BYTES))
  } catch (cause) {
    throw corrupt(id, cause)
  }
  const state = MESSAGE_STATES[bytes[1] as number]
  const isSound = id.length === ID_BYTES && bytes[0] === FORMER_VERSION && state !== undefined
  if (!isSound || !Array.isArray(fields) || fields.length < FIELDS) throw corrupt(id)
  return {
    state,
    size: bytes.readUIntBE(2, 6),
    body: Buffer.from(bytes.subarray(8, 24)),
    sha256: Buffer.from(bytes.subarray(24, HEADER_BYTES)),
    mailfrom: fields[0],
    rcptto: fields[1],
    created: fields[2],
    nextAttempt: fields[3],
    retries: fields[4],
    version: fields[5],
    batchId: fields[6],
    connectionId: fields[7],
    protocol: fields[8],
    bindingGroup: fields[9],
    binding: fields[10],
    retention: fields[11],
    peer: fields[12],
    conn: fields[13],
    mess: fields[14],
    lease: null,
  }
}

async function* readFormer(
  chunks: Rows,
  { body, size }: MessageRecord,
): AsyncGenerator<Uint8Array, void, void> {
  for (let n = 0; n < chunkCount(size); n++) {
    const chunk = chunks.get(chunkKey(body, n))
    if (chunk?.length !== chunkLength(size, n)) {
      const found = chunk === undefined ? 'is missing' : `has ${chunk.length} bytes`
      throw new SpoolError('SPOOL_ERR_CORRUPT', `chunk ${n} of ${body.toString('hex')} ${found}`)
    }
    yield Buffer.from(chunk)
  }
}

function corrupt(id: Buffer, cause?: unknown): SpoolError {
  const text = id.length === ID_BYTES ? formatId(id) : id.toString('hex')
  return new SpoolError('SPOOL_ERR_CORRUPT', `the meta record of ${text} cannot be read`, { cause })
}
