/** The spool's errors: a stable code, what happened, where, and what the operator can do. */

export const SPOOL_ERROR_CODES = [
  /** No such message, or its body was dropped. */
  'SPOOL_ERR_NOT_FOUND',
  /** The caller's input was refused; `field` names the part that was wrong. */
  'SPOOL_ERR_INVALID',
  /** A body over the limit. */
  'SPOOL_ERR_TOO_LARGE',
  /** A key that is to be set is there already. */
  'SPOOL_ERR_EXISTS',
  /** Another change came between; the call may be repeated. */
  'SPOOL_ERR_CONFLICT',
  /** An idempotency key that something else was stored under. */
  'SPOOL_ERR_KEY_REUSED',
  /** As many idempotency keys are kept as may be; room comes as they end. */
  'SPOOL_ERR_KEYS_FULL',
  /** A hook of the embedding program refused the change. */
  'SPOOL_ERR_REFUSED',
  /** The version asked for is not the version that stands. */
  'SPOOL_ERR_VERSION',
  /** The lease that was to prove the claim is not the message's, or has ended. */
  'SPOOL_ERR_LEASE',
  /** Deferred spooling was asked for, and is not switched on. */
  'SPOOL_ERR_UNSAFE',
  /** Another process owns the spool; `pid` says which. */
  'SPOOL_ERR_OWNED',
  /** The disk, the quota or the map is full. Heals by itself when there is room. */
  'SPOOL_ERR_FULL',
  /** Opened read-only, or gone read-only after a failed write or sync; reads are still served. */
  'SPOOL_ERR_READ_ONLY',
  /** What stands on disk contradicts itself. */
  'SPOOL_ERR_CORRUPT',
  /** The same long operation is under way already. */
  'SPOOL_ERR_BUSY',
  'SPOOL_ERR_CLOSED',
  /** The caller's signal fired, or its source broke off. */
  'SPOOL_ERR_ABORTED',
  /** The spool could not be opened. */
  'SPOOL_ERR_OPEN',
  /** The write itself failed; nothing of it was stored. The spool is read-only from then on. */
  'SPOOL_ERR_WRITE',
] as const

export type SpoolErrorCode = (typeof SPOOL_ERROR_CODES)[number]

/** Where it happened and what helps; all of it optional. */
export interface SpoolErrorDetails {
  /** The part of the input that was wrong (SPOOL_ERR_INVALID). */
  readonly field?: string
  /** Of several messages, which one it is about, counted from 0. */
  readonly index?: number
  /** Message id. */
  readonly id?: string
  /** Path of the file or directory concerned. */
  readonly file?: string
  /** The owner's process id (SPOOL_ERR_OWNED); null when the owner could not write it down. */
  readonly pid?: number | null
  /** The version that stands (SPOOL_ERR_VERSION). */
  readonly version?: number
  /** What the operator can do. */
  readonly advice?: string
  readonly cause?: unknown
}

export class SpoolError extends Error {
  override readonly name = 'SpoolError'
  readonly code: SpoolErrorCode
  readonly field: string | undefined
  readonly index: number | undefined
  readonly id: string | undefined
  readonly file: string | undefined
  readonly pid: number | null | undefined
  readonly version: number | undefined
  readonly advice: string | undefined

  constructor(code: SpoolErrorCode, what: string, details: SpoolErrorDetails = {}) {
    super(
      describe(what, details),
      details.cause === undefined ? undefined : { cause: details.cause },
    )
    this.code = code
    this.field = details.field
    this.index = details.index
    this.id = details.id
    this.file = details.file
    this.pid = details.pid
    this.version = details.version
    this.advice = details.advice
  }
}

/** SPOOL_ERR_INVALID for one named field. */
export function invalid(field: string, what: string): SpoolError {
  return new SpoolError('SPOOL_ERR_INVALID', `${field}: ${what}`, { field })
}

/** The same error, of one of several messages. */
export function ofMessage(error: unknown, index: number): unknown {
  if (!(error instanceof SpoolError) || error.index !== undefined) return error
  // What it says says where already.
  const { code, message, field, id, pid, version, cause } = error
  const where = { field, id, pid, version }
  const known = Object.fromEntries(Object.entries(where).filter(([, value]) => value !== undefined))
  const copy = new SpoolError(code, message, { ...known, index })
  if (cause !== undefined) copy.cause = cause
  return copy
}

function describe(what: string, { file, advice, cause }: SpoolErrorDetails): string {
  let text = what
  if (file !== undefined) text += ` (${file})`
  if (cause instanceof Error) text += `: ${cause.message}`
  if (advice !== undefined) text += `; ${advice}`
  return text
}

/** Throws SPOOL_ERR_VERSION unless the meta of message `id` stands at the version that was asked for, if any was. */
export function assertVersion(
  { version }: { readonly version: number },
  id: string,
  wanted: number | undefined,
): void {
  if (wanted === undefined || version === wanted) return
  throw new SpoolError(
    'SPOOL_ERR_VERSION',
    `the meta of ${id} stands at version ${version}, not ${wanted}`,
    { id, version, advice: 'read it again and repeat the change' },
  )
}
