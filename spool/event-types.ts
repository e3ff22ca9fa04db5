/** The types of the events that are logged, and the facts of each. */

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
  'authentication',
  'administration',
] as const

export type EventType = (typeof EVENT_TYPES)[number]

/** What is known of a message. */
export interface MessageFacts {
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

/** The facts of a reception. */
export interface Reception extends MessageFacts {
  readonly type: 'reception'
  /** Milliseconds since the epoch. */
  readonly time: number
}

/** What became of a message. */
export interface MessageEvent extends MessageFacts {
  readonly type:
    | 'attempt'
    | 'delivery'
    | 'transfer'
    | 'transient_failure'
    | 'permanent_failure'
    | 'rejection'
    | 'expiration'
  readonly time: number
  /** Retries before this attempt: 0 at the first. */
  readonly retries: number
  /** Seconds since reception. */
  readonly age: number
  /** The domain it was delivered or tried to. */
  readonly domain: string
  /** 0 to 22: how far the session was. */
  readonly stage: number
  readonly bytesSent: number
  /** What the other side said, or why. */
  readonly note: string
}

export interface ImportEvent {
  readonly type: 'import'
  readonly time: number
  readonly originalId: string
  /** '' when there is none. */
  readonly id: string
  /** 1 success, 2 meta failed, 3 body failed, 4 our write failed. */
  readonly result: 1 | 2 | 3 | 4
  /** Base directory that it came from. */
  readonly source: string
}

export interface Heartbeat {
  readonly type: 'heartbeat'
  readonly time: number
}

/** Somebody was authenticated, or refused; something was administered. */
export interface AccountEvent {
  readonly type: 'authentication' | 'administration'
  readonly time: number
  readonly connectionId: string
  readonly peer: string
  readonly user: string
  readonly note: string
}

export type LogEvent = Reception | MessageEvent | ImportEvent | Heartbeat | AccountEvent

/** Stages 0 to 22 of an attempt, as numbered in `ec` lines. */
export const STAGES = [
  'not connected',
  'idle',
  'MAIL FROM',
  'after MAIL FROM',
  'RCPT TO',
  'after RCPT TO',
  'DATA',
  'after DATA',
  'sending body',
  'reading confirmation',
  'EHLO',
  'after EHLO',
  'banner',
  'RSET',
  'after RSET',
  'STARTTLS',
  'after STARTTLS',
  'TLS handshake',
  'TLS renegotiation',
  'XCLIENT',
  'after XCLIENT',
  'out-of-band bounce',
  'unknown',
] as const

export const UNKNOWN_STAGE = STAGES.length - 1

/** The domain in the case it was given in; '' when there is none. */
export function splitAddress(address: string): { localpart: string; domain: string } {
  const at = address.lastIndexOf('@')
  return at < 0
    ? { localpart: address, domain: '' }
    : { localpart: address.slice(0, at), domain: address.slice(at + 1) }
}
