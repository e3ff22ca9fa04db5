// The bytes of a message's record, sound and not.
import { expect, test } from 'vitest'
import { decodeMeta, encodeMeta, type MessageRecord } from '../../spool/layout.js'

const id = Buffer.alloc(16, 7)

const record: MessageRecord = {
  state: 'leased',
  size: 3,
  body: Buffer.alloc(16, 1),
  sha256: Buffer.alloc(32, 2),
  mailfrom: '',
  rcptto: 'rcpt@example.net',
  created: 1,
  nextAttempt: null,
  retries: 0,
  version: 1,
  batchId: '',
  connectionId: '',
  protocol: 'rest',
  bindingGroup: 'default',
  binding: 'default',
  retention: null,
  peer: 'unknown',
  conn: ['k', 'v'],
  mess: [],
  lease: { token: Buffer.alloc(16, 3), until: 9, unlink: false },
}

test('a record comes back as it was', () => {
  expect(decodeMeta(id, encodeMeta(record))).toEqual(record)
})

test.each([
  ['no token', { token: 5 as unknown as Buffer, until: 9, unlink: false }],
  ['no time', { token: Buffer.alloc(16), until: 'soon' as unknown as number, unlink: false }],
])('a lease with %s is a corrupt record, not a fault of ours', (_what, lease) => {
  const bytes = encodeMeta({ ...record, lease })
  expect(() => decodeMeta(id, bytes)).toThrow(
    expect.objectContaining({ code: 'SPOOL_ERR_CORRUPT' }),
  )
})

test('a record cut anywhere is corrupt', () => {
  const bytes = encodeMeta(record)
  for (let end = 0; end < bytes.length; end++) {
    expect(() => decodeMeta(id, bytes.subarray(0, end))).toThrow(
      expect.objectContaining({ code: 'SPOOL_ERR_CORRUPT' }),
    )
  }
})
