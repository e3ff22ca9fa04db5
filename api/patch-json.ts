/** A change of meta, from JSON. */
import type { Static } from 'typebox'
import type { MetaPatch } from '../spool/index.js'
import type { MetaPatchJson } from './schemas.js'
import { parseTime } from './time.js'

export function patchFromJson(json: Static<typeof MetaPatchJson>): MetaPatch {
  const {
    next_attempt: nextAttempt,
    binding_group: bindingGroup,
    retries,
    retention,
    binding,
    context,
  } = json
  return {
    ...(nextAttempt === undefined
      ? {}
      : { nextAttempt: nextAttempt === null ? null : parseTime(nextAttempt) }),
    ...(retries === undefined ? {} : { retries }),
    ...(retention === undefined ? {} : { retention }),
    ...(bindingGroup === undefined ? {} : { bindingGroup }),
    ...(binding === undefined ? {} : { binding }),
    ...(context === undefined ? {} : { context }),
  }
}
