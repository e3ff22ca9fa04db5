/**
 * The events an MTA logs, and the two forms of a line: `json`, one object, and `ec`, Momentum's fields
 * joined by `@`. In an `ec` field `@`, `\` and control characters are preceded by `\`, in a JSON string
 * control characters are escaped: no field can forge a field. A record is one line without its newline;
 * in the `ec` form a newline inside a field stands as `\` and a newline.
 */

export const EVENT_TYPES = [
  'reception',
  'attempt',
  'delivery',
  'transfer',
  'transient_failure',
  'permanent_failure',
  'rejection',
  'import',
  'expiration',
  'heartbeat',
] as const

export type EventType = (typeof EVENT_TYPES)[number]

export interface EventOptions {
  format: 'json' | 'ec'
  /** The journal an event goes to; null: not logged. */
  journalOf(type: EventType): string | null
  /** Context keys that a JSON record carries. */
  contextKeys?: { conn: string[]; mess: string[] } | undefined
}

/** The facts of a reception. */
export interface Reception {
  readonly type: 'reception'
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly id: string
  readonly batchId: string
  readonly connectionId: string
  readonly mailfrom: string
  readonly rcptto: string
  readonly size: number
  readonly protocol: string
  readonly bindingGroup: string
  readonly binding: string
  readonly peer: string
  /** Looks a key of the dictionaries up. */
  context(dictionary: 'conn' | 'mess', key: string): string | undefined
}

/** The events that have a form so far. */
export type LogEvent = Reception

export function formatEvent(event: LogEvent, options: EventOptions): string {
  return options.format === 'ec' ? formatEc(event) : formatJson(event, options)
}

function formatEc(event: LogEvent): string {
  const recipient = splitAddress(event.rcptto)
  const sender = splitAddress(event.mailfrom)
  const fields = [
    String(Math.floor(event.time / 1000)),
    event.id,
    event.batchId,
    event.connectionId,
    'R',
    recipient.localpart,
    recipient.domain,
    sender.localpart,
    sender.domain,
    event.peer,
    String(event.size),
    event.protocol,
    event.bindingGroup,
    event.binding,
  ]
  return fields.map(escapeEc).join('@')
}

function formatJson(event: LogEvent, { contextKeys }: EventOptions): string {
  const record = {
    type: event.type,
    time: new Date(event.time).toISOString(),
    id: event.id,
    batch_id: event.batchId,
    connection_id: event.connectionId,
    mailfrom: event.mailfrom,
    rcptto: event.rcptto,
    size: event.size,
    protocol: event.protocol,
    binding_group: event.bindingGroup,
    binding: event.binding,
    peer: event.peer,
  }
  if (contextKeys === undefined) return JSON.stringify(record)
  return JSON.stringify({ ...record, context: selectContext(event, contextKeys) })
}

function selectContext(
  event: LogEvent,
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

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped.
const EC_SPECIAL = /[@\\\u0000-\u001f\u007f]/g

/** A field of an `ec` line. */
export function escapeEc(field: string): string {
  return field.replace(EC_SPECIAL, '\\$&')
}

/** The domain in the case it was given in; '' when there is none. */
function splitAddress(address: string): { localpart: string; domain: string } {
  const at = address.lastIndexOf('@')
  return at < 0
    ? { localpart: address, domain: '' }
    : { localpart: address.slice(0, at), domain: address.slice(at + 1) }
}
