/** Examples for the document, by operation: a test holds each against its schema, and sees that none is missing. */
import { createHash } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Problem } from './problem.js'
import { MESSAGE_TYPE, MSGPACK_TYPE, NDJSON_TYPE } from './schemas.js'

interface Examples {
  /** By content type. */
  readonly request?: Readonly<Record<string, unknown>>
  /** By status, then by content type. */
  readonly answers?: Readonly<Record<number, Readonly<Record<string, unknown>>>>
}

const JSON_TYPE = 'application/json'
const json = (value: unknown) => ({ [JSON_TYPE]: value })

const ID = '0195b3a2-7c4e-7d7a-9f57-1c9c0c1f6a42'
const OTHER_ID = '0195b3a2-7c4f-7021-8a1e-3d5b7f90c2e4'
const LEASE = '0195b3a4-01d2-7f3c-b7a0-55c1e2d3f4a6'
const JOB_ID = '0195b3a5-9e10-7c44-8d3f-0a1b2c3d4e5f'
const NOON = '2026-03-01T12:00:00.000Z'
const FIVE_PAST = '2026-03-01T12:05:00.000Z'
const MAIL = 'From: a@example.com\r\nTo: b@example.net\r\nSubject: Hello\r\n\r\nHello.\r\n'
const SIZE = MAIL.length
const SHA256 = createHash('sha256').update(MAIL).digest('hex')
const HEADER_LENGTH = MAIL.indexOf('\r\n\r\n') + 2
const CONTEXT = { conn: { ip: '192.0.2.1' }, mess: { campaign: 'spring' } }

const INJECTION = { mailfrom: 'a@example.com', rcptto: ['b@example.net'] }
const INJECTED = { result: 'complete', ids: [ID], size: SIZE, sha256: SHA256 }
const META = {
  id: ID,
  state: 'queued',
  mailfrom: 'a@example.com',
  rcptto: 'b@example.net',
  size: SIZE,
  sha256: SHA256,
  created: NOON,
  next_attempt: NOON,
  retries: 0,
  version: 1,
  batch_id: '',
  connection_id: '',
  protocol: 'rest',
  binding_group: 'default',
  binding: 'default',
  retention: null,
  peer: 'unknown',
  context: CONTEXT,
}
const META_TEXT = `id: ${ID}\nstate: queued\nmailfrom: a@example.com\nrcptto: b@example.net\n`
const META_ANSWER = {
  200: {
    ...json(META),
    'text/plain': META_TEXT,
    'application/xml': `<meta><id>${ID}</id><state>queued</state></meta>`,
  },
}
const PATCHED = (result: string) => json({ result, meta: { ...META, version: 2, retries: 1 } })
const CHANGED = (result: string) => json({ result, version: 2 })
const CHANGES = { 200: CHANGED('complete'), 202: CHANGED('partial') }

const EVENT = { type: 'delivery', lease: LEASE, peer: '192.0.2.25' }
const DISPOSED = { result: 'complete', outcome: 'removed', next_attempt: null }

const SUBSCRIBER = {
  name: 'billing',
  checkpoint: '00000000:0000002a',
  lag_records: 3,
  lag_bytes: 540,
}
const JOURNAL = {
  name: 'mainlog',
  first: '00000000:00000001',
  last: '00000000:0000002d',
  records: 45,
  bytes: 8100,
  segment_size: 4194304,
  safety: 'safe',
  pre_commit: 0,
  compression: 'off',
  segments: [{ log: '00000000', bytes: 8100, records: 45 }],
  subscribers: [SUBSCRIBER],
}
const RECORD = { id: '00000000:0000002b', sec: 1772366400, usec: 250000, size: 2, data: 'e30=' }

function job(kind: string, more: object = {}) {
  return {
    id: JOB_ID,
    kind,
    state: 'running',
    started: NOON,
    ended: null,
    progress: null,
    result: null,
    error: null,
    ...more,
  }
}
const started = (kind: string) => ({ 202: json(job(kind)) })
const DONE = job('spool_check', {
  state: 'done',
  ended: FIVE_PAST,
  progress: { phase: 'outbox', done: 10, total: 10 },
  result: { messages: 1200, bodies: 800, bytes: 8_192_000, staged: 0, found: 0, problems: [] },
})

const QUARANTINED = {
  name: '20260301T120000.000Z-1',
  kind: 'message',
  reason: 'body-hash-wrong: the content is not what was stored',
  time: NOON,
  db: 'messages',
  key: ID.replaceAll('-', ''),
  meta: META,
  row_bytes: 214,
  body_bytes: SIZE,
  body_parts: null,
}

