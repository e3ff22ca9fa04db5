import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Ledger } from '../support/ledger.js'
import { startService, temporaryDirectory } from '../support/service.js'

const KILLS = Number(process.env.TEST_KILLS ?? 3)

it(`keeps every acknowledged message, logged once, over ${KILLS} kills under load`, {
  timeout: 30_000 + KILLS * 5_000,
}, async () => {
  const data = await temporaryDirectory()
  const ledger = await Ledger.open()
  for (let kill = 0; kill < KILLS; kill++) {
    const service = await startService(data)
    const load = ledger.injectUntilGone(service.url, 16)
    await delay(Math.random() * 250)
    // However slow the machine is, there is something to compare in the end.
    while (kill === KILLS - 1 && ledger.acknowledged.size <= KILLS) await delay(20)
    expect(await service.kill('SIGKILL')).toEqual({ code: null, signal: 'SIGKILL' })
    await load
  }
  // The last start relays what the last kill left; stopping in order waits for it.
  const last = await startService(data)
  expect(await last.kill('SIGTERM')).toEqual({ code: 0, signal: null })
  expect(ledger.acknowledged.size).toBeGreaterThan(KILLS)
  await ledger.expectNothingLost(data)
})
