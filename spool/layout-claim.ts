/** Rows of `leases`: claims by their tokens, and by their ends. */
import { DUE_BYTES, pack, unpack } from './layout-bytes.js'
import { queueKey } from './layout-queue.js'
import { ID_BYTES } from './message-id.js'

const CLAIM = 't'.charCodeAt(0)
const CLAIM_END = 'u'.charCodeAt(0)

export function claimKey(token: Buffer): Buffer {
  return Buffer.concat([Buffer.from([CLAIM]), token])
}

export function claimEndKey(until: number, token: Buffer): Buffer {
  return Buffer.concat([Buffer.from([CLAIM_END]), queueKey(until, token)])
}

/** Before and after all claims in the order of their ends. */
export const CLAIM_ENDS = { start: Buffer.from([CLAIM_END]), end: Buffer.from([CLAIM_END + 1]) }

export function splitClaimEnd(key: Buffer): { until: number; token: Buffer } {
  return {
    until: key.readUIntBE(1, DUE_BYTES),
    token: Buffer.from(key.subarray(1 + DUE_BYTES)),
  }
}

/** A claim: when it ends, who made it, and its messages. */
export interface ClaimRow {
  readonly until: number
  readonly owner: string
  readonly ids: readonly Buffer[]
}

export function encodeClaim({ until, owner, ids }: ClaimRow): Buffer {
  return pack([until, owner, Buffer.concat(ids)])
}

export function decodeClaim(row: Buffer): ClaimRow {
  const [until, owner, bytes] = unpack(row) as [number, string, Uint8Array]
  const all = Buffer.from(bytes)
  const ids: Buffer[] = []
  for (let at = 0; at < all.length; at += ID_BYTES) ids.push(all.subarray(at, at + ID_BYTES))
  return { until, owner, ids }
}
