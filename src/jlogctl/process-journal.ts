/** What `jlogctl` does with one journal, in libjlog's order: repair, a look whether it opens, subscribers, segments. */
import {
  describePreCommit,
  JlogError,
  type LogId,
  listJournal,
  openWriter,
  readSettings,
  repairJournal,
  repairMetadata,
} from '../../jlog/index.js'
import { type DataActions, processDataFiles } from './data-files.js'
import { Failed, type Output, reasonOf } from './output.js'
import { warnOfForeignFiles } from './ownership.js'
import { add, erase, list, showPerspective, update } from './subscribers.js'

/** What is asked for; every part may be. */
export interface Task {
  repair?: 'metadata' | 'all'
  add?: string
  update?: string
  erase?: string
  checkpoint?: LogId
  perspective?: string
  listSubscribers?: boolean
  /** The segments are to be listed, and what is to be done with each. */
  files?: boolean
  index?: boolean
  analyze?: boolean
  repairFiles?: boolean
  clean?: boolean
  verbose?: boolean
}

/** @throws Failed when something did not work; it was told on standard error */
export async function processJournal(dir: string, task: Task, io: Output): Promise<void> {
  const checkpoint = task.checkpoint ?? null
  if (task.repair !== undefined) await repairFirst(dir, task, io)
  await openOnce(dir, io)
  const failures: Failed[] = []
  const attempt = async (work: () => Promise<void>) => {
    await work().catch((error: unknown) => {
      if (!(error instanceof Failed)) throw error
      failures.push(error)
    })
  }
  if (task.add !== undefined) await add(dir, task.add, checkpoint, io)
  else if (task.update !== undefined) await update(dir, task.update, checkpoint, io)
  else {
    const { erase: erased, perspective } = task
    if (erased !== undefined) await attempt(() => erase(dir, erased, io))
    if (perspective !== undefined) await showPerspective(dir, perspective, io)
    if (task.listSubscribers) await list(dir, io)
    if (task.files) await attempt(() => processDataFiles(dir, actionsOf(task), io))
    if (task.repair === 'all') await repairRest(dir, io)
  }
  await warnOfForeignFiles(dir, io)
  if (failures.length > 0) throw failures[0]
}

function actionsOf(task: Task): DataActions {
  return {
    index: task.index ?? false,
    analyze: task.analyze ?? false,
    repair: task.repairFiles ?? false,
    clean: task.clean ?? false,
    quiet: task.clean ?? false,
    verbose: task.verbose ?? false,
  }
}

async function repairFirst(dir: string, { verbose }: Task, io: Output): Promise<void> {
  try {
    const { metastore, subscribers } = await repairMetadata(dir)
    if (!verbose) return
    await io.err(`metastore: ${metastore.found}\n`)
    for (const { subscriber, before, after, reason } of subscribers) {
      await io.err(
        `subscriber '${subscriber}': ${before ?? 'unreadable'} -> ${after} (${reason})\n`,
      )
    }
  } catch (error) {
    await io.err(`Failed to repair jlog at '${dir}': ${reasonOf(error)}\n`)
    throw new Failed()
  }
}

/** Segments are repaired one by one before; this is for what stands between them and beside. */
async function repairRest(dir: string, io: Output): Promise<void> {
  try {
    await repairJournal(dir)
  } catch (error) {
    await io.err(`Failed to repair jlog at '${dir}': ${reasonOf(error)}\n`)
    throw new Failed()
  }
}

/** As every writer that opens and closes it: the segment to be written is there afterwards, and nothing waits in the pre-commit buffer. */
async function openOnce(dir: string, io: Output): Promise<void> {
  try {
    const listing = await listJournal(dir)
    const { metastore, storageLog } = await readSettings(dir, listing)
    if (metastore === null) {
      if (!listing.names.includes('metastore')) {
        throw new JlogError('JLOG_ERR_META_OPEN', 'there is no metastore', { file: dir })
      }
      // The settings come from the segments then, and opening it for writing is for after its repair.
      await io.err(`jlogctl: the metastore of '${dir}' is damaged; repair the journal\n`)
      return
    }
    const pending = (await describePreCommit(dir))?.pending ?? 0
    if (pending > 0 || !listing.segments.includes(storageLog)) {
      await (await openWriter(dir)).close()
    }
  } catch (error) {
    await io.err(`Failed to open jlog at '${dir}': ${reasonOf(error)}\n`)
    if (error instanceof JlogError && error.code === 'JLOG_ERR_META_OPEN') {
      await io.err('Perhaps the metastore is damaged, or this directory is no jlog.\n')
    }
    throw new Failed()
  }
}