export const EXAMPLES: Readonly<Record<string, Examples>> = {
  swap_out: {
    request: {
      [MESSAGE_TYPE]: MAIL,
      ...json({ ...INJECTION, content: MAIL, context: CONTEXT }),
      'multipart/form-data': { meta: INJECTION, message: MAIL },
    },
    answers: { 201: json(INJECTED) },
  },
  swap_out_multi: {
    request: {
      [NDJSON_TYPE]: { ...INJECTION, content: MAIL },
      ...json([
        { ...INJECTION, content: MAIL },
        { ...INJECTION, mailfrom: '', content: 'Subject: Another\r\n\r\nBye.\r\n' },
      ]),
    },
    answers: { 201: json({ results: [INJECTED, { ...INJECTED, ids: [OTHER_ID] }] }) },
  },
  spool_list: { answers: { 200: json({ messages: [META], cursor: null }) } },
  message_get: { answers: META_ANSWER },
  refetch_meta: { answers: META_ANSWER },
  swap_out_meta: {
    request: json({ retries: 1, context: { mess: { campaign: null } } }),
    answers: { 200: PATCHED('complete'), 202: PATCHED('partial') },
  },
  swap_in: {
    answers: {
      200: {
        [MESSAGE_TYPE]: MAIL,
        'text/rfc822-headers': 'From: a@example.com\r\nTo: b@example.net\r\nSubject: Hello\r\n',
        ...json({
          size: SIZE,
          sha256: SHA256,
          root: {
            path: '1',
            type: 'text/plain',
            charset: null,
            encoding: '7bit',
            disposition: null,
            filename: null,
            header_offset: 0,
            header_length: HEADER_LENGTH,
            offset: HEADER_LENGTH + 2,
            length: SIZE - HEADER_LENGTH - 2,
            parts: [],
          },
          defects: [],
        }),
      },
      206: { [MESSAGE_TYPE]: 'From: a@example.com\r\n' },
    },
  },
  swap_out_content: {
    request: { [MESSAGE_TYPE]: MAIL },
    answers: { 200: json({ result: 'complete', version: 2, size: SIZE, sha256: SHA256 }) },
  },
  message_copy: { answers: { 201: json({ ...INJECTED, ids: [OTHER_ID] }) } },
  context_list: { answers: { 200: json(CONTEXT.mess) } },
  context_set_all: { request: json(CONTEXT.mess), answers: CHANGES },
  context_clean: { answers: CHANGES },
  context_get: { answers: { 200: { ...json('spring'), 'text/plain': 'spring' } } },
  context_set: {
    request: { ...json('spring'), 'text/plain': 'spring' },
    answers: { ...CHANGES, 201: CHANGED('complete') },
  },
  context_delete: { answers: CHANGES },
  claim: {
    request: json({ limit: 100, lease_seconds: 300, domain: 'example.net' }),
    answers: {
      200: json({ lease: LEASE, until: FIVE_PAST, messages: [{ lease: LEASE, ...META }] }),
    },
  },
  claim_extend: {
    request: json({ lease_seconds: 300 }),
    answers: { 200: json({ lease: LEASE, until: FIVE_PAST, ids: [ID] }) },
  },
  dispose: { request: json(EVENT), answers: { 200: json(DISPOSED) } },
  dispose_multi: {
    request: { [NDJSON_TYPE]: { id: ID, ...EVENT } },
    answers: { 200: json({ results: [{ id: ID, ...DISPOSED }], failed: 0 }) },
  },
  spool_stats: {
    answers: {
      200: json({
        messages: 1200,
        unspooled: 0,
        bodies: 800,
        bytes: 8_192_000,
        due: 1200,
        idempotency_keys: 1150,
        outbox: { records: 0, bytes: 0, oldest: null },
        space: { total: 107_374_182_400, available: 85_899_345_920, used_percent: 20 },
        read_only: null,
      }),
    },
  },
  journal_list: { answers: { 200: json({ journals: [JOURNAL] }) } },
  journal_create: {
    request: json({ segment_size: 4194304, safety: 'safe', compression: 'off' }),
    answers: { 201: json({ ...JOURNAL, first: null, last: null, records: 0, bytes: 0 }) },
  },
  journal_info: { answers: { 200: json(JOURNAL) } },
  journal_alter: { request: json({ safety: 'safe' }), answers: { 200: json(JOURNAL) } },
  journal_append: {
    request: {
      'application/octet-stream': 'one record, as it is',
      [NDJSON_TYPE]: { event: 'login', user: 'a' },
      [MSGPACK_TYPE]: ['one record', 'another'],
    },
    answers: { 201: json({ first: '00000000:0000002e', last: '00000000:0000002e', count: 1 }) },
  },
  journal_inspect: {
    answers: {
      200: {
        ...json({
          directory: '/var/lib/bobbin/journals/mainlog',
          sound: true,
          records: 45,
          segments: [
            { file: '00000000', log: 0, records: 45, bytes: 8100, damaged_bytes: 0, sound: true },
          ],
          missing: [],
        }),
        [NDJSON_TYPE]:
          '{"kind":"record","id":"00000000:00000001","offset":0,"sec":1772366400,"usec":0,"size":164,"stored_size":164}\n',
      },
    },
  },
  journal_repair: { answers: started('journal_repair') },
  journal_clean: { answers: { 200: json({ removed: ['00000000'] }) } },
  subscriber_list: { answers: { 200: json({ subscribers: [SUBSCRIBER] }) } },
  subscriber_add: {
    answers: { 201: json({ name: 'billing', checkpoint: '00000000:00000000' }) },
  },
  read_interval: { answers: { 200: { [NDJSON_TYPE]: RECORD, [MSGPACK_TYPE]: [RECORD] } } },
  read_checkpoint: {
    request: json({ id: '00000000:00000002' }),
    answers: { 200: json({ checkpoint: '00000000:00000002' }) },
  },
  journal_tail: {
    answers: {
      200: { 'text/event-stream': `id: ${RECORD.id}\ndata: ${JSON.stringify(RECORD)}\n\n` },
    },
  },
  job_list: { answers: { 200: json({ jobs: [DONE] }) } },
  job_poll: { answers: { 200: json(DONE) } },
  job_cancel: { answers: { 200: json({ ...DONE, state: 'cancelled', result: null }) } },
  spool_check: { answers: started('spool_check') },
  spool_repair: { answers: started('spool_repair') },
  spool_compact: { answers: started('spool_compact') },
  spool_backup: { request: json({ name: '2026-03-01' }), answers: started('spool_backup') },
  spool_import: { request: json({ path: 'old-queue' }), answers: started('spool_import') },
  quarantine_list: { answers: { 200: json({ entries: [QUARANTINED], cursor: null }) } },
  quarantine_show: { answers: { 200: json(QUARANTINED) } },
  quarantine_content: { answers: { 200: { 'application/octet-stream': MAIL } } },
  quarantine_release: { answers: { 201: json({ id: OTHER_ID }) } },
  describe: { answers: { 200: json({ openapi: '3.1.0', info: { title: 'Bobbin' }, paths: {} }) } },
  liveness: { answers: { 200: json({ status: 'ok' }) } },
  readiness: {
    answers: {
      200: json({ status: 'ready' }),
    },
  },
  metrics: {
    answers: {
      200: { 'text/plain': '# TYPE bobbin_spool_messages gauge\nbobbin_spool_messages 1200\n' },
    },
  },
}

