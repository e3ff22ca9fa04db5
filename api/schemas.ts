/** The shapes that requests and answers share; validation, serialisation, types and the OpenAPI document come from here. */
import Type, { type Static, type TSchema } from 'typebox'
import { JOB_STATES, QUARANTINE_KINDS } from '../spool/index.js'
import type { Problem } from './problem.js'

/** Bytes, as they are. */
export const Binary = { type: 'string', format: 'binary' }

export const MESSAGE_TYPE = 'message/rfc822'
/** RFC 6522, section 4. */
export const HEADERS_TYPE = 'text/rfc822-headers'
export const NDJSON_TYPE = 'application/x-ndjson'
export const MSGPACK_TYPE = 'application/msgpack'

const Time = Type.String({ description: 'RFC 3339, UTC', examples: ['2026-03-01T12:00:00.000Z'] })
/** What a caller may give as a time. */
export const TimeInput = Type.Union([
  Type.Number({ minimum: 0, description: 'Unix seconds' }),
  Type.String({ format: 'date-time', description: 'RFC 3339' }),
])

/** By hand: Type.Record has a pattern for its keys, and one with a line break in it would be left out. */
export const Dictionary = Type.Unsafe<Record<string, string>>({
  type: 'object',
  additionalProperties: { type: 'string' },
})
export const Context = Type.Object({ conn: Dictionary, mess: Dictionary })

export const MessageId = Type.String({
  description: 'A UUIDv7 (RFC 9562): ids sort by the time they were made.',
  examples: ['0195b3a2-7c4e-7d7a-9f57-1c9c0c1f6a42'],
})

export const Meta = Type.Object(
  {
    id: MessageId,
    state: Type.String({ examples: ['queued'] }),
    mailfrom: Type.String({ description: 'Envelope sender; empty for the null sender.' }),
    rcptto: Type.String({ description: 'Envelope recipient.' }),
    size: Type.Integer({ description: 'Bytes of the content.' }),
    sha256: Type.Union([Type.String(), Type.Null()], {
      description: 'Of the content, in hex; null when it was dropped.',
    }),
    created: Time,
    next_attempt: Type.Union([Time, Type.Null()]),
    retries: Type.Integer(),
    version: Type.Integer({ description: 'Counts the writes of this meta; what If-Match names.' }),
    batch_id: Type.String(),
    connection_id: Type.String(),
    protocol: Type.String(),
    binding_group: Type.String(),
    binding: Type.String(),
    retention: Type.Union([Type.Number({ description: 'Seconds' }), Type.Null()]),
    peer: Type.String(),
    context: Context,
  },
  { $id: 'Meta', title: 'Meta' },
)

const nullable = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))
const DictionaryPatch = nullable(
  Type.Unsafe<Record<string, string | null>>({
    type: 'object',
    additionalProperties: { anyOf: [{ type: 'string' }, { type: 'null' }] },
  }),
)

