/** Printing records: payloads as they are, a newline added where there is none, or a line of JSON each. */
import {
  JlogError,
  type JournalRecord,
  type RecordBatch,
  recordToJson,
} from '../../../jlog/index.js'
import { print } from '../../program.js'

export interface RecordOutputOptions {
  /** A line of JSON each, payloads in base64. */
  readonly json?: boolean
  /** What stands for a record without a byte. Default: an empty line. */
  readonly empty?: string
  /** Told of a record that cannot be read (it does not decompress), and is left out. */
  readonly onUnreadable: (error: JlogError) => void
}

const NEWLINE = 0x0a
/** Above this a payload is written in pieces, so that its text is never held whole. A multiple of 3, for base64. */
const PIECE_BYTES = 3 * 256 * 1024

export async function printRecords(
  batch: RecordBatch,
  options: RecordOutputOptions,
): Promise<void> {
  let pieces: Uint8Array[] = []
  let pending = 0
  for (let i = 0; i < batch.length; i++) {
    const record = readRecord(batch, i, options)
    if (record === null) continue
    for (const piece of options.json ? jsonPieces(record) : rawPieces(record, options)) {
      pieces.push(piece)
      pending += piece.length
      if (pending < PIECE_BYTES) continue
      await print(Buffer.concat(pieces))
      pieces = []
      pending = 0
    }
  }
  if (pending > 0) await print(Buffer.concat(pieces))
}

function readRecord(
  batch: RecordBatch,
  i: number,
  { onUnreadable }: RecordOutputOptions,
): JournalRecord | null {
  try {
    return batch.record(i)
  } catch (error) {
    if (!(error instanceof JlogError)) throw error
    onUnreadable(error)
    return null
  }
}

function* rawPieces({ payload }: JournalRecord, { empty = '' }: RecordOutputOptions) {
  if (payload.length === 0) yield Buffer.from(`${empty}\n`)
  else {
    yield payload
    if (payload.at(-1) !== NEWLINE) yield LINE_END
  }
}

const LINE_END = Buffer.from('\n')

function* jsonPieces(record: JournalRecord) {
  const { payload } = record
  if (payload.length <= PIECE_BYTES) {
    yield Buffer.from(`${recordToJson(record)}\n`)
    return
  }
  // The same line, with the payload put between its quotes piece by piece.
  const [head, tail] = recordToJson({ ...record, payload: Buffer.alloc(0) }).split('"data":""')
  yield Buffer.from(`${head!.replace('"size":0', `"size":${payload.length}`)}"data":"`)
  for (let at = 0; at < payload.length; at += PIECE_BYTES) {
    yield Buffer.from(payload.toString('base64', at, at + PIECE_BYTES))
  }
  yield Buffer.from(`"${tail}\n`)
}
