/** Taking a message out of the store, within the transaction of whoever decides it. */
import type { Bodies } from './bodies.js'
import { release } from './body-refs.js'
import type { Transaction } from './committer.js'
import { COUNTED_STATES, type MessageRecord, queueRow } from './layout.js'

/**
 * `stored`: the record as the transaction has it. The body goes with its last message. Returns what is to
 * be called when the transaction is committed.
 */
export function removeMessage(
  tx: Transaction,
  bodies: Bodies,
  key: Buffer,
  stored: MessageRecord,
): () => void {
  tx.remove('messages', key)
  tx.remove('queue', queueRow(key, stored).key)
  if (stored.nextAttempt !== null) tx.add('scheduled', -1)
  for (const state of COUNTED_STATES) if (stored.state === state) tx.add(state, -1)
  tx.add('messagesRemoved', 1)
  return release(tx, bodies, stored)
}