/** Of each status, the problem that a caller meets most. */
const PROBLEMS: Readonly<Record<number, readonly [code: string, detail: string]>> = {
  400: ['FST_ERR_VALIDATION', 'body/rcptto must NOT have fewer than 1 items'],
  401: ['TOKEN_MISSING', 'send a token: Authorization: Bearer …'],
  403: ['MISSING_SCOPE', 'the token billing has not the scope deliver'],
  404: ['SPOOL_ERR_NOT_FOUND', `there is no message ${ID}`],
  409: ['SPOOL_ERR_LEASE', `the lease on ${ID} is lost; claim the message again`],
  412: ['SPOOL_ERR_VERSION', `the meta of ${ID} stands at version 3, not 2`],
  413: ['FST_ERR_CTP_BODY_TOO_LARGE', 'Request body is too large'],
  415: ['FST_ERR_CTP_INVALID_MEDIA_TYPE', 'Unsupported Media Type: text/html'],
  416: ['RANGE_NOT_SATISFIABLE', `the content has ${SIZE} bytes`],
  422: ['SPOOL_ERR_UNSAFE', 'deferred spooling is not switched on'],
  429: ['RATE_LIMITED', 'over 100 requests in 1 s; try again in 1 s'],
  500: [
    'INTERNAL_SERVER_ERROR',
    'an internal error; the log has the details under the id of this request',
  ],
  503: ['NOT_READY', 'nothing is taken now: the disk is nearly full'],
  507: ['SPOOL_ERR_FULL', 'no room on the disk; free some space; writing goes on by itself'],
}

export function problemExample(status: number): Problem {
  const [code, detail] = PROBLEMS[status] as (typeof PROBLEMS)[number]
  return {
    ...{ type: 'about:blank', title: STATUS_CODES[status] as string, status, code, detail },
    instance: 'req-1',
    ...(status === 400
      ? { errors: [{ where: 'body.rcptto', message: 'must NOT have fewer than 1 items' }] }
      : {}),
    ...(status === 503
      ? { reasons: [{ code: 'low_space', detail: 'the disk is nearly full' }] }
      : {}),
  }
}
