/**
 * Who shares a body: counted in the transaction of whoever joins or leaves, so that the count is right
 * whatever happens.
 */
import type { Bodies } from './bodies.js'
import type { Transaction } from './committer.js'
import { SpoolError } from './errors.js'
import { type BodyRef, decodeBodyRef, isDropped } from './layout.js'
import { formatId } from './message-id.js'

/** A row of `refs`. */
export function refCount(refs: number): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32BE(refs)
  return bytes
}

/**
 * So many more messages share the body of `source`.
 * Throws SPOOL_ERR_NOT_FOUND when that message is gone, SPOOL_ERR_CONFLICT when it has another body now.
 */
export function share(tx: Transaction, source: Buffer, { body }: BodyRef, more: number): void {
  const stored = tx.get('messages', source)
  const id = formatId(source)
  if (stored === undefined) {
    throw new SpoolError('SPOOL_ERR_NOT_FOUND', `there is no message ${id} any more`, { id })
  }
  if (!decodeBodyRef(source, stored).body.equals(body)) {
    throw new SpoolError('SPOOL_ERR_CONFLICT', `the content of ${id} was changed meanwhile`, {
      id,
      advice: 'repeat the call',
    })
  }
  tx.put('refs', body, refCount(count(tx, body) + more))
}

/** One message fewer; the body goes with the last. Returns what is to be called once that is committed. */
export function release(tx: Transaction, bodies: Bodies, ref: BodyRef): () => void {
  if (isDropped(ref)) return () => undefined
  const refs = count(tx, ref.body)
  if (refs > 2) tx.put('refs', ref.body, refCount(refs - 1))
  else if (refs === 2) tx.remove('refs', ref.body)
  if (refs > 1) return () => undefined
  tx.add('bodies', -1)
  tx.add('bytes', -ref.size)
  tx.add('bytesRemoved', ref.size)
  return bodies.drop(tx, ref)
}

function count(tx: Transaction, body: Buffer): number {
  return tx.get('refs', body)?.readUInt32BE() ?? 1
}

export function contentDropped(id: string): SpoolError {
  return new SpoolError('SPOOL_ERR_NOT_FOUND', `the content of ${id} was dropped`, { id })
}
