/** Settings of load shedding: from where on no messages are taken. */
import Type, { type Static } from 'typebox'
import { allowedBytes } from './memory.js'

const MiB = 1024 * 1024

export const ShedSettings = Type.Object(
  {
    commit_delay: Type.Number({
      minimum: 0,
      default: 5,
      description:
        'Seconds: while a write has waited longer for the disk no messages are taken (503); 0: never refused for it.',
    }),
    event_loop_delay: Type.Number({
      minimum: 0,
      default: 2,
      description:
        'Seconds: while the process comes to its work later no messages are taken (503); 0: never refused for it.',
    }),
    memory: Type.Integer({
      minimum: 0,
      default: 0,
      description:
        'Bytes: while the process holds more no messages are taken (503); 0: half of what the machine, or the control group, has.',
    }),
    in_flight: Type.Integer({
      minimum: 0,
      default: 0,
      description:
        'Bytes of request bodies taken in at once, JSON counted threefold; one more is refused (503). 0: a quarter of shed.memory, at most 256 MiB.',
    }),
  },
  { additionalProperties: false, default: {} },
)

export interface ShedLimits {
  /** Milliseconds; infinite when it is not looked at. */
  readonly commitDelay: number
  readonly eventLoopDelay: number
  /** Bytes. */
  readonly memory: number
  readonly inFlight: number
}

/** With what the machine has in the place of zeros. */
export function shedLimits(settings: Static<typeof ShedSettings>): ShedLimits {
  const memory = settings.memory || Math.floor(allowedBytes() / 2)
  return {
    commitDelay: milliseconds(settings.commit_delay),
    eventLoopDelay: milliseconds(settings.event_loop_delay),
    memory,
    inFlight: settings.in_flight || Math.min(256 * MiB, Math.floor(memory / 4)),
  }
}

function milliseconds(seconds: number): number {
  return seconds === 0 ? Number.POSITIVE_INFINITY : seconds * 1000
}
