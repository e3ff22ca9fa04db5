// The two dictionaries of a message: set, get, delete, iteration in key order, limits, versions.
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ContextDictionary } from '../../spool/index.js'
import { codeOf, expectSound, message, temporaryDirectory, temporarySpool } from './support.js'

const UNKNOWN = '019a0000-0000-7000-8000-000000000000'

async function dictionary(entries: Record<string, string> = {}): Promise<ContextDictionary> {
  const spool = await temporarySpool()
  const { ids } = await spool.swapOut(message('x', { context: { mess: entries } }))
  return spool.context(ids[0]!, 'mess')
}

describe('a dictionary', () => {
  test('sets a key once, and again only when asked to replace it', async () => {
    const mess = await dictionary()
    expect(await mess.set('key', 'one')).toMatchObject({ created: true, result: 'complete' })
    expect(await codeOf(mess.set('key', 'two'))).toBe('SPOOL_ERR_EXISTS')
    expect(await mess.get('key')).toBe('one')
    const replaced = await mess.set('key', 'two', { replace: true })
    expect(replaced).toMatchObject({ created: false, meta: { version: 3 } })
    expect(await mess.get('key')).toBe('two')
  })

  test('of two that set the same key at once one is refused', async () => {
    const mess = await dictionary()
    const codes = await Promise.all([mess.set('k', 'a'), mess.set('k', 'b')].map(codeOf))
    expect(codes.toSorted()).toEqual(['SPOOL_ERR_EXISTS', undefined])
  })

  test('is walked in key order, whatever the keys look like', async () => {
    const keys = ['b', '10', '9', '', 'a', 'Z', 'ü', '__proto__', 'constructor', '😀'].filter(
      Boolean,
    )
    const mess = await dictionary()
    for (const key of keys) await mess.set(key, `value of ${key}`)
    const walked: string[] = []
    for (let key = await mess.firstKey(); key !== undefined; key = await mess.nextKey(key)) {
      walked.push(key)
    }
    expect(walked).toEqual(keys.toSorted())
    expect(await mess.entries()).toEqual(walked.map((key) => [key, `value of ${key}`]))
    expect(await mess.size()).toBe(keys.length)
    expect(await mess.nextKey('aa')).toBe('b')
  })

  test('loses a key, or all of them', async () => {
    const mess = await dictionary({ a: '1', b: '2' })
    await mess.delete('a')
    expect(await mess.exists('a')).toBe(false)
    expect(await codeOf(mess.delete('a'))).toBe('SPOOL_ERR_NOT_FOUND')
    await mess.clean()
    expect(await mess.size()).toBe(0)
    expect(await mess.firstKey()).toBeUndefined()
  })

  test('takes all its entries at once', async () => {
    const mess = await dictionary({ a: '1' })
    expect(await codeOf(mess.setAll({ b: '2' }))).toBe('SPOOL_ERR_EXISTS')
    await mess.setAll({ b: '2', c: '3' }, { replace: true })
    expect(await mess.entries()).toEqual([
      ['b', '2'],
      ['c', '3'],
    ])
  })

  test('takes unforced changes that are visible at once, and are there after a restart', async () => {
    const path = join(await temporaryDirectory(), 'spool')
    const spool = await temporarySpool({ path })
    const { ids } = await spool.swapOut(message('x'))
    const conn = spool.context(ids[0]!, 'conn')
    expect((await conn.set('k', 'v', { force: false })).result).toBe('partial')
    expect(await conn.get('k')).toBe('v')
    await expectSound(spool, path)
    const again = await temporarySpool({ path })
    expect(await again.context(ids[0]!, 'conn').get('k')).toBe('v')
  })

  test('changes only at the version asked for', async () => {
    const mess = await dictionary()
    expect(await codeOf(mess.set('a', '1', { ifVersion: 7 }))).toBe('SPOOL_ERR_VERSION')
    await mess.set('a', '1', { ifVersion: 1 })
    expect(await codeOf(mess.clean({ ifVersion: 1 }))).toBe('SPOOL_ERR_VERSION')
  })

  test('refuses what is no string, no key, or over its limits', async () => {
    const spool = await temporarySpool({ contextLimits: { keyBytes: 4, bytes: 12 } })
    const { ids } = await spool.swapOut(message('x'))
    const conn = spool.context(ids[0]!, 'conn')
    await conn.set('ab', '1234')
    for (const [key, value] of [
      ['', 'v'],
      ['ä\u00e4a', 'v'],
      ['k', 'ééé'],
      ['k', '\ud800'],
      ['k', 5 as unknown as string],
    ] as const) {
      expect(await codeOf(conn.set(key, value)), key).toBe('SPOOL_ERR_INVALID')
    }
    // Both dictionaries count.
    expect(await codeOf(spool.context(ids[0]!, 'mess').set('k', '123456'))).toBe(
      'SPOOL_ERR_INVALID',
    )
    expect(await codeOf(spool.swapOutMeta(ids[0]!, { context: { mess: { k: '123456' } } }))).toBe(
      'SPOOL_ERR_INVALID',
    )
    expect(await codeOf(spool.swapOut(message('x', { context: { conn: { abcde: '' } } })))).toBe(
      'SPOOL_ERR_INVALID',
    )
    expect(() => spool.context(ids[0]!, 'none' as 'conn')).toThrow('neither conn nor mess')
    expect(await codeOf(spool.context(UNKNOWN, 'conn').get('k'))).toBe('SPOOL_ERR_NOT_FOUND')
    expect(await codeOf(spool.context(UNKNOWN, 'conn').set('k', 'v'))).toBe('SPOOL_ERR_NOT_FOUND')
  })

  test('is what a map would be, after any calls', async () => {
    const spool = await temporarySpool()
    const key = fc.oneof(
      fc.constantFrom('a', 'b', '1'),
      fc.string({ unit: 'grapheme', minLength: 1 }),
    )
    const call = fc.record({
      what: fc.constantFrom('set', 'replace', 'delete', 'unforced'),
      key: key.filter((text) => Buffer.byteLength(text) <= 255),
      value: fc.string({ unit: 'grapheme' }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 12 }), async (calls) => {
        const { ids } = await spool.swapOut(message('x'))
        const mess = spool.context(ids[0]!, 'mess')
        const model = new Map<string, string>()
        for (const { what, key, value } of calls) {
          if (what === 'delete') {
            const code = model.delete(key) ? undefined : 'SPOOL_ERR_NOT_FOUND'
            expect(await codeOf(mess.delete(key))).toBe(code)
          } else {
            const options = { replace: what !== 'set', force: what !== 'unforced' }
            const refused = what === 'set' && model.has(key)
            const code = refused ? 'SPOOL_ERR_EXISTS' : undefined
            expect(await codeOf(mess.set(key, value, options))).toBe(code)
            if (!refused) model.set(key, value)
          }
          const sorted = [...model].sort(([a], [b]) => (a < b ? -1 : 1))
          expect(await mess.entries()).toEqual(sorted)
        }
      }),
      { numRuns: 30 },
    )
  })
})
