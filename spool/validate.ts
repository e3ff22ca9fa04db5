/** What the spool takes: every field checked before anything is stored, each refusal naming its field. */
import { invalid } from './errors.js'
import { DURABILITIES, type MessageContext, type MetaPatch, type NewMessage } from './message.js'

/** A path of RFC 5321 is 256 octets; what MTAs let through is longer (SMTPUTF8, VERP). */
const MAX_ADDRESS_BYTES = 1024
const MAX_NAME_BYTES = 255
const MAX_RECIPIENTS = 50_000
/** The range of an ISO date with a year of four digits. */
const MAX_TIME = 253_402_300_799_999
const MAX_RETENTION = 10 * 366 * 86_400

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused.
const CONTROL = /[\u0000-\u001f\u007f]/
/** A surrogate without its other half has no UTF-8. */
const LONE_SURROGATE = /\p{Surrogate}/u

/** Bounds of a message's dictionaries, in bytes of UTF-8. */
export interface ContextLimits {
  /** Of a key. */
  readonly keyBytes: number
  /** Of all keys and values of both dictionaries. */
  readonly bytes: number
}

export const CONTEXT_LIMITS: ContextLimits = { keyBytes: 255, bytes: 64 * 1024 }

/** A new message with its defaults filled in. */
export interface Envelope {
  readonly mailfrom: string
  readonly rcptto: readonly string[]
  readonly batchId: string
  readonly connectionId: string
  readonly protocol: string
  readonly bindingGroup: string
  readonly binding: string
  /** undefined: now; null: not scheduled. */
  readonly nextAttempt: number | null | undefined
  readonly retention: number | null
  readonly peer: string
  readonly context: MessageContext
}

/** Throws SPOOL_ERR_INVALID. */
export function validateMessage(
  message: NewMessage,
  limits: ContextLimits = CONTEXT_LIMITS,
): Envelope {
  if (typeof message !== 'object' || message === null) throw invalid('message', 'not an object')
  const { mailfrom, rcptto } = message
  checkAddress('mailfrom', mailfrom)
  if (!Array.isArray(rcptto)) throw invalid('rcptto', 'not a list of addresses')
  if (rcptto.length === 0) throw invalid('rcptto', 'no recipient')
  if (rcptto.length > MAX_RECIPIENTS) throw invalid('rcptto', `over ${MAX_RECIPIENTS} recipients`)
  for (const [i, address] of (rcptto as string[]).entries()) {
    checkAddress(`rcptto[${i}]`, address)
    if (address === '') throw invalid(`rcptto[${i}]`, 'empty')
  }
  const { nextAttempt, retention, durability } = message
  if (durability !== undefined && !DURABILITIES.includes(durability)) {
    throw invalid('durability', `not one of ${DURABILITIES.join(', ')}`)
  }
  return {
    mailfrom,
    rcptto,
    batchId: name('batchId', message.batchId, ''),
    connectionId: name('connectionId', message.connectionId, ''),
    protocol: name('protocol', message.protocol, 'rest'),
    bindingGroup: name('bindingGroup', message.bindingGroup, 'default'),
    binding: name('binding', message.binding, 'default'),
    nextAttempt:
      nextAttempt === undefined || nextAttempt === null
        ? nextAttempt
        : time('nextAttempt', nextAttempt),
    retention: retention === undefined ? null : checkRetention(retention),
    peer: name('peer', message.peer, 'unknown'),
    context: checkContext(
      { conn: message.context?.conn ?? {}, mess: message.context?.mess ?? {} },
      limits,
    ),
  }
}

/** A patch whose times are numbers. */
export interface CheckedPatch extends Omit<MetaPatch, 'nextAttempt'> {
  nextAttempt?: number | null | undefined
}

const PATCHABLE = new Set([
  'nextAttempt',
  'retries',
  'retention',
  'bindingGroup',
  'binding',
  'context',
])

