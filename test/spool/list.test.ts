// Lists: every filter, page by page, against the same filter over all messages.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { MessageMeta, MessageQuery, Spool } from '../../spool/index.js'
import { codeOf, message, temporarySpool } from './support.js'

const DOMAINS = ['a.example', 'aa.example', 'b.example', 'A.example', 'z', '\u00e9.example']
const BINDINGS = ['default', 'ip', 'ip-2', 'default2', '']

async function filled(): Promise<{ spool: Spool; all: MessageMeta[] }> {
  const spool = await temporarySpool()
  const stored = await spool.swapOutMulti(
    Array.from({ length: 240 }, (_, i) =>
      message('x', {
        rcptto: [i % 17 === 0 ? 'postmaster' : `r${i}@${DOMAINS[i % DOMAINS.length]}`],
        binding: BINDINGS[i % BINDINGS.length],
        nextAttempt: (i % 10) * 1000,
      }),
    ),
  )
  for (const [i, { ids }] of stored.entries()) {
    if (i % 7 === 0) await spool.swapOutMeta(ids[0] as string, { retries: 1 })
    if (i % 11 === 0) await spool.swapOutMeta(ids[0] as string, { nextAttempt: null })
  }
  const all = await Promise.all(stored.map(({ ids }) => spool.meta(ids[0] as string)))
  return { spool, all }
}

async function everyPage(spool: Spool, query: MessageQuery): Promise<MessageMeta[]> {
  const found: MessageMeta[] = []
  let cursor: string | undefined
  do {
    const page = await spool.list({ ...query, cursor })
    expect(page.messages.length).toBeLessThanOrEqual(query.limit ?? 100)
    found.push(...page.messages)
    cursor = page.cursor ?? undefined
  } while (cursor !== undefined)
  return found
}

function matches(meta: MessageMeta, { state, domain, binding, dueBefore }: MessageQuery): boolean {
  const at = meta.rcptto.lastIndexOf('@')
  const itsDomain = at < 0 ? '' : meta.rcptto.slice(at + 1).toLowerCase()
  return (
    (state === undefined || meta.state === state) &&
    (domain === undefined || itsDomain === domain.toLowerCase()) &&
    (binding === undefined || meta.binding === binding) &&
    (dueBefore === undefined || (meta.nextAttempt !== null && meta.nextAttempt < Number(dueBefore)))
  )
}

const byId = (a: MessageMeta, b: MessageMeta) => (a.id < b.id ? -1 : 1)

describe('a list', () => {
  test('of any filter and page size gives each match once', async () => {
    const { spool, all } = await filled()
    await fc.assert(
      fc.asyncProperty(
        fc.record(
          {
            state: fc.constantFrom('queued' as const, 'deferred' as const, 'leased' as const),
            domain: fc.constantFrom(...DOMAINS, 'Z', 'none.example', ''),
            binding: fc.constantFrom(...BINDINGS, 'none'),
            dueBefore: fc.constantFrom(0, 1, 3000, 3001, new Date(5000), 1e12),
            limit: fc.constantFrom(1, 3, 50, 1000),
          },
          { requiredKeys: [] },
        ),
        async (query) => {
          const found = await everyPage(spool, query)
          const expected = all.filter((meta) => matches(meta, query))
          expect(found.toSorted(byId)).toEqual(expected.toSorted(byId))
        },
      ),
      { numRuns: 150 },
    )
  })

  test('without a filter is in order of creation', async () => {
    const { spool, all } = await filled()
    expect(await everyPage(spool, { limit: 7 })).toEqual(all)
    expect((await spool.list()).messages).toEqual(all.slice(0, 100))
  })

  test('of a queue is in order of due time', async () => {
    const { spool } = await filled()
    const found = await everyPage(spool, { binding: 'ip', domain: 'b.example', dueBefore: 1e12 })
    const due = found.map(({ nextAttempt }) => nextAttempt as number)
    expect(due.length).toBeGreaterThan(2)
    expect(due).toEqual(due.toSorted((a, b) => a - b))
  })

  test('goes on where it was while messages come and go', async () => {
    const { spool, all } = await filled()
    const first = await spool.list({ limit: 100 })
    await Promise.all(all.slice(90, 110).map(({ id }) => spool.swapRemove(id)))
    const late = await spool.swapOut(message('late'))
    const rest = await everyPage(spool, { cursor: first.cursor ?? undefined, limit: 1000 })
    const { messages } = await spool.list({ cursor: first.cursor ?? undefined, limit: 1000 })
    expect(messages.map(({ id }) => id)).toEqual([
      ...all.slice(110).map(({ id }) => id),
      ...late.ids,
    ])
    expect(rest.length).toBeGreaterThan(0)
  })

  test('refuses what it cannot read', async () => {
    const { spool } = await filled()
    const { cursor } = await spool.list({ limit: 1 })
    for (const query of [
      { limit: 0 },
      { limit: 1001 },
      { limit: 1.5 },
      { state: 'other' },
      { cursor: 'x' },
      { cursor: 'm' },
      { cursor, domain: 'z' },
      { domain: 'a\0b' },
      { dueBefore: Number.NaN },
    ]) {
      expect(await codeOf(spool.list(query as MessageQuery))).toBe('SPOOL_ERR_INVALID')
    }
  })
})

test.each([{}, { domain: 'b.example' }, { dueBefore: 10_000 }])(
  'the page after one whose messages have all gone meanwhile is empty: %j',
  async (query) => {
    const spool = await temporarySpool()
    const rcptto = ['1@b.example', '2@b.example', '3@b.example']
    const { ids } = await spool.swapOut(message('x', { rcptto, nextAttempt: 1000 }))
    const { cursor } = await spool.list({ ...query, limit: 2 })
    for (const id of ids) await spool.swapRemove(id)
    expect(await spool.list({ ...query, limit: 2, cursor: cursor as string })).toEqual({
      messages: [],
      cursor: null,
    })
  },
)
