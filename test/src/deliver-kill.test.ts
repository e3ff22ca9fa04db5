// Front ends that inject, claim and deliver while the service is killed: every delivery is logged once and
// its message gone, or neither; no message is with two front ends at once; nothing is lost.
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { readRecords } from '../../jlog/index.js'
import { checkSpool, openSpool } from '../../spool/index.js'
import { startService, temporaryDirectory } from '../support/service.js'

const KILLS = Number(process.env.TEST_KILLS ?? 2)
const FRONT_ENDS = 4
const LEASE_SECONDS = 2

class Ledger {
  readonly injected = new Set<string>()
  /** Deliveries that were acknowledged. */
  readonly delivered = new Set<string>()
  /** Deliveries that were asked for, whatever came of it. */
  readonly tried = new Set<string>()
  /** Until when a message was leased each time, as its front ends were told. */
  readonly leased = new Map<string, number[]>()
  readonly doubles: string[] = []
}

/** The answer's body; null when the service is gone. */
async function call(url: string, init: RequestInit): Promise<Record<string, unknown> | null> {
  try {
    const response = await fetch(url, { method: 'POST', ...init })
    const body = (await response.json()) as Record<string, unknown>
    // Load is shed on a slow machine: nothing was done.
    if (response.status === 503) return await delay(20).then(() => call(url, init))
    if (response.status >= 500) throw new Error(JSON.stringify(body))
    return body
  } catch (error) {
    if (error instanceof TypeError || error instanceof SyntaxError) return null
    throw error
  }
}

const json = (body: object) => ({
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

async function injector(url: string, ledger: Ledger): Promise<void> {
  for (let i = 0; ; i++) {
    const rcptto = [`a${i}@one.example`, `b${i}@two.example`]
    const payload = { mailfrom: 's@example.com', rcptto, content: `mail ${i}` }
    const answer = await call(`${url}/v1/messages`, json(payload))
    if (answer === null) return
    for (const id of answer.ids as string[]) ledger.injected.add(id)
  }
}

async function frontEnd(url: string, ledger: Ledger, n: number): Promise<void> {
  const filter = n % 2 === 0 ? {} : { domain: 'one.example' }
  for (;;) {
    const claim = await call(
      `${url}/v1/claims`,
      json({ limit: 10, lease_seconds: LEASE_SECONDS, ...filter }),
    )
    if (claim === null) return
    const until = Date.parse(claim.until as string)
    const messages = claim.messages as { id: string; lease: string }[]
    for (const { id } of messages) {
      const others = ledger.leased.get(id) ?? []
      // By the clock of the service, whenever its answers came: no lease begins before another has ended.
      if (others.some((other) => Math.abs(other - until) < LEASE_SECONDS * 1000))
        ledger.doubles.push(id)
      ledger.leased.set(id, [...others, until])
    }
    for (const { id, lease } of messages) {
      ledger.tried.add(id)
      const answer = await call(
        `${url}/v1/messages/${id}/events`,
        json({ type: 'delivery', lease, peer: '192.0.2.1' }),
      )
      if (answer === null) return
      if (answer.result === 'complete') ledger.delivered.add(id)
    }
  }
}

it(`logs each delivery once and removes its message, or neither, over ${KILLS} kills`, {
  timeout: 30_000 + KILLS * 5_000,
}, async () => {
  const data = await temporaryDirectory()
  const ledger = new Ledger()
  for (let kill = 0; kill < KILLS; kill++) {
    const service = await startService(data)
    const work = Promise.all([
      injector(service.url, ledger),
      ...Array.from({ length: FRONT_ENDS }, (_, n) => frontEnd(service.url, ledger, n)),
    ])
    await delay(150 + Math.random() * 400)
    // However slow the machine is, there is something to compare in the end.
    while (kill === KILLS - 1 && ledger.delivered.size <= KILLS) await delay(20)
    await service.kill('SIGKILL')
    await work
  }
  const last = await startService(data)
  expect(await last.kill('SIGTERM')).toMatchObject({ code: 0 })

  expect(ledger.doubles).toEqual([])
  expect(ledger.delivered.size).toBeGreaterThan(KILLS)
  const logged = new Map<string, number>()
  const received = new Set<string>()
  for await (const batch of readRecords(join(data, 'journals', 'mainlog'))) {
    for (const { payload } of batch) {
      const { type, id } = JSON.parse(payload.toString()) as { type: string; id: string }
      if (type === 'reception') received.add(id)
      else logged.set(id, (logged.get(id) ?? 0) + 1)
    }
  }
  const stored = new Set<string>()
  const spool = await openSpool({ path: join(data, 'spool') })
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await spool.list({ limit: 1000, cursor })
    for (const { id } of page.messages) stored.add(id)
    cursor = page.cursor
  }
  await spool.close()
  expect([...logged.values()].filter((count) => count !== 1)).toEqual([])
  // Gone if and only if it was logged; and what was acknowledged was.
  expect([...received].filter((id) => stored.has(id) === logged.has(id))).toEqual([])
  expect([...ledger.delivered].filter((id) => !logged.has(id))).toEqual([])
  expect([...logged.keys()].filter((id) => !ledger.tried.has(id))).toEqual([])
  expect([...ledger.injected].filter((id) => !received.has(id))).toEqual([])
  expect(await checkSpool(join(data, 'spool'))).toMatchObject({ problems: [] })
})
