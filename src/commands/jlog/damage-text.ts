/** The parts that the reports of `inspect` and `repair` share, as text. */
import type { CheckpointChange, CutRange, RepairReport } from '../../../jlog/index.js'
import { columns, count, segmentName } from './report.js'

/** So many ranges of a segment are told as text; JSON has more. */
const MOST_TOLD = 20

const REASONS: Readonly<Record<CutRange['reason'], string>> = {
  'torn-header': 'the file ends inside a header',
  'torn-record': 'a record that would end after the file, or whose length is damaged',
  'bad-header': 'no header where a record should begin',
  'bad-lengths': 'the two lengths of a compressed record contradict each other',
  uncertain: 'may begin with a whole record, but nothing confirms where it ends',
  checksum: 'the checksum says that it is damaged',
}

export function describeDamage(file: string, cut: readonly CutRange[], omitted: number): string {
  if (cut.length === 0) return ''
  const told = cut
    .slice(0, MOST_TOLD)
    .map(
      ({ offset, bytes, reason, record }) =>
        `  at ${offset}: ${count(bytes, 'byte')}, ${REASONS[reason]}${record === undefined ? '' : describeRecord(record)}\n`,
    )
  const more = cut.length - told.length + omitted
  return `\n${file}\n${told.join('')}${more === 0 ? '' : `  and ${count(more, 'range')} more\n`}`
}

function describeRecord({ sec, bytes }: NonNullable<CutRange['record']>): string {
  return ` (its header: ${new Date(sec * 1000).toISOString()}, ${count(bytes, 'byte')})`
}

const MOVES: Readonly<Record<CheckpointChange['reason'], string>> = {
  unchanged: '',
  'left-alone': 'left alone',
  'wrong-size': 'its file has the wrong size',
  'before-the-earliest': 'it was before the earliest segment',
  'past-the-end': 'it was past the end',
  'records-cut-before-it': 'records before it were cut',
}

export function describeCheckpoints(
  subscribers: readonly CheckpointChange[],
  verb: string,
): string {
  if (subscribers.length === 0) return ''
  const rows = subscribers.map(({ subscriber, before, after, reason }) => [
    JSON.stringify(subscriber),
    before ?? 'unreadable',
    reason === 'unchanged' || reason === 'left-alone' ? '' : after,
    MOVES[reason],
  ])
  return `\n${columns([['subscriber', 'checkpoint', verb, ''], ...rows])}`
}

/** What stands around the segments, as far as there is something to say. */
export function describeSurroundings({
  metastore,
  preCommit,
  missing,
  orphanIndexes,
  strays,
}: Pick<RepairReport, 'metastore' | 'preCommit' | 'missing' | 'orphanIndexes' | 'strays'>): string {
  const lines: string[] = []
  for (const { file, found, cutFile, changed } of [metastore, preCommit]) {
    if (changed) lines.push(`${file}: ${found}${cutFile === null ? '' : `; as it was: ${cutFile}`}`)
  }
  if (preCommit.pendingBytes > 0) {
    lines.push(
      `${count(preCommit.pendingBytes, 'byte')} of records wait in ${preCommit.file}; the next writer moves them to the segment`,
    )
  }
  for (const [first, last] of missing) {
    const range =
      first === last ? segmentName(first) : `${segmentName(first)} to ${segmentName(last)}`
    lines.push(`missing: ${range}; readers pass over it`)
  }
  if (orphanIndexes.length > 0) lines.push(`indexes without a segment: ${orphanIndexes.join(', ')}`)
  if (strays.length > 0) lines.push(`not of a journal, left alone: ${strays.join(', ')}`)
  return lines.length === 0 ? '' : `\n${lines.join('\n')}\n`
}
