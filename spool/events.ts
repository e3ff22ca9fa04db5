/**
 * Events as lines: which form a line of an event takes. A line is one record without its newline. No field
 * of any content can forge a field or a line (event-ec.ts, event-json.ts, event-macros.ts).
 */
import { formatEc } from './event-ec.js'
import { formatJson } from './event-json.js'
import type { EventMacros } from './event-macros.js'
import type { EventType, LogEvent } from './event-types.js'

export * from './event-types.js'

export interface EventOptions {
  format: 'json' | 'ec'
  /** The journal an event goes to; null: not logged. */
  journalOf(type: EventType): string | null
  /** Context keys that a JSON record carries. */
  contextKeys?: { conn: string[]; mess: string[] } | undefined
  /** Formats of the operator's own, which take the place of `format` for their type. */
  custom?: Partial<Record<EventType, EventMacros>> | undefined
}

export function formatEvent(event: LogEvent, options: EventOptions): string {
  const custom = options.custom?.[event.type]
  if (custom !== undefined) return custom.format(event)
  return options.format === 'ec' ? formatEc(event) : formatJson(event, options.contextKeys)
}
