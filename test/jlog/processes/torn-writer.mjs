/**
 * A writer that dies in the middle of an append: takes the lock of the segment being written, writes the first bytes of a
 * record there, says so, and kills itself while it holds the lock. Usage: torn-writer.mjs DIR RECORD(hex) BYTES
 */
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { JournalFile } from '../../../dist/jlog/file.js'
import { lastStorageLog } from '../../../dist/jlog/index.js'

const [dir, record, bytes] = process.argv.slice(2)
const log = await lastStorageLog(dir)
const file = await JournalFile.open(join(dir, log.toString(16).padStart(8, '0')), { create: 0o640 })
await file.lock()
await file.write(Buffer.from(record, 'hex').subarray(0, Number(bytes)), file.size())
writeSync(1, '.')
process.kill(process.pid, 'SIGKILL')
