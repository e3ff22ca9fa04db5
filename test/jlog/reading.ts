/** What the tests of reading share. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import {
  type CreateOptions,
  createJournal,
  type JournalRecord,
  type RecordBatch,
} from '../../jlog/index.js'

/** Makes journals in a directory that is removed after the tests of the file. */
export function temporaryJournals(): (options?: CreateOptions) => Promise<string> {
  let root: string
  let made = 0
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'jlog-reading-'))
  })
  afterAll(() => rm(root, { recursive: true }))
  return async (options) => {
    const dir = join(root, String(made++))
    await createJournal(dir, options)
    return dir
  }
}

export async function collect(batches: AsyncIterable<RecordBatch>): Promise<JournalRecord[]> {
  const records: JournalRecord[] = []
  for await (const batch of batches) records.push(...batch)
  return records
}
