// The power goes at a random moment under load (loop-mounted ext4 and XFS): each acknowledged message is
// there byte for byte afterwards, logged once, and the check finds nothing. TEST_POWER_CUTS sets how
// many cuts each file system gets.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type FileSystem, LoopMount, powerCutProblem } from '../faults/loop-mount.js'
import { compare, Ledger, relayRest, startLoad } from './load.js'

const CUTS = Number(process.env.TEST_POWER_CUTS ?? 12)
const IMAGE_BYTES = 1024 * 1024 * 1024

for (const type of ['ext4', 'xfs'] satisfies FileSystem[]) {
  test(`${CUTS} power cuts on ${type} lose nothing acknowledged`, {
    timeout: 60_000 + CUTS * 60_000,
  }, async ({ skip }) => {
    const directory = await mkdtemp(join(tmpdir(), 'bobbin-cut-'))
    try {
      const problem = await powerCutProblem(type, directory)
      if (problem !== null) skip(`power cuts on ${type}: ${problem}`)
      const acknowledged = await cutRepeatedly(type, join(directory, type))
      console.log(`${type}: ${CUTS} cuts, ${acknowledged} acknowledged messages, none lost`)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
}

async function cutRepeatedly(type: FileSystem, directory: string): Promise<number> {
  const disk = await LoopMount.make({ type, directory, bytes: IMAGE_BYTES })
  try {
    const path = join(disk.path, 'spool')
    const journal = join(disk.path, 'journal')
    const ledger = new Ledger()
    for (let cut = 0; cut < CUTS; cut++) {
      const before = ledger.stored.size
      // Each compaction writes the whole file.
      const compacts = cut % 3 === 2
      const load = startLoad(ledger, path, journal, { compacts })
      await load.acknowledged(1 + Math.floor(Math.random() * (compacts ? 300 : 3000)))
      await disk.cutPower({ flushLog: cut % 2 === 1 })
      load.child.kill('SIGKILL')
      await load.ended
      await disk.remount()
      expect(ledger.stored.size).toBeGreaterThan(before)
      if (cut % 4 === 3) await compare(ledger, path, journal)
      else await relayRest(path, journal)
    }
    return await compare(ledger, path, journal)
  } finally {
    await disk.destroy()
  }
}
