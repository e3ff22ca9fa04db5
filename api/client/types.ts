/**
 * What goes over the wire, with the names that it has there; times are RFC 3339 in UTC unless said otherwise. Written out, so
 * that who uses the client sees it without the service's schemas; a test holds the two against each other.
 */

/** Unix seconds, or RFC 3339. */
export type TimeInput = number | string

export interface ContextJson {
  conn: Record<string, string>
  mess: Record<string, string>
}

export interface MetaJson {
  /** A UUIDv7: ids sort by the time they were made. */
  id: string
  state: string
  /** Envelope sender; empty for the null sender. */
  mailfrom: string
  /** Envelope recipient. */
  rcptto: string
  /** Bytes of the content. */
  size: number
  /** Of the content, in hex; null when it was dropped. */
  sha256: string | null
  created: string
  next_attempt: string | null
  retries: number
  /** Counts the writes of this meta; what `ifVersion` names. */
  version: number
  batch_id: string
  connection_id: string
  protocol: string
  binding_group: string
  binding: string
  /** Seconds. */
  retention: number | null
  peer: string
  context: ContextJson
}

/** What may go with an injection besides envelope and content. */
export interface InjectionFields {
  batch_id?: string | undefined
  connection_id?: string | undefined
  /** esmtp, rest (default), xfer or internal. */
  protocol?: string | undefined
  binding_group?: string | undefined
  binding?: string | undefined
  next_attempt?: TimeInput | undefined
  /** Seconds. */
  retention?: number | undefined
  /** `durable` when not given; `deferred` where unsafe spooling is switched on. */
  durability?: string | undefined
}

export interface InjectedJson {
  /** `complete`, or `deferred` for what is in memory alone. */
  result: string
  /** One a recipient, in order. */
  ids: string[]
  size: number
  sha256: string
}

/** A JSON merge patch (RFC 7396): what is null is taken away, what is not there stays. */
export interface MetaPatchJson {
  next_attempt?: TimeInput | null | undefined
  retries?: number | undefined
  retention?: number | null | undefined
  binding_group?: string | undefined
  binding?: string | undefined
  context?:
    | {
        conn?: Record<string, string | null> | null | undefined
        mess?: Record<string, string | null> | null | undefined
      }
    | undefined
}

export interface ChangedMetaJson {
  /** `complete`, or `partial` when it was not forced. */
  result: string
  meta: MetaJson
}

/** A dictionary was changed. */
export interface ChangedContextJson {
  result: string
  /** Of the meta, after the change. */
  version: number
}

export interface ReplacedContentJson {
  result: string
  /** Of the meta, after the change. */
  version: number
  size: number
  sha256: string
}

