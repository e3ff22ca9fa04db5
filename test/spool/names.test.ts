import { expect, test } from 'vitest'
import { midToSpoolName, spoolNameToMid, threadId } from '../../spool/index.js'
import { message, temporarySpool } from './support.js'

test('a spool name leads back to its id, and sorts as the ids do', async () => {
  const spool = await temporarySpool({ nodeName: 'mx1' })
  const { ids } = await spool.swapOut(
    message('x', { rcptto: Array.from({ length: 100 }, (_, i) => `r${i}@example.com`) }),
  )
  const names = ids.map(midToSpoolName)
  expect(names.map(spoolNameToMid)).toEqual(ids)
  expect(names.toSorted()).toEqual(names)
  expect(names[0]).toMatch(/^[0-9a-f]{32}$/)
  expect(spool.threadId(ids[0]!, '2')).toBe(`${names[0]}::mx1:2`)
  expect(threadId(ids[0]!, 'mx2')).toBe(`${names[0]}::mx2:`)
})

test('a thread id has the node name of the environment, or default', async () => {
  const id = '0195b3a2-7c4e-7d7a-9f57-1c9c0c1f6a42'
  const before = process.env.EC_NODE_NAME
  try {
    process.env.EC_NODE_NAME = 'from-env'
    expect((await temporarySpool()).threadId(id)).toContain('::from-env:')
    delete process.env.EC_NODE_NAME
    expect((await temporarySpool()).threadId(id)).toContain('::default:')
  } finally {
    if (before !== undefined) process.env.EC_NODE_NAME = before
  }
})

test.each(['', 'x', '0195b3a2-7c4e-7d7a-9f57-1c9c0c1f6a42', '0'.repeat(33), '../x'])(
  '%j is no spool name',
  (name) => {
    expect(() => spoolNameToMid(name)).toThrow('not a spool name')
  },
)

test('what is no id has no spool name', () => {
  expect(() => midToSpoolName('0'.repeat(32))).toThrow('not a message id')
})
