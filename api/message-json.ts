/** What the spool says (camel case, milliseconds) as JSON (snake case, RFC 3339). */
import type { Static } from 'typebox'
import type {
  ContentStructure,
  MessageMeta,
  MimePart,
  QuarantineEntry,
  SpoolSpace,
  SpoolStats,
} from '../spool/index.js'
import type { Meta, MimePartJson, MimeStructureJson, Quarantined, SpoolState } from './schemas.js'

export function metaToJson(meta: MessageMeta): Static<typeof Meta> {
  return {
    id: meta.id,
    state: meta.state,
    mailfrom: meta.mailfrom,
    rcptto: meta.rcptto,
    size: meta.size,
    sha256: meta.sha256,
    created: new Date(meta.created).toISOString(),
    next_attempt: meta.nextAttempt === null ? null : new Date(meta.nextAttempt).toISOString(),
    retries: meta.retries,
    version: meta.version,
    batch_id: meta.batchId,
    connection_id: meta.connectionId,
    protocol: meta.protocol,
    binding_group: meta.bindingGroup,
    binding: meta.binding,
    retention: meta.retention,
    peer: meta.peer,
    context: meta.context,
  }
}

export function structureToJson({
  root,
  size,
  sha256,
  defects,
}: ContentStructure): Static<typeof MimeStructureJson> {
  return { size, sha256, root: partToJson(root), defects: [...defects] }
}

function partToJson({ headerOffset, headerLength, parts, ...part }: MimePart): MimePartJson {
  return {
    ...part,
    header_offset: headerOffset,
    header_length: headerLength,
    parts: parts.map(partToJson),
  }
}

export function spoolStateToJson(stats: SpoolStats, space: SpoolSpace): Static<typeof SpoolState> {
  const { messages, unspooled, bodies, bytes, due, outbox, readOnly, idempotencyKeys } = stats
  const oldest = outbox.oldest === null ? null : new Date(outbox.oldest).toISOString()
  return {
    messages,
    unspooled,
    bodies,
    bytes,
    due,
    idempotency_keys: idempotencyKeys,
    outbox: { ...outbox, oldest },
    read_only: readOnly,
    space: spaceToJson(space),
  }
}

export function quarantineToJson(entry: QuarantineEntry): Static<typeof Quarantined> {
  const { name, kind, reason, time, db, key, meta, rowBytes, bodyBytes, bodyParts } = entry
  const parts = bodyParts?.map(({ at, fileAt, length }) => ({ at, file_at: fileAt, length }))
  return {
    name,
    kind,
    reason,
    time: new Date(time).toISOString(),
    db,
    key,
    meta: meta === null ? null : metaToJson(meta),
    row_bytes: rowBytes,
    body_bytes: bodyBytes,
    body_parts: parts ?? null,
  }
}

export function spaceToJson({ total, available, usedPercent }: SpoolSpace): SpaceJson {
  return { total, available, used_percent: usedPercent }
}

export type SpaceJson = Static<typeof SpoolState>['space']
