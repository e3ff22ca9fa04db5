/** Which events are logged, where and how: the settings below `events`, and what the spool makes of them. */
import Type, { type Static, type TProperties } from 'typebox'
import { EVENT_TYPES, EventMacros, type EventOptions, type EventType } from '../spool/index.js'

const strict = { additionalProperties: false, default: {} }
const JOURNAL = '[A-Za-z0-9][A-Za-z0-9._-]{0,127}'
/** Not a journal: such events are not logged. */
const NOWHERE = 'none'

const OWN_JOURNALS: Partial<Record<EventType, string>> = {
  rejection: 'rejectlog',
  import: 'importlog',
  authentication: 'acctlog',
  administration: 'acctlog',
}

function perEvent(
  describe: (type: EventType) => { default: string; description: string; pattern?: string },
) {
  const properties = Object.fromEntries(
    EVENT_TYPES.map((type) => [type, Type.String(describe(type))]),
  ) as Record<EventType, ReturnType<typeof Type.String>>
  return Type.Object(properties satisfies TProperties, strict)
}

const ContextKeys = (dictionary: string) =>
  Type.Array(Type.String({ minLength: 1 }), {
    default: [],
    description: `Keys of the ${dictionary} dictionary that a JSON record carries.`,
  })

export const EventSettings = Type.Object(
  {
    format: Type.Enum(['json', 'ec'], {
      default: 'json',
      description: "Form of the log records: JSON, or Momentum's @-separated lines.",
    }),
    journal: Type.String({
      pattern: `^${JOURNAL}$`,
      default: 'mainlog',
      description: 'Journal that events go to; made on first start.',
    }),
    journals: perEvent((type) => ({
      pattern: `^(${JOURNAL})?$`,
      default: OWN_JOURNALS[type] ?? '',
      description: `Journal for ${type}, made when first needed; empty: events.journal; none: not logged.`,
    })),
    formats: perEvent((type) => ({
      default: '',
      description: `Format of ${type} with macros (docs/events.md); empty: events.format.`,
    })),
    context: Type.Object({ conn: ContextKeys('conn'), mess: ContextKeys('mess') }, strict),
    heartbeat: Type.Number({
      minimum: 0,
      maximum: 86_400,
      default: 0,
      description: 'Seconds between heartbeat records; 0: none. Momentum has 60.',
    }),
    max_backlog: Type.Integer({
      minimum: 1,
      default: 1_000_000,
      description:
        'With more log records waiting for their journal, new messages are refused (503).',
    }),
  },
  strict,
)
type EventSettings = Static<typeof EventSettings>

/** The journal of an event; null: not logged. */
function journalOf({ journal, journals }: EventSettings, type: EventType): string | null {
  const own = journals[type]
  if (own === NOWHERE) return null
  return own === '' ? journal : own
}

/** Every journal that events go to, `events.journal` first. */
export function eventJournals(settings: EventSettings): string[] {
  const names = EVENT_TYPES.map((type) => journalOf(settings, type))
  return [...new Set([settings.journal, ...names.filter((name) => name !== null)])]
}

/** Throws SPOOL_ERR_INVALID for a format with an unknown macro. */
export function eventOptions(settings: EventSettings): EventOptions {
  const journals = new Map(EVENT_TYPES.map((type) => [type, journalOf(settings, type)]))
  const { conn, mess } = settings.context
  const custom = EVENT_TYPES.filter((type) => settings.formats[type] !== '').map(
    (type) => [type, new EventMacros(settings.formats[type])] as const,
  )
  return {
    format: settings.format,
    journalOf: (type) => journals.get(type) ?? null,
    contextKeys: conn.length + mess.length === 0 ? undefined : { conn, mess },
    custom: Object.fromEntries(custom),
  }
}

/** What is wrong with the formats, a line each. */
export function formatProblems({ formats }: EventSettings): string[] {
  return EVENT_TYPES.flatMap((type) => {
    try {
      if (formats[type] !== '') new EventMacros(formats[type])
      return []
    } catch (error) {
      return [`events.formats.${type}: ${(error as Error).message.replace(/^format: /, '')}`]
    }
  })
}
