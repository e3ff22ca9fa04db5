/** What an import over REST is asked with. */
import Type, { type Static } from 'typebox'
import { IMPORT_FORMATS, type ImportOptions } from '../spool/index.js'

export const ImportRequest = Type.Object(
  {
    path: Type.String({
      minLength: 1,
      description: 'Where the source is: below the setting spool.import_root, or relative to it.',
      examples: ['old-queue'],
    }),
    format: Type.Optional(
      Type.Enum([...IMPORT_FORMATS], { description: 'Told by what is there when not given.' }),
    ),
    concurrency: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 256,
        description: 'Messages at once; 8 when not given.',
      }),
    ),
    mailfrom: Type.Optional(
      Type.String({ description: 'Envelope sender of messages that do not tell theirs.' }),
    ),
    rcptto: Type.Optional(
      Type.Array(Type.String(), {
        minItems: 1,
        description: 'Recipients of messages that do not tell theirs.',
      }),
    ),
    regenerate_ids: Type.Optional(Type.Boolean({ description: 'Give every message a new id.' })),
    suppress_trace: Type.Optional(
      Type.Boolean({ description: 'Put no Received field before the messages.' }),
    ),
    remove: Type.Optional(
      Type.Boolean({ description: 'Take messages out of the source once they are stored here.' }),
    ),
    max_retention: Type.Optional(
      Type.Integer({
        minimum: 0,
        description: 'Seconds that an imported message may stay at most, from when it was made.',
      }),
    ),
    again: Type.Optional(Type.Boolean({ description: 'Also what was imported before.' })),
  },
  { additionalProperties: false },
)

export function importOptions({
  regenerate_ids: regenerateIds,
  suppress_trace: suppressTrace,
  max_retention: maxRetention,
  path: _path,
  ...rest
}: Static<typeof ImportRequest>): ImportOptions {
  return { ...rest, regenerateIds, suppressTrace, maxRetention }
}
