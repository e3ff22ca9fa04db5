/**
 * Formats of the operator's own, with the macros of Momentum's custom_logger: `%t@%r@%R@%vctx_mess{key}`.
 * A format is read once; a macro that does not exist is an error then, not a hole in the log. What a macro
 * gives is escaped: `\`, control characters, and whatever stands between the macros of the format, so that
 * no value can forge a field or a line. docs/events.md has the list.
 */
import { invalid } from './errors.js'
import { type LogEvent, type MessageEvent, STAGES, splitAddress } from './event-types.js'

type Expand = (event: LogEvent) => string

/** A fact that only some events have; '' for the others. */
function fact(name: string, text = (value: unknown) => String(value)): Expand {
  return (event) => {
    const value = (event as unknown as Record<string, unknown>)[name]
    return value === undefined ? '' : text(value)
  }
}

const part = (name: 'rcptto' | 'mailfrom', half: 'localpart' | 'domain') =>
  fact(name, (address) => splitAddress(address as string)[half])

const MACROS: Readonly<Record<string, Expand>> = {
  b: fact('binding'),
  B: fact('size'),
  BI: fact('batchId'),
  CI: fact('connectionId'),
  d: (event) => ('domain' in event ? event.domain : part('rcptto', 'domain')(event).toLowerCase()),
  g: fact('bindingGroup'),
  H: fact('peer'),
  i: fact('id'),
  m: part('mailfrom', 'localpart'),
  M: part('mailfrom', 'domain'),
  n: fact('note'),
  N: fact('retries'),
  p: fact('protocol'),
  r: part('rcptto', 'localpart'),
  R: part('rcptto', 'domain'),
  s: fact('stage', (stage) => STAGES[stage as number] ?? ''),
  S: fact('stage'),
  t: ({ time }) => String(Math.floor(time / 1000)),
  T: age(2),
  U: fact('user'),
}

type MakeExpand = (argument: string) => Expand

const WITH_ARGUMENT: Readonly<Record<string, MakeExpand>> = {
  t: timeFormat,
  T: (digits) => age(decimals(digits, 0)),
  us: (digits) => {
    const places = decimals(digits, 1)
    return ({ time }) => (time / 1000).toFixed(places)
  },
  vctx_conn: (key) => context('conn', key),
  vctx_mess: (key) => context('mess', key),
}

/** One format, read. */
export class EventMacros {
  readonly #parts: (string | Expand)[] = []
  readonly #special: RegExp

  /** Throws SPOOL_ERR_INVALID naming the macro that does not exist, and where it stands. */
  constructor(format: string) {
    if (format === '') throw invalid('format', 'empty')
    let literals = ''
    let at = 0
    while (at < format.length) {
      const percent = format.indexOf('%', at)
      const literal = format.slice(at, percent < 0 ? undefined : percent)
      if (literal !== '') this.#parts.push(literal)
      literals += literal
      if (percent < 0) break
      if (format[percent + 1] === '%') {
        this.#parts.push('%')
        literals += '%'
        at = percent + 2
        continue
      }
      const { expand, length } = readMacro(format, percent)
      this.#parts.push(expand)
      at = percent + length
    }
    this.#special = special(literals)
  }

  format(event: LogEvent): string {
    let line = ''
    for (const each of this.#parts) {
      line += typeof each === 'string' ? each : each(event).replace(this.#special, '\\$&')
    }
    return line
  }
}

/** The longest name that exists is meant: `%BI` is the batch id, not `%B` and an I. */
function readMacro(format: string, percent: number): { expand: Expand; length: number } {
  const [name = ''] = /^[A-Za-z_]*/.exec(format.slice(percent + 1)) ?? []
  for (let end = name.length; end > 0; end--) {
    const known = name.slice(0, end)
    const rest = format.slice(percent + 1 + end)
    const argument = /^\{([^}]*)\}/.exec(rest)
    if (argument !== null && Object.hasOwn(WITH_ARGUMENT, known)) {
      const expand = (WITH_ARGUMENT[known] as MakeExpand)(argument[1] as string)
      return { expand, length: 1 + end + argument[0].length }
    }
    if (argument === null && Object.hasOwn(MACROS, known)) {
      return { expand: MACROS[known] as Expand, length: 1 + end }
    }
  }
  const [shown] = /^%[A-Za-z_]*(\{[^}]*\}?)?/.exec(format.slice(percent)) as RegExpExecArray
  throw invalid('format', `there is no macro ${shown} (at character ${percent + 1})`)
}

function special(literals: string): RegExp {
  const separators = [...new Set(literals)].filter((character) => !/[\p{L}\p{N}]/u.test(character))
  const escaped = separators.map((character) => `\\u{${character.codePointAt(0)?.toString(16)}}`)
  return new RegExp(`[\\\\\\u{0}-\\u{1f}\\u{7f}${escaped.join('')}]`, 'gu')
}

function age(digits: number): Expand {
  return fact('age', (seconds) => (seconds as MessageEvent['age']).toFixed(digits))
}

function decimals(text: string, least: number): number {
  const digits = Number(text)
  if (/^\d$/.test(text) && digits >= least && digits <= 6) return digits
  throw invalid('format', `{${text}}: not a number of decimal places from ${least} to 6`)
}

function context(dictionary: 'conn' | 'mess', key: string): Expand {
  if (key === '') throw invalid('format', `%vctx_${dictionary}{}: no key`)
  return (event) => ('context' in event ? (event.context(dictionary, key) ?? '') : '')
}

const pad = (value: number, width = 2) => String(value).padStart(width, '0')
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS =
  'January February March April May June July August September October November December'.split(' ')

/** strftime (POSIX), in UTC. */
const TIME: Readonly<Record<string, (date: Date) => string>> = {
  Y: (date) => pad(date.getUTCFullYear(), 4),
  y: (date) => pad(date.getUTCFullYear() % 100),
  m: (date) => pad(date.getUTCMonth() + 1),
  d: (date) => pad(date.getUTCDate()),
  e: (date) => String(date.getUTCDate()).padStart(2),
  H: (date) => pad(date.getUTCHours()),
  I: (date) => pad(date.getUTCHours() % 12 || 12),
  M: (date) => pad(date.getUTCMinutes()),
  S: (date) => pad(date.getUTCSeconds()),
  p: (date) => (date.getUTCHours() < 12 ? 'AM' : 'PM'),
  j: (date) =>
    pad(Math.floor((date.getTime() - Date.UTC(date.getUTCFullYear())) / 86_400_000) + 1, 3),
  a: (date) => (DAYS[date.getUTCDay()] as string).slice(0, 3),
  A: (date) => DAYS[date.getUTCDay()] as string,
  b: (date) => (MONTHS[date.getUTCMonth()] as string).slice(0, 3),
  B: (date) => MONTHS[date.getUTCMonth()] as string,
  F: (date) => date.toISOString().slice(0, 10),
  T: (date) => date.toISOString().slice(11, 19),
  s: (date) => String(Math.floor(date.getTime() / 1000)),
  z: () => '+0000',
  Z: () => 'UTC',
  '%': () => '%',
}

function timeFormat(format: string): Expand {
  for (const [conversion, letter] of format.matchAll(/%(.?)/gsu)) {
    if (!Object.hasOwn(TIME, letter as string)) {
      throw invalid('format', `%t{${format}}: there is no ${conversion}`)
    }
  }
  return ({ time }) => {
    const date = new Date(time)
    return format.replace(/%(.)/gsu, (_, letter: string) =>
      (TIME[letter] as (date: Date) => string)(date),
    )
  }
}
