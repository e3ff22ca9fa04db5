/** Times of requests. */
import type { Static } from 'typebox'
import { HttpError } from './problem.js'
import type { TimeInput } from './schemas.js'

/** Milliseconds since the epoch. */
export function parseTime(time: Static<typeof TimeInput>): number {
  const ms = typeof time === 'number' ? Math.round(time * 1000) : Date.parse(time)
  // The largest time that Date knows (ECMA-262, 21.4.1.1); beyond it nothing could print it again.
  if (!(Math.abs(ms) <= 8.64e15)) throw new HttpError(400, 'INVALID_TIME', `not a time: ${time}`)
  return ms
}
