/** The `json` form: one object a line, its facts by name. In JSON control characters are escaped. */
import type { LogEvent, MessageEvent, MessageFacts } from './event-types.js'

export function formatJson(
  event: LogEvent,
  contextKeys: { conn: string[]; mess: string[] } | undefined,
): string {
  const time = new Date(event.time).toISOString()
  if (event.type === 'heartbeat') return JSON.stringify({ type: event.type, time })
  if (event.type === 'import') {
    const { type, id, originalId: original_id, result, source } = event
    return JSON.stringify({ type, time, id, original_id, result, source })
  }
  if ('user' in event) {
    const { type, connectionId: connection_id, user, peer, note } = event
    return JSON.stringify({ type, time, connection_id, user, peer, note })
  }
  const record = {
    type: event.type,
    time,
    id: event.id,
    batch_id: event.batchId,
    connection_id: event.connectionId,
    mailfrom: event.mailfrom,
    rcptto: event.rcptto,
    size: event.size,
    protocol: event.protocol,
    binding_group: event.bindingGroup,
    binding: event.binding,
    ...(event.type === 'reception' ? {} : outcome(event)),
    peer: event.peer,
  }
  if (contextKeys === undefined) return JSON.stringify(record)
  return JSON.stringify({ ...record, context: selectContext(event, contextKeys) })
}

function outcome(event: MessageEvent) {
  const { domain, retries, age, stage, bytesSent: bytes_sent, note } = event
  switch (event.type) {
    case 'transient_failure':
    case 'permanent_failure':
    case 'expiration':
      return { domain, stage, retries, age, bytes_sent, note }
    case 'rejection':
      return { stage, note }
    default:
      return { domain, retries, age, ...(note === '' ? {} : { note }) }
  }
}

function selectContext(
  event: MessageFacts,
  keys: { conn: string[]; mess: string[] },
): Record<'conn' | 'mess', Record<string, string>> {
  const select = (dictionary: 'conn' | 'mess') =>
    Object.fromEntries(
      keys[dictionary].flatMap((key) => {
        const value = event.context(dictionary, key)
        return value === undefined ? [] : [[key, value]]
      }),
    ) as Record<string, string>
  return { conn: select('conn'), mess: select('mess') }
}
