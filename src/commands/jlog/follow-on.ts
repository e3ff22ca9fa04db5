/**
 * Following a journal through damage: what cannot be read is told and passed over, as a repair would cut it, and the following goes
 * on behind it. Each record once, in order.
 */
import {
  compareLogIds,
  follow,
  JlogError,
  type LogId,
  lastId,
  listJournal,
  type RecordBatch,
  readRecords,
} from '../../../jlog/index.js'

export async function* followOn(
  dir: string,
  from: 'begin' | 'end' | LogId,
  { signal, onDamage }: { signal: AbortSignal; onDamage: (error: JlogError) => void },
): AsyncGenerator<RecordBatch, void, undefined> {
  let at: LogId =
    from === 'begin' ? { log: 0, marker: 0 } : from === 'end' ? await lastId(dir) : from
  for (;;) {
    try {
      for await (const batch of follow(dir, { from: at, signal })) {
        yield batch
        at = batch.last
      }
      return
    } catch (error) {
      if (!isDamage(error)) throw error
      onDamage(error)
      for await (const batch of readRecords(dir, { after: at, onDamage: 'skip' })) {
        if (signal.aborted) return
        const fresh = after(batch, at)
        if (fresh.length > 0) yield fresh
        at = batch.last
      }
      // All of the damaged segment that can be read was; another is being written, or it was cut back by a repair.
      const { segments } = await listJournal(dir)
      const { segment } = error
      if (at.log <= segment && segments.some((log) => log > segment)) {
        at = { log: segment + 1, marker: 0 }
      }
    }
  }
}

/** What of a batch comes after an id. */
export function after(batch: RecordBatch, id: LogId): RecordBatch {
  if (batch.log !== id.log || compareLogIds(batch.first, id) > 0) return batch
  return batch.slice(Math.min(batch.length, id.marker - batch.first.marker + 1))
}

function isDamage(error: unknown): error is JlogError & { segment: number } {
  return (
    error instanceof JlogError &&
    error.code === 'JLOG_ERR_FILE_CORRUPT' &&
    error.segment !== undefined
  )
}