/** A part of the MIME tree. Offsets and lengths are bytes of the content. */
export interface MimePartJson {
  /** `1` is the message, `1.2` its second part. */
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

export interface MimeStructureJson {
  size: number
  sha256: string
  root: MimePartJson
  defects: { defect: string; path: string; offset: number }[]
}

export interface ClaimRequest {
  /** At most so many messages; 1 to 1000, default 100. */
  limit?: number | undefined
  /** After so long the messages are due again by themselves; default 300. */
  lease_seconds?: number | undefined
  /** Only recipients of this domain. */
  domain?: string | undefined
  binding?: string | undefined
  /** Who claims; kept with the claim. */
  owner?: string | undefined
}

export interface ClaimedMessage extends MetaJson {
  /** The claim's token: goes with the report on the message. */
  lease: string
}

export interface ClaimJson {
  /** null when nothing was due. */
  lease: string | null
  until: string
  messages: ClaimedMessage[]
}

export interface ExtendedClaimJson {
  lease: string
  until: string
  /** Messages that it still holds. */
  ids: string[]
}

export type DispositionType =
  | 'attempt'
  | 'delivery'
  | 'transfer'
  | 'transient_failure'
  | 'permanent_failure'
  | 'rejection'

interface AttemptFields {
  /** Refuse (409) unless this claim holds the message. */
  lease?: string | undefined
  /** The host it was tried with. */
  peer?: string | undefined
  /** The domain it was tried to; else the recipient's. */
  domain?: string | undefined
  /** How far the session was, 0 to 22; 22 is unknown. */
  stage?: number | undefined
  bytes_sent?: number | undefined
  /** What the other side said, or why. */
  note?: string | undefined
  /** Of a transient failure, instead of what the schedule says. */
  next_attempt?: TimeInput | undefined
}

/** What became of a message. */
export interface DispositionJson extends AttemptFields {
  type: DispositionType
}

export interface DisposedJson {
  result: string
  /** removed, deferred (tried again at next_attempt), expired (no further attempt; gone), or logged (nothing else done). */
  outcome: string
  next_attempt: string | null
}

/** With an id a disposition, without one an event of no message here: rejection, authentication, administration. */
export interface EventJson extends AttemptFields {
  id?: string | undefined
  type: DispositionType | 'authentication' | 'administration'
  mailfrom?: string | undefined
  rcptto?: string | undefined
  batch_id?: string | undefined
  connection_id?: string | undefined
  size?: number | undefined
  protocol?: string | undefined
  binding_group?: string | undefined
  binding?: string | undefined
  user?: string | undefined
}

/** Of one event of many; with `status`, `code` and `detail` when `result` is `error`. */
export interface EventResultJson extends Partial<DisposedJson> {
  result: string
  id?: string
  status?: number
  code?: string
  detail?: string
}

export interface EventResultsJson {
  /** One an event, in order. */
  results: EventResultJson[]
  /** How many of them are errors. */
  failed: number
}

export type SafetyName = 'unsafe' | 'almost_safe' | 'safe'

export interface AlterSettingsJson {
  /** Bytes after which a segment is finished. */
  segment_size?: number | undefined
  /** safe: appended records are synced before they are acknowledged. */
  safety?: SafetyName | undefined
  /** Bytes of the pre-commit buffer; 0 is none. */
  pre_commit?: number | undefined
}

export interface JournalSettingsJson extends AlterSettingsJson {
  /** off: a plain journal; lz4, none: one with compressed records, by that provider. */
  compression?: 'off' | 'none' | 'lz4' | undefined
}

export interface SubscriberJson {
  name: string
  checkpoint: string
  /** Records after the checkpoint. */
  lag_records: number
  lag_bytes: number
}

export interface JournalJson {
  name: string
  /** Log id of the first record; null when there is none. */
  first: string | null
  last: string | null
  records: number
  /** Of all segments. */
  bytes: number
  segment_size: number
  safety: SafetyName
  pre_commit: number
  compression: 'off' | 'none' | 'lz4'
  segments: { log: string; bytes: number; records: number }[]
  subscribers: SubscriberJson[]
}

/** What `bobbin jlog inspect --json` prints; docs/jlog.md tells of the rest. */
export interface InspectionJson {
  directory: string
  /** A repair would change nothing. */
  sound: boolean
  /** Confirmed ones. */
  records: number
  segments: {
    file: string
    records: number
    bytes: number
    damaged_bytes: number
    sound: boolean
    [more: string]: unknown
  }[]
  /** Segments that are not there: first and last of each run. */
  missing: number[][]
  [more: string]: unknown
}

export interface AppendedJson {
  /** Log ids of the first and the last record. */
  first: string
  last: string
  count: number
}

/** A record as the service sends it. */
export interface RecordJson {
  readonly id: string
  readonly sec: number
  readonly usec: number
  readonly size: number
  /** base64. */
  readonly data: string
}

export interface SpoolStateJson {
  messages: number
  /** Those of them that are in memory alone. */
  unspooled: number
  /** Contents; recipients of one reception share theirs. */
  bodies: number
  /** Of all contents, each counted once. */
  bytes: number
  /** Messages that have a next attempt. */
  due: number
  /** Keys of injections that are kept with their answers. */
  idempotency_keys: number
  /** Log records that wait for their journal. */
  outbox: { records: number; bytes: number; oldest: string | null }
  /** Bytes of the file system that the spool is on. */
  space: { total: number; available: number; used_percent: number }
  /** Why no writes are taken; null when they are. */
  read_only: string | null
}

export interface QuarantinedJson {
  name: string
  kind: 'message' | 'body' | 'row'
  /** Why it is here. */
  reason: string
  time: string
  /** Database that the row was in. */
  db: string
  /** Of the row, in hex. */
  key: string
  /** Of a message, where it could be read. */
  meta: MetaJson | null
  row_bytes: number | null
  body_bytes: number | null
  /** Stretches of the content that were there, when not all of it was. */
  body_parts: { at: number; file_at: number; length: number }[] | null
}

export interface JobJson {
  id: string
  /** What it does, as in `spool_check`. */
  kind: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  started: string
  ended: string | null
  progress: {
    phase: string
    done: number
    total: number | null
    /** Of an import. */
    failed?: number
    /** Of an import: log records by result, 1 to 4. */
    results?: Record<string, number>
  } | null
  /** Its report once it is done; null until then. */
  result: unknown
  error: { code: string; message: string } | null
}

/** RFC 9457 problem details. */
export interface ProblemJson {
  type: string
  title: string
  status: number
  /** Stable name of the problem. */
  code: string
  /** What happened, where, and what helps. */
  detail: string
  /** Id of the request, as in the service's log. */
  instance?: string
  /** Each thing that is wrong in the input. */
  errors?: { where: string; message: string }[]
  /** Why nothing is taken now (NOT_READY). */
  reasons?: { code: string; detail: string }[]
}
