/** The segments of a journal: listed with those who need them, looked through for damage, repaired, cleaned. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  cleanJournal,
  inspectSegment,
  type JournalSettings,
  listJournal,
  listSubscribers,
  readIndexDetails,
  readSettings,
  repairSegment,
  type SegmentReport,
} from '../../jlog/index.js'
import { Failed, type Output, reasonOf } from './output.js'

export interface DataActions {
  readonly index: boolean
  readonly analyze: boolean
  readonly repair: boolean
  readonly clean: boolean
  /** Nothing on standard output. */
  readonly quiet: boolean
  readonly verbose: boolean
}

/** So many damaged ranges of a segment are told one by one. */
const MOST_RANGES = 10

export async function processDataFiles(
  dir: string,
  actions: DataActions,
  io: Output,
): Promise<void> {
  const listing = await listJournal(dir)
  const settings = await readSettings(dir, listing)
  const needed = await readersAt(dir, io)
  let failed = false
  for (const log of listing.segments) {
    const name = log.toString(16).padStart(8, '0')
    const file = await stat(join(dir, name)).catch(() => null)
    if (file === null) continue // Consumed since it was listed.
    const readers = needed.filter((at) => at <= log).length
    if (!actions.quiet) {
      const bytes = String(file.size).padStart(9)
      await io.out(`\t${name} [${bytes} bytes] ${readers} pending readers\n`)
      if (actions.index) await io.out(`\t\t idx: ${await describeIndex(dir, log)}\n`)
    }
    if (!actions.analyze) continue
    try {
      await analyze(dir, log, settings, actions, io)
    } catch (error) {
      await io.err(`jlogctl: ${reasonOf(error)}\n`)
      failed = true
    }
  }
  // What libjlog's does without subscribers, too; but never the segment that is being written.
  if (actions.clean) {
    const removed = await cleanJournal(dir, { unsubscribed: 'remove' })
    if (actions.verbose) await io.err(`removed ${removed.length} segments\n`)
  }
  if (failed) throw new Failed()
}

/** The segments that subscribers are in. A checkpoint that cannot be read is the beginning, which keeps everything. */
async function readersAt(dir: string, io: Output): Promise<number[]> {
  const subscribers = await listSubscribers(dir)
  for (const { name, sound } of subscribers) {
    if (!sound)
      await io.err(`jlogctl: the checkpoint of '${name}' is damaged; repair the journal\n`)
  }
  return subscribers.map(({ checkpoint }) => checkpoint.log)
}

async function describeIndex(dir: string, log: number): Promise<string> {
  const index = await readIndexDetails(dir, log)
  if (index === null) return 'none'
  const hex = index.records.toString(16).padStart(8, '0')
  return `${index.records} messages (${hex}), ${index.closed ? 'closed' : 'open'}`
}

async function analyze(
  dir: string,
  log: number,
  settings: JournalSettings,
  { verbose, repair }: DataActions,
  io: Output,
): Promise<void> {
  const { hdrMagic, storageLog } = settings
  if (verbose) await listRecords(dir, log, io)
  const found = await repairSegment(dir, log, { hdrMagic, dryRun: true })
  if (!found.changed) return
  await tellDamage(found, io)
  await io.err('One or more errors were found.\n')
  if (!repair) return
  const done = await repairSegment(dir, log, { hdrMagic, live: log >= storageLog })
  const aside = [done.cutFile, done.indexFile].filter((file) => file !== null)
  await io.err(
    `Repaired: ${done.records} records kept, ${done.cutBytes} bytes cut` +
      `${aside.length === 0 ? '' : `; what was there is in ${aside.join(', ')}`}\n`,
  )
}

async function tellDamage(found: SegmentReport, io: Output): Promise<void> {
  const { file, cut, cutRanges, index } = found
  for (const { offset, bytes, reason } of cut.slice(0, MOST_RANGES)) {
    await io.err(`${file}: ${bytes} bytes at ${offset} are no confirmed record (${reason})\n`)
  }
  if (cutRanges > MOST_RANGES) await io.err(`${file}: and ${cutRanges - MOST_RANGES} ranges more\n`)
  if (cutRanges === 0 && index === 'moved-aside') {
    await io.err(`${file}: its index does not fit it\n`)
  }
}

async function listRecords(dir: string, log: number, io: Output): Promise<void> {
  let lines = ''
  for await (const found of inspectSegment(dir, log)) {
    if (found.kind === 'damaged') continue
    const { id, offset, sec, usec, size, storedSize } = found
    const time = new Date(sec * 1000 + Math.floor(usec / 1000)).toISOString()
    lines += `Record ${id} at ${offset}, ${storedSize} bytes on disk\n\ttime: ${time}\n\tmlen: ${size}\n`
    if (lines.length < 65536) continue
    await io.err(lines)
    lines = ''
  }
  await io.err(lines)
}