/** A JSON merge patch (RFC 7396) on a meta: what may be changed of it. */
export const MetaPatchJson = Type.Object(
  {
    next_attempt: nullable(TimeInput),
    retries: Type.Optional(Type.Integer({ minimum: 0 })),
    retention: nullable(Type.Number({ minimum: 0, description: 'Seconds' })),
    binding_group: Type.Optional(Type.String({ maxLength: 255 })),
    binding: Type.Optional(Type.String({ maxLength: 255 })),
    context: Type.Optional(
      Type.Object(
        { conn: DictionaryPatch, mess: DictionaryPatch },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
)

const InjectionFields = {
  batch_id: Type.Optional(Type.String({ maxLength: 255 })),
  connection_id: Type.Optional(Type.String({ maxLength: 255 })),
  protocol: Type.Optional(
    Type.String({ maxLength: 63, description: 'esmtp, rest (default), xfer or internal' }),
  ),
  binding_group: Type.Optional(Type.String({ maxLength: 255 })),
  binding: Type.Optional(Type.String({ maxLength: 255 })),
  next_attempt: Type.Optional(TimeInput),
  retention: Type.Optional(Type.Number({ minimum: 0, description: 'Seconds' })),
  durability: Type.Optional(
    Type.String({
      maxLength: 63,
      description:
        'durable (default): the answer comes when it is on the disk. deferred: it may be kept in memory, and lost ' +
        'in a crash; only where unsafe spooling is switched on, else refused (422).',
      examples: ['durable', 'deferred'],
    }),
  ),
}

const Address = Type.String({ maxLength: 998 })

function envelopeFields(maxRecipients: number) {
  return {
    mailfrom: Type.String({
      maxLength: 998,
      description: 'Envelope sender; empty, or <>, for the null sender.',
      examples: ['sender@example.com'],
    }),
    rcptto: Type.Array(Address, {
      minItems: 1,
      maxItems: maxRecipients,
      description: 'Envelope recipients, SMTPUTF8 or not.',
      examples: [['rcpt@example.net']],
    }),
    context: Type.Optional(Type.Partial(Context, { additionalProperties: false })),
    ...InjectionFields,
  }
}

/** All of a message but its content. */
export function injectionMeta(maxRecipients: number) {
  return Type.Object(envelopeFields(maxRecipients), { additionalProperties: false })
}
export type InjectionMeta = Static<ReturnType<typeof injectionMeta>>

/** For the document. */
export function injectionForm(maxRecipients: number) {
  return Type.Object({
    meta: Type.Object(envelopeFields(maxRecipients), {
      additionalProperties: false,
      description: 'First: JSON, an injection without its content.',
    }),
    message: Type.String({ format: 'binary', description: 'Then: the message as it is.' }),
  })
}

export function injectionJson(maxRecipients: number) {
  return Type.Object(
    {
      ...envelopeFields(maxRecipients),
      content: Type.Optional(
        Type.String({
          description: 'The message as text; stored as UTF-8.',
          examples: ['Subject: Hello\r\n\r\nHello.\r\n'],
        }),
      ),
      content_base64: Type.Optional(
        Type.String({
          contentEncoding: 'base64',
          description: 'The message byte for byte (RFC 4648, section 4); instead of content.',
        }),
      ),
      refs: Type.Optional(
        Type.String({
          description: 'Id of a message whose content it shares; instead of content.',
        }),
      ),
    },
    { additionalProperties: false },
  )
}
export type InjectionJson = Static<ReturnType<typeof injectionJson>>

export function injectionQuery(maxRecipients: number) {
  return Type.Object(
    {
      from: Type.Optional(
        Type.String({
          maxLength: 998,
          description:
            'Envelope sender of a message/rfc822, which needs it; empty for the null sender.',
        }),
      ),
      to: Type.Optional(
        Type.Array(Address, {
          minItems: 1,
          maxItems: maxRecipients,
          description: 'Envelope recipients of a message/rfc822, which needs them: to=…&to=…',
        }),
      ),
      ...InjectionFields,
    },
    { additionalProperties: false },
  )
}

export const Injected = Type.Object({
  result: Type.String({
    description: 'complete: on the disk. deferred: in memory.',
    examples: ['complete', 'deferred'],
  }),
  ids: Type.Array(MessageId, { description: 'One a recipient, in order.' }),
  size: Type.Integer(),
  sha256: Type.String(),
})

export const InjectedBatch = Type.Object({
  results: Type.Array(Injected, { description: 'One a message, in order.' }),
})

export const SpoolState = Type.Object({
  messages: Type.Integer(),
  unspooled: Type.Integer({ description: 'Those of them that are in memory alone.' }),
  bodies: Type.Integer({ description: 'Contents; recipients of one reception share theirs.' }),
  bytes: Type.Integer({ description: 'Of all contents, each counted once.' }),
  due: Type.Integer({ description: 'Messages that have a next attempt.' }),
  idempotency_keys: Type.Integer({ description: 'Idempotency keys that are kept.' }),
  outbox: Type.Object({
    records: Type.Integer({ description: 'Log records that wait for their journal.' }),
    bytes: Type.Integer(),
    oldest: Type.Union([Time, Type.Null()]),
  }),
  space: Type.Object(
    { total: Type.Integer(), available: Type.Integer(), used_percent: Type.Integer() },
    { description: 'Bytes of the file system that the spool is on.' },
  ),
  read_only: Type.Union([Type.String(), Type.Null()], {
    description: 'Why no writes are taken; null when they are.',
  }),
})

export const MetaRef = Type.Unsafe<Static<typeof Meta>>({ $ref: 'Meta#' })

export const Quarantined = Type.Object({
  name: Type.String(),
  kind: Type.Enum([...QUARANTINE_KINDS]),
  reason: Type.String({ description: 'Why it is here.' }),
  time: Time,
  db: Type.String({ description: 'Database that the row was in.' }),
  key: Type.String({ description: 'Of the row, in hex.' }),
  meta: Type.Union([MetaRef, Type.Null()], {
    description: 'Of a message, where it could be read.',
  }),
  row_bytes: Type.Union([Type.Integer(), Type.Null()]),
  body_bytes: Type.Union([Type.Integer(), Type.Null()]),
  body_parts: Type.Union(
    [
      Type.Array(
        Type.Object({ at: Type.Integer(), file_at: Type.Integer(), length: Type.Integer() }),
      ),
      Type.Null(),
    ],
    { description: 'Stretches of the content that were there, when not all of it was.' },
  ),
})

export const JobSchema = Type.Object(
  {
    id: Type.String(),
    kind: Type.String({ description: 'What it does.', examples: ['spool_check'] }),
    state: Type.Enum([...JOB_STATES]),
    started: Time,
    ended: Type.Union([Time, Type.Null()]),
    progress: Type.Union([
      Type.Object({
        phase: Type.String(),
        done: Type.Integer(),
        total: Type.Union([Type.Integer(), Type.Null()]),
        failed: Type.Optional(
          Type.Integer({ description: 'Of an import: messages that could not be.' }),
        ),
        results: Type.Optional(
          Type.Record(Type.String(), Type.Integer(), {
            description:
              'Of an import: log records by result, 1 success, 2 meta failed, 3 body failed, 4 not written.',
          }),
        ),
      }),
      Type.Null(),
    ]),
    result: Type.Any({ description: 'Its report once it is done; null until then.' }),
    error: Type.Union([Type.Object({ code: Type.String(), message: Type.String() }), Type.Null()]),
  },
  { $id: 'Job', title: 'Job' },
)

/** A part of the tree; its parts are of the same shape. */
export interface MimePartJson {
  path: string
  type: string
  charset: string | null
  encoding: string
  disposition: string | null
  filename: string | null
  header_offset: number
  header_length: number
  offset: number
  length: number
  parts: MimePartJson[]
}

export const MimePartSchema = Type.Object(
  {
    path: Type.String({ description: '1 is the message, 1.2 its second part.', examples: ['1.2'] }),
    type: Type.String({ examples: ['text/plain'] }),
    charset: Type.Union([Type.String(), Type.Null()]),
    encoding: Type.String({ description: '7bit when none is given.', examples: ['base64'] }),
    disposition: Type.Union([Type.String(), Type.Null()]),
    filename: Type.Union([Type.String(), Type.Null()], { description: 'Decoded.' }),
    header_offset: Type.Integer({ description: 'Offsets and lengths are bytes of the content.' }),
    header_length: Type.Integer({ description: 'Without the empty line.' }),
    offset: Type.Integer(),
    length: Type.Integer({ description: 'Of the body of the part as it stands, encoded.' }),
    parts: Type.Array(Type.Unsafe<MimePartJson>({ $ref: 'MimePart#' })),
  },
  { $id: 'MimePart', title: 'MimePart' },
)

export const MimeStructureJson = Type.Object({
  size: Type.Integer(),
  sha256: Type.String(),
  root: Type.Unsafe<MimePartJson>({ $ref: 'MimePart#' }),
  defects: Type.Array(
    Type.Object({ defect: Type.String(), path: Type.String(), offset: Type.Integer() }),
    { description: 'What is wrong with the message; the tree is the best that can be made of it.' },
  ),
})

export const IdParams = Type.Object({ id: Type.String({ description: 'As it was given out.' }) })
const JournalName = Type.String({
  description: 'Name of the journal: letters, digits, dots, underscores and hyphens.',
})
export const JournalParams = Type.Object({ name: JournalName })
export const SubscriberParams = Type.Object({
  name: JournalName,
  sub: Type.String({ description: 'Name of the subscriber: any UTF-8, percent-encoded.' }),
})

export const LogIdText = Type.String({
  pattern: '^[0-9a-fA-F]{1,8}:[0-9a-fA-F]{1,8}$',
  description: 'Segment and marker in hex.',
  examples: ['00000000:00000001'],
})

/** A record as subscribers get it. */
export const RecordLine = Type.Object(
  {
    id: LogIdText,
    sec: Type.Integer({ description: 'Unix seconds.', examples: [1772366400] }),
    usec: Type.Integer({ description: 'Microseconds of the second.', examples: [250000] }),
    size: Type.Integer({ description: 'Bytes of the payload.', examples: [2] }),
    data: Type.String({
      contentEncoding: 'base64',
      description: 'The payload: base64 in NDJSON, a binary in msgpack.',
      examples: ['e30='],
    }),
  },
  { description: 'Each line' },
)

export const Subscriber = Type.Object({
  name: Type.String(),
  checkpoint: LogIdText,
  lag_records: Type.Integer({ description: 'Records after the checkpoint.' }),
  lag_bytes: Type.Integer(),
})

/** As the journal's own settings are numbered: 0, 1, 2. */
export const SAFETY_NAMES = ['unsafe', 'almost_safe', 'safe'] as const

const settings = {
  segment_size: Type.Integer({
    minimum: 1,
    maximum: 0xffffffff,
    description: 'Bytes after which a segment is finished.',
  }),
  safety: Type.Enum([...SAFETY_NAMES], {
    description:
      'safe, as a journal is made when nothing is said: appended records are on the disk before they are acknowledged. almost_safe, unsafe: they are written, and a power cut may take them.',
  }),
  pre_commit: Type.Integer({
    minimum: 0,
    maximum: 64 * 1024 * 1024,
    description:
      'Bytes of the pre-commit buffer; 0 is none. Records in it are as safe as others, and reach subscribers when further ones do not fit.',
  }),
}
const compression = Type.Enum(['off', 'none', 'lz4'], {
  description: 'off: a plain journal; lz4, none: one with compressed records, by that provider.',
})

/** What a journal is made with, and what is asked for when it is altered. */
export const JournalSettings = Type.Partial(Type.Object({ ...settings, compression }), {
  additionalProperties: false,
})

export const Journal = Type.Object(
  {
    name: Type.String(),
    first: Type.Union([LogIdText, Type.Null()]),
    last: Type.Union([LogIdText, Type.Null()]),
    records: Type.Integer(),
    bytes: Type.Integer({ description: 'Of all segments.' }),
    ...settings,
    compression,
    segments: Type.Array(
      Type.Object({ log: Type.String(), bytes: Type.Integer(), records: Type.Integer() }),
    ),
    subscribers: Type.Array(Subscriber),
  },
  { $id: 'Journal', title: 'Journal' },
)

export const Empty = Type.Null({ description: 'No content' })

// References, so that the document and the serialiser know each shape once.
export const JournalRef = Type.Unsafe<Static<typeof Journal>>({ $ref: 'Journal#' })
export const JobRef = Type.Unsafe<Static<typeof JobSchema>>({ $ref: 'Job#' })
const ProblemRef = Type.Unsafe<Static<typeof Problem>>({ $ref: 'Problem#' })

/** The error answers of a route, for the document. */
export function problems(...statuses: number[]): Record<string, TSchema> {
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      {
        description: PROBLEM_DESCRIPTIONS[status] ?? 'Problem',
        ...(PROBLEM_HEADERS[status] === undefined ? {} : { headers: PROBLEM_HEADERS[status] }),
        content: { 'application/problem+json': { schema: ProblemRef } },
      },
    ]),
  ) as unknown as Record<string, TSchema>
}

const retryAfter = {
  'Retry-After': { description: 'Seconds after which to try again.', schema: { type: 'integer' } },
}
const challenge = {
  'WWW-Authenticate': { description: 'RFC 6750, section 3', schema: { type: 'string' } },
}
const PROBLEM_HEADERS: Record<number, object> = {
  401: challenge,
  429: retryAfter,
  503: retryAfter,
}
const PROBLEM_DESCRIPTIONS: Record<number, string> = {
  400: 'The input is wrong; `errors` says what and where.',
  401: 'No token, or one that is not known; see WWW-Authenticate.',
  403: 'The token has not the scope.',
  404: 'There is none of that name or id.',
  409: 'It conflicts with what is there.',
  412: 'The version is not the one If-Match names.',
  413: 'Too large.',
  415: 'A content type this call does not take.',
  416: 'The range lies outside the content.',
  422: 'Understood, but not possible here.',
  429: 'Too many at once.',
  503: 'Not now: see Retry-After.',
  507: 'The disk is full; nothing was stored.',
}
