/** The journal's errors: libjlog's names as stable codes, what happened, where, and what the operator can do. */

export const JLOG_ERROR_CODES = [
  'JLOG_ERR_ILLEGAL_INIT',
  'JLOG_ERR_ILLEGAL_OPEN',
  'JLOG_ERR_OPEN',
  'JLOG_ERR_NOTDIR',
  'JLOG_ERR_CREATE_PATHLEN',
  'JLOG_ERR_CREATE_EXISTS',
  'JLOG_ERR_CREATE_MKDIR',
  'JLOG_ERR_CREATE_META',
  'JLOG_ERR_CREATE_PRE_COMMIT',
  'JLOG_ERR_LOCK',
  'JLOG_ERR_IDX_OPEN',
  'JLOG_ERR_IDX_SEEK',
  'JLOG_ERR_IDX_CORRUPT',
  'JLOG_ERR_IDX_WRITE',
  'JLOG_ERR_IDX_READ',
  'JLOG_ERR_FILE_OPEN',
  'JLOG_ERR_FILE_SEEK',
  'JLOG_ERR_FILE_CORRUPT',
  'JLOG_ERR_FILE_READ',
  'JLOG_ERR_FILE_WRITE',
  'JLOG_ERR_META_OPEN',
  'JLOG_ERR_PRE_COMMIT_OPEN',
  'JLOG_ERR_ILLEGAL_WRITE',
  'JLOG_ERR_ILLEGAL_CHECKPOINT',
  'JLOG_ERR_INVALID_SUBSCRIBER',
  'JLOG_ERR_ILLEGAL_LOGID',
  'JLOG_ERR_SUBSCRIBER_EXISTS',
  'JLOG_ERR_CHECKPOINT',
  'JLOG_ERR_NOT_SUPPORTED',
  'JLOG_ERR_CLOSE_LOGID',
] as const

export type JlogErrorCode = (typeof JLOG_ERROR_CODES)[number]

/** Where it happened and what helps; all of it optional, all of it shown to the operator. */
export interface JlogErrorDetails {
  /** Path of the file concerned. */
  readonly file?: string
  /** Segment number. */
  readonly segment?: number
  /** Byte offset in `file`. */
  readonly offset?: number
  /** What the operator can do. */
  readonly advice?: string
  readonly cause?: unknown
}

export class JlogError extends Error {
  override readonly name = 'JlogError'
  readonly code: JlogErrorCode
  readonly file: string | undefined
  readonly segment: number | undefined
  readonly offset: number | undefined
  readonly advice: string | undefined

  constructor(code: JlogErrorCode, what: string, details: JlogErrorDetails = {}) {
    super(
      describe(what, details),
      details.cause === undefined ? undefined : { cause: details.cause },
    )
    this.code = code
    this.file = details.file
    this.segment = details.segment
    this.offset = details.offset
    this.advice = details.advice
  }
}

function describe(what: string, { file, offset, advice, cause }: JlogErrorDetails): string {
  let text = what
  if (file !== undefined) text += ` (${file}${offset === undefined ? '' : ` at byte ${offset}`})`
  if (cause instanceof Error) text += `: ${cause.message}`
  if (advice !== undefined) text += `; ${advice}`
  return text
}
