/** Files of a journal that belong to somebody else than its directory make it fail sooner or later: a warning. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Output } from './output.js'

export async function warnOfForeignFiles(dir: string, io: Output): Promise<void> {
  const journal = await stat(dir)
  for (const name of (await readdir(dir)).sort()) {
    // Gone meanwhile: a segment that was consumed.
    const file = await stat(join(dir, name)).catch(() => null)
    if (file === null || (file.uid === journal.uid && file.gid === journal.gid)) continue
    await io.err(
      `jlogctl: ${join(dir, name)} belongs to ${file.uid}:${file.gid}, the journal to ${journal.uid}:${journal.gid}; ` +
        `writers and readers may fail at it\n`,
    )
  }
}
