/** The events an MTA logs, and their names. */

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
