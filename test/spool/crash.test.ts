// kill -9 at random moments under load, some of them while the spool is compacted: what was acknowledged is there, and
// nothing half.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { compare, Ledger, startLoad } from './load.js'
import { temporaryDirectory } from './support.js'

const KILLS = Number(process.env.TEST_KILLS ?? 2)

test(`${KILLS} kills under load lose nothing acknowledged, double no record, leave no orphan`, {
  timeout: 30_000 + KILLS * 5_000,
}, async () => {
  const directory = await temporaryDirectory()
  const path = join(directory, 'spool')
  const journal = join(directory, 'journal')
  const ledger = new Ledger()
  for (let kill = 0; kill < KILLS; kill++) {
    const before = ledger.stored.size
    // While it is small yet.
    const compacts = kill % 2 === 1 && kill < 10
    const load = startLoad(ledger, path, journal, { compacts })
    await load.acknowledged(1 + Math.floor(Math.random() * (compacts ? 300 : 1500)))
    load.child.kill('SIGKILL')
    await load.ended
    expect(ledger.stored.size).toBeGreaterThan(before)
    if (kill % 3 === 2) await compare(ledger, path, journal)
  }
  expect(await compare(ledger, path, journal)).toBeGreaterThan(KILLS)
})