export function validatePatch(patch: MetaPatch): CheckedPatch {
  if (typeof patch !== 'object' || patch === null) throw invalid('patch', 'not an object')
  for (const key of Object.keys(patch)) {
    if (!PATCHABLE.has(key)) throw invalid(key, 'cannot be changed')
  }
  const { nextAttempt, retries, retention, bindingGroup, binding, context } = patch
  if (retries !== undefined && !isCount(retries)) throw invalid('retries', 'not a count')
  if (context !== undefined && (typeof context !== 'object' || context === null)) {
    throw invalid('context', 'not an object')
  }
  return {
    ...patch,
    nextAttempt:
      nextAttempt === undefined || nextAttempt === null
        ? nextAttempt
        : time('nextAttempt', nextAttempt),
    retention:
      retention === undefined || retention === null ? retention : checkRetention(retention),
    bindingGroup: bindingGroup === undefined ? undefined : name('bindingGroup', bindingGroup, ''),
    binding: binding === undefined ? undefined : name('binding', binding, ''),
  }
}

/** Both dictionaries: strings only, and bounded together. */
export function checkContext(
  context: MessageContext,
  limits: ContextLimits = CONTEXT_LIMITS,
): MessageContext {
  let bytes = 0
  for (const dictionary of ['conn', 'mess'] as const) {
    const entries = context[dictionary]
    const field = `context.${dictionary}`
    if (typeof entries !== 'object' || entries === null || Array.isArray(entries)) {
      throw invalid(field, 'not an object of strings')
    }
    for (const [key, value] of Object.entries(entries)) {
      if (key === '') throw invalid(field, 'an empty key')
      const keyBytes = Buffer.byteLength(key)
      if (keyBytes > limits.keyBytes) {
        throw invalid(field, `a key over ${limits.keyBytes} bytes`)
      }
      if (typeof value !== 'string') throw invalid(`${field}.${key}`, 'not a string')
      if (LONE_SURROGATE.test(key) || LONE_SURROGATE.test(value)) {
        throw invalid(field, 'not well-formed Unicode')
      }
      bytes += keyBytes + Buffer.byteLength(value)
    }
  }
  if (bytes > limits.bytes) throw invalid('context', `over ${limits.bytes} bytes`)
  return context
}

/** A journal's name becomes part of keys. */
export function checkJournal(journal: string): string {
  if (name('journal', journal, '') === '') throw invalid('journal', 'empty')
  return journal
}

/** Milliseconds since the epoch. */
export function time(field: string, value: number | Date): number {
  const ms = value instanceof Date ? value.getTime() : value
  if (typeof ms !== 'number' || !(ms >= 0 && ms <= MAX_TIME)) throw invalid(field, 'not a time')
  return Math.floor(ms)
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function checkRetention(value: number): number {
  if (!isCount(value) || value > MAX_RETENTION) {
    throw invalid('retention', `not a number of seconds up to ${MAX_RETENTION}`)
  }
  return value
}

function checkAddress(field: string, address: string): void {
  if (typeof address !== 'string') throw invalid(field, 'not a string')
  if (Buffer.byteLength(address) > MAX_ADDRESS_BYTES) {
    throw invalid(field, `over ${MAX_ADDRESS_BYTES} bytes`)
  }
  if (CONTROL.test(address)) throw invalid(field, 'a control character in an address')
  if (LONE_SURROGATE.test(address)) throw invalid(field, 'not well-formed Unicode')
}

export function name(field: string, value: string | undefined, otherwise: string): string {
  if (value === undefined) return otherwise
  if (typeof value !== 'string') throw invalid(field, 'not a string')
  if (Buffer.byteLength(value) > MAX_NAME_BYTES)
    throw invalid(field, `over ${MAX_NAME_BYTES} bytes`)
  if (CONTROL.test(value)) throw invalid(field, 'a control character')
  if (LONE_SURROGATE.test(value)) throw invalid(field, 'not well-formed Unicode')
  return value
}
