import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { BobbinClient, ClientError } from '../../api/index.js'
import { readRecords } from '../../jlog/index.js'
import { openSpool } from '../../spool/index.js'
import { corpusMails, ownMails, type SampleMail } from '../support/mail.js'
import { type RunningService, startService, temporaryDirectory } from '../support/service.js'

const KILLS = Number(process.env.BOBBIN_TEST_KILLS ?? 50)
const CLIENTS = 16

it(`keeps every acknowledged message, with one reception record each, over ${KILLS} kills under load`, {
  timeout: 240_000,
}, async () => {
  const data = await temporaryDirectory()
  const mails = [...corpusMails(), ...(await ownMails())].filter(
    ({ bytes }) => bytes.length < 200_000,
  )
  const acknowledged = new Map<string, string>()
  for (let kill = 0; kill < KILLS; kill++) {
    const service = await startService(data)
    const clients = Array.from({ length: CLIENTS }, (_, i) =>
      injectUntilKilled(service, mails, acknowledged, i),
    )
    await delay(Math.random() * 250)
    const { signal } = await service.kill('SIGKILL')
    expect(signal).toBe('SIGKILL')
    await Promise.all(clients)
  }
  // The last start relays what the last kill left; stopping in order waits for it.
  const last = await startService(data)
  expect(await last.kill('SIGTERM')).toEqual({ code: 0, signal: null })

  expect(acknowledged.size).toBeGreaterThan(KILLS)
  const logged = await receptions(join(data, 'journals', 'mainlog'))
  const spool = await openSpool({ path: join(data, 'spool') })
  try {
    for (const [id, sha256] of acknowledged) {
      const body = await (await spool.swapIn(id)).buffer()
      expect(createHash('sha256').update(body).digest('hex')).toBe(sha256)
      expect(logged.get(id)).toBe(1)
    }
    // One that was stored but whose answer was lost has its record, too; and there is no record of anything else.
    const stored = new Set<string>()
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await spool.list({ limit: 1000, cursor })
      for (const { id } of page.messages) stored.add(id)
      cursor = page.cursor
    }
    expect(new Set(logged.keys())).toEqual(stored)
    expect(new Set(logged.values())).toEqual(new Set([1]))
  } finally {
    await spool.close()
  }
})

async function injectUntilKilled(
  service: RunningService,
  mails: readonly SampleMail[],
  acknowledged: Map<string, string>,
  seed: number,
): Promise<void> {
  const client = new BobbinClient(service.url)
  for (let i = seed; ; i += 7) {
    // Large ones now and then, so that kills meet bodies that are staged in pieces.
    const bytes = i % 23 === 0 ? randomBytes(700_000) : mails[i % mails.length]!.bytes
    const rcptto = Array.from({ length: 1 + (i % 3) }, (_, n) => `r${n}@example.net`)
    try {
      const answer = await client.inject({ mailfrom: 'sender@example.com', rcptto, body: bytes })
      for (const id of answer.ids) acknowledged.set(id, answer.sha256)
      expect(answer.ids).toHaveLength(rcptto.length)
    } catch (error) {
      if (error instanceof ClientError && error.code === 'UNREACHABLE') return
      // The connection may also break while the answer is read.
      if (error instanceof TypeError || error instanceof SyntaxError) return
      throw error
    }
  }
}

async function receptions(journal: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  for await (const batch of readRecords(journal)) {
    for (const { payload } of batch) {
      const { type, id } = JSON.parse(payload.toString('utf8')) as { type: string; id: string }
      expect(type).toBe('reception')
      counts.set(id, (counts.get(id) ?? 0) + 1)
    }
  }
  return counts
}
