/**
 * The `ec` form: Momentum's fields joined by `@`. In a field `@`, `\` and control characters are preceded
 * by `\`: no field can forge another, and a newline inside one stands as `\` and a newline. Fields 0 to 4
 * are Unix seconds, message id, batch id, connection id, type.
 */
import {
  type AccountEvent,
  type ImportEvent,
  type LogEvent,
  type MessageEvent,
  type MessageFacts,
  splitAddress,
} from './event-types.js'

const LETTERS = {
  attempt: 'A',
  delivery: 'D',
  transfer: 'X',
  transient_failure: 'T',
  permanent_failure: 'P',
  // To those who know Momentum's letters a message that expired is one that failed.
  expiration: 'P',
  rejection: 'J',
  authentication: 'U',
  administration: 'C',
} as const

export function formatEc(event: LogEvent): string {
  return fieldsOf(event).map(escapeEc).join('@')
}

function fieldsOf(event: LogEvent): string[] {
  switch (event.type) {
    case 'reception':
      return [...head(event, 'R', event.time), ...envelope(event), event.peer, ...received(event)]
    case 'attempt':
    case 'delivery':
    case 'transfer':
      return [
        ...head(event, LETTERS[event.type], event.time),
        event.domain,
        String(event.size),
      ].concat([event.bindingGroup, event.binding, ...progress(event)])
    case 'transient_failure':
    case 'permanent_failure':
    case 'expiration':
      return [
        ...head(event, LETTERS[event.type], event.time),
        event.domain,
        String(event.bytesSent),
        event.bindingGroup,
        event.binding,
        String(event.stage),
        ...progress(event),
        event.note,
      ]
    case 'rejection':
      return [
        ...head(event, LETTERS.rejection, event.time),
        ...envelope(event),
        event.peer,
        ...received(event),
        String(event.stage),
        event.note,
      ]
    case 'import':
      return imported(event)
    case 'heartbeat':
      return [seconds(event.time), '', '', '', 'M']
    case 'authentication':
    case 'administration':
      return account(event)
  }
}

function head({ id, batchId, connectionId }: MessageFacts, letter: string, time: number): string[] {
  return [seconds(time), id, batchId, connectionId, letter]
}

function envelope({ rcptto, mailfrom }: MessageFacts): string[] {
  const recipient = splitAddress(rcptto)
  const sender = splitAddress(mailfrom)
  return [recipient.localpart, recipient.domain, sender.localpart, sender.domain]
}

function received({ size, protocol, bindingGroup, binding }: MessageFacts): string[] {
  return [String(size), protocol, bindingGroup, binding]
}

function progress({ retries, age, peer }: MessageEvent): string[] {
  return [String(retries), age.toFixed(3), peer]
}

function imported({ time, originalId, id, result, source }: ImportEvent): string[] {
  return [seconds(time), originalId, 'I', id, String(result), source]
}

function account({ type, time, connectionId, user, peer, note }: AccountEvent): string[] {
  return [seconds(time), '', '', connectionId, LETTERS[type], user, peer, note]
}

function seconds(time: number): string {
  return String(Math.floor(time / 1000))
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped.
const EC_SPECIAL = /[@\\\u0000-\u001f\u007f]/g

/** A field of an `ec` line. */
export function escapeEc(field: string): string {
  return field.replace(EC_SPECIAL, '\\$&')
}
