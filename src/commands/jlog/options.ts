/** Values that several of the commands take. */
import { InvalidArgumentError } from 'commander'
import {
  JlogError,
  type LogId,
  parseLogId,
  SAFETY,
  type Safety,
  type SubscriberName,
} from '../../../jlog/index.js'
import { bytesOfArgument } from '../../arguments.js'
import { UsageError } from '../../program.js'

const SAFETY_BY_NAME = { unsafe: SAFETY.unsafe, almost_safe: SAFETY.almostSafe, safe: SAFETY.safe }

export function safetyLevel(text: string): Safety {
  if (Object.hasOwn(SAFETY_BY_NAME, text)) {
    return SAFETY_BY_NAME[text as keyof typeof SAFETY_BY_NAME]
  }
  throw new InvalidArgumentError(`Give one of ${Object.keys(SAFETY_BY_NAME).join(', ')}.`)
}

export function wholeNumberUpTo(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= minimum && value <= maximum) return value
    throw new InvalidArgumentError(`Give a whole number from ${minimum} to ${maximum}.`)
  }
}

export const segmentSize = wholeNumberUpTo(1, 0xffffffff)
export const preCommitSize = wholeNumberUpTo(0, 256 * 1024 * 1024)

export function octalMode(text: string): number {
  if (/^[0-7]{3,4}$/.test(text) && Number.parseInt(text, 8) <= 0o777)
    return Number.parseInt(text, 8)
  throw new InvalidArgumentError('Give a mode in octal digits, as 0640.')
}

export function logId(text: string): LogId {
  try {
    return parseLogId(text)
  } catch (error) {
    if (!(error instanceof JlogError)) throw error
    throw new InvalidArgumentError('Write it as two hexadecimal numbers, as 00000000:00000001.')
  }
}

export function place(text: string): 'begin' | 'end' | LogId {
  return text === 'begin' || text === 'end' ? text : logId(text)
}

/** A subscriber's name: text, or with `--hex` any bytes. */
export function subscriberName(text: string, hex: boolean | undefined): SubscriberName {
  if (!hex) return bytesOfArgument(text)
  if (/^(?:[0-9a-f]{2})+$/i.test(text)) return Buffer.from(text, 'hex')
  throw new UsageError(`${JSON.stringify(text)} is no name in hexadecimal digits`)
}

/** Only what was given, so that the rest keeps its default. */
export function given<T extends object>(
  options: T,
): Partial<{ [K in keyof T]: Exclude<T[K], undefined> }> {
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as Partial<{ [K in keyof T]: Exclude<T[K], undefined> }>
}
