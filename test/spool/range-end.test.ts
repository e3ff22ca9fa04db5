// lmdb-js ends a range in silence over a damaged page: no list, check or repair may take what came before for all there is.
import { cp, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { checkStore } from '../../spool/check.js'
import { checkSpool, openSpool, repairSpool, type Spool } from '../../spool/index.js'
import { PageFile } from '../../spool/pages.js'
import { Snapshot } from '../../spool/snapshot.js'
import { Store } from '../../spool/store.js'
import { temporaryDirectory } from '../support/service.js'

const PAGE = 4096
const MESSAGES = 400
const DOMAIN = 'd.example'

const ofMessages = (key: Buffer, value: Buffer | null) =>
  key.length === 16 && (value?.length ?? 0) > 80

/** Numbers of leaf pages in use that hold such rows, in the order of their keys. */
async function leavesOf(path: string, isWanted: typeof ofMessages): Promise<number[]> {
  const file = await PageFile.open(join(path, 'data.mdb'))
  const newest = file.metas[0]!.transaction
  const found: { number: number; first: Buffer }[] = []
  try {
    for (let number = 2; number < file.pages; number++) {
      const page = await file.page(number)
      if (page === undefined || page.flags !== 2 || page.transaction > newest) continue
      const { rows } = await file.rows(page)
      if (rows.length > 2 && rows.every(({ key, value }) => isWanted(key, value)))
        found.push({ number, first: rows[0]!.key })
    }
  } finally {
    await file.close()
  }
  return found.toSorted((a, b) => a.first.compare(b.first)).map(({ number }) => number)
}

/** Zeroes the rows of a page, but not where they begin: lmdb-js stops at a key of no bytes. */
async function damagedCopy(leaf: number): Promise<string> {
  const path = join(await temporaryDirectory(), 'spool')
  await cp(sound, path, { recursive: true })
  const file = await open(join(path, 'data.mdb'), 'r+')
  await file.write(Buffer.alloc(PAGE - 256), 0, PAGE - 256, leaf * PAGE + 256)
  await file.close()
  return path
}

let sound: string
let leaves: number[]
beforeEach(async () => {
  sound = join(await temporaryDirectory(), 'spool')
  const spool = await openSpool({ path: sound })
  const rcptto = Array.from({ length: MESSAGES }, (_, i) => `r${i}@${DOMAIN}`)
  await spool.swapOut({ mailfrom: 'a@b.example', rcptto, body: Buffer.from('x') })
  await spool.close()
  leaves = await leavesOf(sound, ofMessages)
})

/** Every id that pages of the list give, or the code that it fails with. */
async function listed(path: string, query: { domain?: string }): Promise<number | string> {
  const spool = await openSpool({ path, readOnly: true })
  let count = 0
  try {
    let cursor: string | null | undefined
    while (cursor !== null) {
      const page = await spool.list({ ...query, limit: 50, cursor })
      count += page.messages.length
      cursor = page.cursor
    }
    return count
  } catch (error) {
    return (error as { code: string }).code
  } finally {
    await spool.close()
  }
}

it('a sound spool is listed whole, an empty one too', async () => {
  expect(leaves.length).toBeGreaterThan(11)
  expect(await listed(sound, {})).toBe(MESSAGES)
  expect(await listed(sound, { domain: DOMAIN })).toBe(MESSAGES)
  const empty = await temporaryDirectory()
  await (await openSpool({ path: empty })).close()
  expect(await listed(empty, {})).toBe(0)
  expect(await listed(empty, { domain: DOMAIN })).toBe(0)
})

it('with the rows of a leaf zeroed, lists and checks fail, or are whole', async () => {
  let refused = 0
  for (const [i, leaf] of [leaves[3]!, leaves[7]!, leaves[11]!].entries()) {
    const path = await damagedCopy(leaf)
    // Those of former commits are not in use any more.
    const isUsed = (await checkSpool(path)).found > 0
    const result = await listed(path, {})
    expect({ i, result }).toEqual({ i, result: isUsed ? 'SPOOL_ERR_CORRUPT' : MESSAGES })
    if (!isUsed) continue
    refused++
    const store = await Store.open({ path, readOnly: true, mode: 0o640, mapSize: undefined })
    await expect(checkStore(store)).rejects.toThrow()
    await store.close()
    const { salvage, after } = await repairSpool(path)
    expect(after.found).toBe(0)
    const lost = salvage?.lost.messages ?? 0
    expect(lost).toBeGreaterThan(0)
    expect(await listed(path, {})).toBe(MESSAGES - lost)
  }
  expect(refused).toBeGreaterThan(0)
})

it('a check makes no lock file that its owner may not open', async () => {
  const path = join(await temporaryDirectory(), 'spool')
  await cp(sound, path, { recursive: true, filter: (name) => !name.endsWith('lock.mdb') })
  await checkSpool(path)
  expect((await stat(join(path, 'lock.mdb'))).mode & 0o600).toBe(0o600)
})

it('rows that came, or went, after a snapshot was taken are no damage to it', async () => {
  const store = await Store.open({ path: sound, readOnly: false, mode: 0o640, mapSize: undefined })
  const row = Buffer.from([1, 2, 3])
  try {
    const empty = new Snapshot(store)
    await store.write(() => void store.db('outbox').put(row, row))
    expect([...empty.range('outbox'), ...empty.keys('outbox')]).toEqual([])
    empty.done()
    const filled = new Snapshot(store)
    await store.write(() => void store.db('outbox').remove(row))
    expect([...filled.keys('outbox')]).toEqual([row])
    filled.done()
  } finally {
    await store.close()
  }
})

describe('an outbox with a damaged page', () => {
  const RECORDS = 60
  const events = { format: 'json', journalOf: () => 'mainlog' } as const
  let ofOutbox: number[]
  beforeEach(async () => {
    sound = join(await temporaryDirectory(), 'spool')
    const spool = await openSpool({ path: sound, events })
    for (let i = 0; i < RECORDS; i++) await spool.log({ type: 'rejection', note: `${i}` })
    await spool.close()
    ofOutbox = await leavesOf(sound, (key) => key.toString('latin1').startsWith('mainlog\0'))
  })

  /** Numbers of the records that a relay is given, and the code that it fails with. */
  function relayed({ outbox }: Spool): { seqs: number[]; code: string | undefined } {
    const seqs: number[] = []
    try {
      for (;;) {
        const limits = { maxRecords: 4, maxBytes: 1e6, afterSeq: seqs.at(-1) }
        const records = outbox.pending('mainlog', limits)
        if (records.length === 0) return { seqs, code: undefined }
        seqs.push(...records.map(({ seq }) => seq))
      }
    } catch (error) {
      return { seqs, code: (error as { code: string }).code }
    }
  }

  it('gives none of what follows it, before repair has said what is lost', async () => {
    let refused = 0
    for (const leaf of ofOutbox.slice(0, 3)) {
      const path = await damagedCopy(leaf)
      if ((await checkSpool(path)).found === 0) continue
      const spool = await openSpool({ path, events })
      const { seqs, code } = relayed(spool)
      expect(code).toBe('SPOOL_ERR_CORRUPT')
      expect(seqs).toEqual(seqs.map((_, i) => i + 1))
      expect(spool.outbox.backlog()).toMatchObject([{ records: RECORDS }])
      await spool.close()
      await repairSpool(path)
      const repaired = await openSpool({ path, events })
      const after = relayed(repaired)
      expect(after.code).toBeUndefined()
      expect(after.seqs.at(-1)).toBe(RECORDS)
      expect(after.seqs.length).toBeLessThan(RECORDS)
      await repaired.close()
      refused++
    }
    expect(refused).toBeGreaterThan(0)
  })

  it('takes no records when those that came last cannot be reached, so that none is written over', async () => {
    let refused = 0
    for (const leaf of ofOutbox.slice(-3)) {
      const path = await damagedCopy(leaf)
      if ((await checkSpool(path)).found === 0) continue
      const spool = await openSpool({ path, events }).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'SPOOL_ERR_CORRUPT' })
        return null
      })
      await spool?.close()
      if (spool !== null) continue
      refused++
      await (await openSpool({ path, readOnly: true })).close()
      await repairSpool(path)
      const repaired = await openSpool({ path, events })
      await repaired.log({ type: 'heartbeat' })
      const { seqs, code } = relayed(repaired)
      expect(code).toBeUndefined()
      expect(seqs.length).toBeGreaterThan(30)
      expect(seqs).toEqual(seqs.map((_, i) => i + 1))
      await repaired.close()
    }
    expect(refused).toBeGreaterThan(0)
  })
})
