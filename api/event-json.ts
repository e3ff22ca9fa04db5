/** What an MTA reports, between JSON (snake case) and the spool. */
import Type, { type Static } from 'typebox'
import { DISPOSITIONS, type Disposed, type Disposition, type FreeEvent } from '../spool/index.js'
import { MessageId, TimeInput } from './schemas.js'
import { parseTime } from './time.js'

const Name = Type.String({ maxLength: 255 })
const attempt = {
  lease: Type.Optional(
    Type.String({ description: 'Refuse (409) unless this claim holds the message.' }),
  ),
  peer: Type.Optional(Type.String({ maxLength: 255, description: 'The host it was tried with.' })),
  domain: Type.Optional(
    Type.String({
      maxLength: 255,
      description: "The domain it was tried to; else the recipient's.",
    }),
  ),
  stage: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 22, description: 'How far the session was; 22: unknown.' }),
  ),
  bytes_sent: Type.Optional(Type.Integer({ minimum: 0 })),
  note: Type.Optional(
    Type.String({ maxLength: 8192, description: 'What the other side said, or why.' }),
  ),
  next_attempt: Type.Optional(TimeInput),
}

/** A report on one message. */
export const DispositionJson = Type.Object(
  { type: Type.Enum([...DISPOSITIONS]), ...attempt },
  {
    additionalProperties: false,
    examples: [
      {
        type: 'transient_failure',
        lease: '0195b3a2-7c4e-7d7a-9f57-1c9c0c1f6a42',
        peer: '192.0.2.25',
        stage: 9,
        note: '451 4.3.2 try again later',
      },
    ],
  },
)

/** A line of a bulk report: with an id a disposition, without one an event of no message here. */
export const EventLine = Type.Object(
  {
    id: Type.Optional(MessageId),
    type: Type.Enum([...DISPOSITIONS, 'authentication', 'administration']),
    ...attempt,
    mailfrom: Type.Optional(Type.String({ maxLength: 998 })),
    rcptto: Type.Optional(Type.String({ maxLength: 998 })),
    batch_id: Type.Optional(Name),
    connection_id: Type.Optional(Name),
    size: Type.Optional(Type.Integer({ minimum: 0 })),
    protocol: Type.Optional(Name),
    binding_group: Type.Optional(Name),
    binding: Type.Optional(Name),
    user: Type.Optional(Name),
  },
  { additionalProperties: false },
)
export type EventLine = Static<typeof EventLine>

export const DisposedJson = Type.Object({
  result: Type.String({ examples: ['complete', 'deferred'] }),
  outcome: Type.String({
    description:
      'removed: the message is gone. deferred: it is tried again at next_attempt. expired: the schedule has no further attempt, the message is gone. logged: nothing else was done.',
    examples: ['deferred'],
  }),
  next_attempt: Type.Union([Type.String(), Type.Null()]),
})

export function dispositionFromJson(json: Static<typeof DispositionJson>): Disposition {
  const { bytes_sent: bytesSent, next_attempt: next, ...rest } = json
  return { ...rest, bytesSent, nextAttempt: next === undefined ? undefined : parseTime(next) }
}

export function disposedToJson({
  result,
  outcome,
  nextAttempt,
}: Disposed): Static<typeof DisposedJson> {
  const next_attempt = nextAttempt === null ? null : new Date(nextAttempt).toISOString()
  return { result, outcome, next_attempt }
}

/** The fields that go with a message here, and with none. */
const OF_MESSAGE = Object.keys(attempt)
const OF_NONE: Record<string, readonly string[]> = {
  rejection: [
    ...['mailfrom', 'rcptto', 'batch_id', 'connection_id', 'size', 'protocol'],
    ...['binding_group', 'binding', 'peer', 'stage', 'note'],
  ],
  authentication: ['connection_id', 'peer', 'user', 'note'],
  administration: ['connection_id', 'peer', 'user', 'note'],
}

/** What is wrong with the fields of a line; null when they go together. */
export function misplaced({ id, type, ...fields }: EventLine): string | null {
  if (id === undefined && OF_NONE[type] === undefined) return `${type} needs an id`
  if (id !== undefined && !(DISPOSITIONS as readonly string[]).includes(type)) {
    return `${type} is of no message and takes no id`
  }
  const allowed = id === undefined ? (OF_NONE[type] ?? []) : OF_MESSAGE
  const wrong = Object.keys(fields).find((name) => !allowed.includes(name))
  return wrong === undefined ? null : `${wrong} does not go with ${type}`
}

/** A line without an id. */
export function freeEventFromJson(line: EventLine): FreeEvent {
  const { batch_id: batchId, connection_id: connectionId, binding_group: bindingGroup } = line
  const { type, mailfrom, rcptto, size, protocol, binding, peer, stage, note, user } = line
  if (type === 'authentication' || type === 'administration') {
    return {
      type,
      ...(connectionId === undefined ? {} : { connectionId }),
      ...(peer === undefined ? {} : { peer }),
      ...(user === undefined ? {} : { user }),
      ...(note === undefined ? {} : { note }),
    }
  }
  const envelope = { mailfrom, rcptto, batchId, connectionId, size, protocol }
  return { type: 'rejection', ...envelope, bindingGroup, binding, peer, stage, note }
}
