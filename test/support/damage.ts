/** Damage done to a spool that is served: through another process, as nothing of ours would do it. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TestApi } from './api.js'

const run = promisify(execFile)

type Step = [what: string, id: string]

const verbs = {
  corruptMeta: (id: string): Step => ['corruptMeta', id],
  removeQueueRow: (id: string): Step => ['removeQueueRow', id],
  flipBody: (id: string): Step => ['flipBody', id],
  removeBody: (id: string): Step => ['removeBody', id],
}

export async function damageSpool(
  { data }: TestApi,
  steps: (db: typeof verbs) => Step[],
): Promise<void> {
  const script = join(import.meta.dirname, 'damage-child.mjs')
  await run(process.execPath, [script, join(data, 'spool'), JSON.stringify(steps(verbs))])
}
