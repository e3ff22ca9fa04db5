/** Headers of answers, for the document: a test sees that none is sent there without being named here. */
interface Header {
  readonly description: string
  readonly schema: { readonly type: string }
}

export type Headers = Readonly<Record<string, Header>>

const text = (description: string): Header => ({ description, schema: { type: 'string' } })

const VERSION: Headers = { ETag: text('The version of the meta, in quotes; If-Match takes it.') }
const CONTENT: Headers = {
  ETag: text('SHA-256 of the content in hex, in quotes; If-Match takes it.'),
}
const RANGE: Headers = { ...CONTENT, 'Content-Range': text('RFC 9110, section 14.4') }
const JOB: Headers = { Location: text('Where the job is polled.') }

const versioned = { 200: VERSION, 201: VERSION, 202: VERSION }

/** By operation and status. */
export const ANSWER_HEADERS: Readonly<Record<string, Readonly<Record<number, Headers>>>> = {
  message_get: versioned,
  refetch_meta: versioned,
  swap_out_meta: versioned,
  context_set_all: versioned,
  context_clean: versioned,
  context_set: versioned,
  context_delete: versioned,
  swap_in: { 200: CONTENT, 206: RANGE, 304: CONTENT, 416: RANGE },
  swap_out_content: { 200: CONTENT },
  journal_repair: { 202: JOB },
  spool_check: { 202: JOB },
  spool_repair: { 202: JOB },
  spool_backup: { 202: JOB },
  spool_compact: { 202: JOB },
  spool_import: { 202: JOB },
}
