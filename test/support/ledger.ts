/** Load on a service that may die at any moment, and the comparison of what it acknowledged with what is there. */
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { expect } from 'vitest'
import { BobbinClient, ClientError } from '../../api/index.js'
import { readRecords } from '../../jlog/index.js'
import { checkSpool, openSpool } from '../../spool/index.js'
import { corpusMails, ownMails, type SampleMail } from './mail.js'

export class Ledger {
  /** SHA-256 of the content by the id that was acknowledged. */
  readonly acknowledged = new Map<string, string>()
  readonly #mails: readonly SampleMail[]

  private constructor(mails: readonly SampleMail[]) {
    this.#mails = mails
  }

  static async open(): Promise<Ledger> {
    const mails = [...corpusMails(), ...(await ownMails())]
    return new Ledger(mails.filter(({ bytes }) => bytes.length < 200_000))
  }

  /** So many clients injecting one message after the other; resolves when the service is gone. */
  async injectUntilGone(url: string, clients: number): Promise<void> {
    await Promise.all(Array.from({ length: clients }, (_, i) => this.#client(url, i)))
  }

  async #client(url: string, seed: number): Promise<void> {
    const client = new BobbinClient(url, { retry: false })
    for (let i = seed; ; i += 7) {
      // Large ones now and then, so that a body that is staged in pieces meets the end, too.
      const body = i % 23 === 0 ? randomBytes(700_000) : this.#mails[i % this.#mails.length]!.bytes
      const rcptto = Array.from({ length: 1 + (i % 3) }, (_, n) => `r${n}@example.net`)
      try {
        const answer = await client.inject({ mailfrom: 'sender@example.com', rcptto, body })
        expect(answer.ids).toHaveLength(rcptto.length)
        for (const id of answer.ids) this.acknowledged.set(id, answer.sha256)
      } catch (error) {
        if (error instanceof ClientError && error.code === 'UNREACHABLE') return
        // The connection may also break while the answer is read.
        if (error instanceof TypeError || error instanceof SyntaxError) return
        // A store whose disk is gone refuses, until the process goes, too.
        if (error instanceof ClientError && error.status >= 500) continue
        throw error
      }
    }
  }

  /**
   * Every acknowledged message is there, whole, with one reception record; whatever else is stored has its one
   * record, too; there is no record of anything else; and the spool is sound. The service must be stopped, in order.
   */
  async expectNothingLost(data: string): Promise<void> {
    const logged = await receptions(join(data, 'journals', 'mainlog'))
    const stored = new Set<string>()
    const spool = await openSpool({ path: join(data, 'spool') })
    try {
      for (const [id, sha256] of this.acknowledged) {
        const body = await (await spool.swapIn(id)).buffer()
        expect(createHash('sha256').update(body).digest('hex')).toBe(sha256)
      }
      for (let cursor: string | null | undefined; cursor !== null; ) {
        const page = await spool.list({ limit: 1000, cursor })
        for (const { id } of page.messages) stored.add(id)
        cursor = page.cursor
      }
    } finally {
      await spool.close()
    }
    expect(new Set(logged.keys())).toEqual(stored)
    expect([...logged].filter(([, count]) => count !== 1)).toEqual([])
    expect(await checkSpool(join(data, 'spool'))).toMatchObject({ problems: [] })
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
