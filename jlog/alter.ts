/** Changing the settings of a journal that exists. Those who have it open see segment size and safety at once. */
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { directoryMode } from './create.js'
import { JlogError } from './errors.js'
import type { Metastore, Safety } from './format.js'
import { listJournal } from './journal-directory.js'
import { alterMetastore, readMetastore } from './metastore.js'
import { openWriter } from './writer.js'

export interface AlterOptions {
  /** Bytes after which a segment is finished; 1 to 4294967295. */
  readonly unitLimit?: number
  readonly safety?: Safety
  /** Mode of all files of the journal; the directory gets an execute bit for each read bit. */
  readonly fileMode?: number
  /** Bytes of the pre-commit buffer, 0 for none. Pending records go to the segment first. Needs that nobody else writes with it. */
  readonly preCommit?: number
}

/**
 * @returns the metastore afterwards
 * @throws JlogError JLOG_ERR_META_OPEN, JLOG_ERR_NOT_SUPPORTED (a value that no journal can have), JLOG_ERR_LOCK
 */
export async function alterJournal(dir: string, options: AlterOptions): Promise<Metastore> {
  const { unitLimit, safety, fileMode, preCommit } = options
  if (
    fileMode !== undefined &&
    !(Number.isInteger(fileMode) && fileMode >= 0 && fileMode <= 0o777)
  ) {
    throw new JlogError('JLOG_ERR_NOT_SUPPORTED', `not a file mode: ${String(fileMode)}`)
  }
  await readMetastore(dir)
  if (unitLimit !== undefined || safety !== undefined) {
    await alterMetastore(dir, {
      ...(unitLimit === undefined ? {} : { unitLimit }),
      ...(safety === undefined ? {} : { safety }),
    })
  }
  if (preCommit !== undefined) await (await openWriter(dir, { preCommit })).close()
  if (fileMode !== undefined) {
    for (const name of (await listJournal(dir)).names) {
      await chmod(join(dir, name), fileMode).catch((cause: NodeJS.ErrnoException) => {
        // Removed since it was listed: a segment that was consumed.
        if (cause.code === 'ENOENT') return
        throw new JlogError('JLOG_ERR_FILE_OPEN', 'cannot change the mode', {
          file: join(dir, name),
          cause,
        })
      })
    }
    await chmod(dir, directoryMode(fileMode)).catch((cause: unknown) => {
      throw new JlogError('JLOG_ERR_FILE_OPEN', 'cannot change the mode', { file: dir, cause })
    })
  }
  return readMetastore(dir)
}
