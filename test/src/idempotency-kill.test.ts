// Clients that repeat each request under its key until it is answered, while the service is killed: one message
// and one reception record a key, and every answer the same.
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { readRecords } from '../../jlog/index.js'
import { checkSpool, openSpool } from '../../spool/index.js'
import { type RunningService, startService, temporaryDirectory } from '../support/service.js'

const KILLS = Number(process.env.TEST_KILLS ?? 2)
const CLIENTS = 12

interface Injected {
  ids: string[]
}

it(`stores each key once over ${KILLS} kills`, { timeout: 30_000 + KILLS * 5_000 }, async () => {
  const data = await temporaryDirectory()
  let service: RunningService | undefined = await startService(data)
  let isOver = false
  /** Ids by key; a second answer must be the first. */
  const answers = new Map<string, string[]>()
  let replayed = 0

  const send = async (key: string, body: Buffer): Promise<void> => {
    for (;;) {
      if (service === undefined) {
        await delay(5)
        continue
      }
      try {
        const response = await fetch(
          `${service.url}/v1/messages?from=a@example.com&to=${key}@one.example&to=${key}@two.example`,
          {
            method: 'POST',
            headers: { 'content-type': 'message/rfc822', 'idempotency-key': `"${key}"` },
            body,
          },
        )
        const answer = (await response.json()) as Injected
        // Load is shed on a slow machine: nothing was stored.
        if (response.status === 503) {
          await delay(20)
          continue
        }
        expect(response.status).toBe(201)
        if (response.headers.get('idempotency-replayed') === 'true') replayed++
        const known = answers.get(key)
        if (known === undefined) answers.set(key, answer.ids)
        else expect(answer.ids).toEqual(known)
        return
      } catch (error) {
        if (error instanceof TypeError || error instanceof SyntaxError) continue
        throw error
      }
    }
  }
  const client = async (n: number): Promise<void> => {
    for (let i = 0; !isOver; i++) {
      const key = `key-${n}-${i}`
      const body = Buffer.alloc(i % 17 === 0 ? 400_000 : 2000 + i, `${key}\r\n`)
      await send(key, body)
      // Now and then again, though it was answered.
      if (i % 5 === 0) await send(key, body)
    }
  }

  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, n) => client(n)))
  for (let kill = 0; kill < KILLS; kill++) {
    await delay(100 + Math.random() * 250)
    const killed = service
    service = undefined
    expect(await killed.kill('SIGKILL')).toMatchObject({ signal: 'SIGKILL' })
    service = await startService(data)
  }
  isOver = true
  await clients
  expect(await service.kill('SIGTERM')).toMatchObject({ code: 0 })

  expect(answers.size).toBeGreaterThan(KILLS)
  expect(replayed).toBeGreaterThan(0)
  const stored = new Map<string, string>()
  const spool = await openSpool({ path: join(data, 'spool') })
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await spool.list({ limit: 1000, cursor })
    for (const { id, rcptto } of page.messages) {
      expect(stored.has(rcptto), `${rcptto} twice`).toBe(false)
      stored.set(rcptto, id)
    }
    cursor = page.cursor
  }
  expect((await spool.stats()).idempotencyKeys).toBe(answers.size)
  await spool.close()
  const expected = [...answers].flatMap(([key, ids]) =>
    ids.map((id, i): [string, string] => [`${key}@${['one', 'two'][i]}.example`, id]),
  )
  expect(stored).toEqual(new Map(expected))
  const logged: string[] = []
  for await (const batch of readRecords(join(data, 'journals', 'mainlog'))) {
    for (const { payload } of batch) {
      const { type, id } = JSON.parse(payload.toString()) as { type: string; id: string }
      expect(type).toBe('reception')
      logged.push(id)
    }
  }
  expect(logged.toSorted()).toEqual([...stored.values()].toSorted())
  expect(await checkSpool(join(data, 'spool'))).toMatchObject({ problems: [] })
})
