/**
 * The service's settings: one schema, from which come defaults, validation, types and documentation.
 * A setting is taken from the first of: command-line flag, environment (`BOBBIN_` and the setting's path in capitals,
 * as in `BOBBIN_SPOOL_LARGE_MESSAGE_THRESHOLD`), configuration file (TOML), default.
 */
import { readFileSync } from 'node:fs'
import { Ajv, type ErrorObject } from 'ajv'
import { parse as parseToml, TomlError } from 'smol-toml'
import Type, { type Static, type TSchema } from 'typebox'
import { DEFAULT_CONNECTIONS, DEFAULT_HEADER_BYTES, DEFAULT_HEADERS_TIMEOUT } from '../api/index.js'
import { COMPRESSIONS, checkSchedule, type RetrySchedule, SpoolError } from '../spool/index.js'
import { ConfigError } from './config-error.js'
import { EventSettings, formatProblems } from './event-settings.js'
import { ShedSettings } from './shed-settings.js'

const strict = { additionalProperties: false, default: {} }
const MiB = 1024 * 1024

export const ConfigSchema = Type.Object(
  {
    data: Type.String({
      minLength: 1,
      default: './data',
      description: 'Data directory, made on first start.',
    }),
    listen: Type.String({
      pattern: '^(unix:.+|(\\[[0-9a-fA-F:.]+\\]|[^:\\s]+):\\d{1,5})$',
      default: '127.0.0.1:8025',
      description: 'HOST:PORT to take requests on, port 0 takes a free one; or unix:PATH.',
    }),
    log: Type.Object(
      {
        level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
          default: 'info',
          description: 'Least severe log line that is written.',
        }),
        requests: Type.Boolean({
          default: false,
          description: 'A log line for each request, at level info; else at debug.',
        }),
      },
      strict,
    ),
    spool: Type.Object(
      {
        node_name: Type.String({
          minLength: 1,
          default: process.env.EC_NODE_NAME || 'default',
          description: 'Name of this node; EC_NODE_NAME in the environment is its default.',
        }),
        file_mode: Type.String({
          pattern: '^0?[0-7]{3}$',
          default: '0640',
          description: 'Mode of the files of spool and journals, octal.',
        }),
        large_message_threshold: Type.Integer({
          minimum: 16_000,
          maximum: 16 * MiB,
          default: 256 * 1024,
          description: 'A body of more bytes is never held whole in memory.',
        }),
        max_message_size: Type.Integer({
          minimum: 1,
          default: 2048 * MiB,
          description: 'A larger message is refused (413), in bytes.',
        }),
        compression: Type.Enum([...COMPRESSIONS], {
          default: 'none',
          description: 'How bodies that come are compressed: none or deflate; all are read always.',
        }),
        compression_min_size: Type.Integer({
          minimum: 0,
          default: 4096,
          description: 'Bodies of fewer bytes are not compressed.',
        }),
        min_free: Type.Integer({
          minimum: 0,
          default: 64 * MiB,
          description:
            'With fewer bytes free on its disk no messages are taken (503); 0: always taken.',
        }),
        resume_free: Type.Integer({
          minimum: 0,
          default: 128 * MiB,
          description: 'With so many bytes free messages are taken again.',
        }),
        backup_root: Type.String({
          default: '',
          description:
            'Directory that backups asked for over REST are made in; empty: none are made.',
        }),
        import_root: Type.String({
          default: '',
          description:
            'Directory that imports asked for over REST are taken from; empty: none are taken.',
        }),
        unlink_on_spool_in_failure: Type.Boolean({
          default: true,
          description:
            'A message that cannot be read is moved to quarantine; else left where it is.',
        }),
        unsafe_spooling: Type.Boolean({
          default: false,
          description: 'Whether messages may ask to be deferred: kept in memory, lost in a crash.',
        }),
        suppress_retries: Type.Integer({
          minimum: 1,
          default: 1,
          description: 'Failures with which a deferred message is spooled.',
        }),
        max_resident_messages: Type.Integer({
          minimum: 1,
          maximum: 1_000_000,
          default: 10_000,
          description: 'Deferred messages at once; beyond, the oldest are spooled.',
        }),
        max_resident_bytes: Type.Integer({
          minimum: 0,
          default: 64 * MiB,
          description: 'Memory that deferred messages take; beyond, the oldest are spooled.',
        }),
        max_retention: Type.Integer({
          minimum: 0,
          maximum: 10 * 366 * 86_400,
          default: 0,
          description: 'Seconds a message may stay that has no retention of its own; 0: for ever.',
        }),
        idempotency_seconds: Type.Number({
          exclusiveMinimum: 0,
          maximum: 366 * 86_400,
          default: 86_400,
          description: 'How long an Idempotency-Key is kept with its answer.',
        }),
        idempotency_keys: Type.Integer({
          minimum: 0,
          default: 10_000_000,
          description: 'Idempotency keys kept at once; a further one is refused (503).',
        }),
        context_key_bytes: Type.Integer({
          minimum: 1,
          maximum: 320,
          default: 255,
          description: "Longest key of a message's dictionaries, in bytes of UTF-8.",
        }),
        context_bytes: Type.Integer({
          minimum: 0,
          maximum: 16 * MiB,
          default: 64 * 1024,
          description: 'Both dictionaries of a message, keys and values, in bytes of UTF-8.',
        }),
      },
      strict,
    ),
    events: EventSettings,
    retry: Type.Object(
      {
        delays: Type.Array(Type.Number({ exclusiveMinimum: 0 }), {
          default: [],
          description:
            'Seconds before each retry, the last repeated; empty: base, factor and max say.',
        }),
        base: Type.Number({
          exclusiveMinimum: 0,
          default: 300,
          description: 'Seconds before the first retry.',
        }),
        factor: Type.Number({
          minimum: 1,
          default: 2,
          description: 'By which each delay is longer than the one before.',
        }),
        max: Type.Number({
          exclusiveMinimum: 0,
          default: 14_400,
          description: 'Longest delay, in seconds.',
        }),
        max_retries: Type.Integer({
          minimum: -1,
          default: -1,
          description: 'Retries after the first attempt; then the message fails. -1: no limit.',
        }),
        message_expiration: Type.Number({
          minimum: 0,
          default: 432_000,
          description:
            'Seconds since reception after which a transient failure is final; 0: never.',
        }),
        never_retry: Type.Boolean({
          default: false,
          description: 'The first transient failure is final.',
        }),
      },
      strict,
    ),
    limits: Type.Object(
      {
        json_bytes: Type.Integer({
          minimum: 1024,
          maximum: 512 * MiB,
          default: 32 * MiB,
          description:
            'A larger JSON or record body is refused (413); stream larger mail as message/rfc822.',
        }),
        recipients: Type.Integer({
          minimum: 1,
          maximum: 100_000,
          default: 10_000,
          description: 'Recipients in one injection, or in one batch together.',
        }),
        batch: Type.Integer({
          minimum: 1,
          maximum: 100_000,
          default: 10_000,
          description: 'Messages in one batch.',
        }),
        tails: Type.Integer({
          minimum: 0,
          default: 1000,
          description: 'Event streams and long polls open at once; one more is refused (429).',
        }),
        journals: Type.Integer({
          minimum: 0,
          default: 1000,
          description: 'Journals made over REST; one more is refused (422).',
        }),
        subscribers: Type.Integer({
          minimum: 0,
          default: 1000,
          description: 'Subscribers of a journal; one more is refused over REST (422).',
        }),
        connections: Type.Integer({
          minimum: 1,
          default: DEFAULT_CONNECTIONS,
          description: 'Connections at once; those beyond are closed unanswered.',
        }),
        rate: Type.Integer({
          minimum: 0,
          default: 0,
          description:
            'Requests of a token, or of an address without one, in each rate_window; one more is refused (429). 0: any number.',
        }),
        rate_window: Type.Number({
          minimum: 0.1,
          maximum: 86_400,
          default: 1,
          description: 'Seconds that rate counts over.',
        }),
        header_bytes: Type.Integer({
          minimum: 8192,
          maximum: 16 * MiB,
          default: DEFAULT_HEADER_BYTES,
          description: 'Request line with headers; larger ones are refused (431).',
        }),
        headers_timeout: Type.Number({
          minimum: 0.1,
          maximum: 3600,
          default: DEFAULT_HEADERS_TIMEOUT / 1000,
          description: 'Seconds in which request line and headers must have arrived (408).',
        }),
        idle_timeout: Type.Number({
          minimum: 0,
          maximum: 86_400,
          default: 600,
          description:
            'Seconds that a connection on which nothing moves is kept, an answer that is not read included; 0: for ever.',
        }),
        request_timeout: Type.Number({
          minimum: 0,
          default: 300,
          description: 'Seconds in which a request must have arrived whole; 0 waits for ever.',
        }),
      },
      strict,
    ),
    security: Type.Object(
      {
        token_file: Type.String({
          default: '',
          description:
            'File of the tokens that callers must have; empty, and no tokens: none is asked for.',
        }),
        tokens: Type.Array(Type.String(), {
          default: [],
          description: 'Tokens beside those of the file, as NAME:SCOPE+SCOPE:sha256:HEX.',
        }),
        insecure_listen: Type.Boolean({
          default: false,
          description: 'Listen beyond this machine without tokens or without TLS.',
        }),
        socket_mode: Type.String({
          pattern: '^0?[0-7]{3}$',
          default: '0660',
          description: 'Mode of a Unix socket that is listened on, octal.',
        }),
        tls: Type.Object(
          {
            cert: Type.String({
              default: '',
              description:
                'Certificate of the service with its chain, a file in PEM; empty: no TLS.',
            }),
            key: Type.String({ default: '', description: 'Its private key, a file in PEM.' }),
            client_ca: Type.String({
              default: '',
              description:
                'Authorities, a file in PEM, whose certificates callers must have; empty: none is asked for.',
            }),
            min_version: Type.Enum(['TLSv1.2', 'TLSv1.3'], {
              default: 'TLSv1.2',
              description: 'Oldest TLS that is spoken.',
            }),
          },
          strict,
        ),
      },
      strict,
    ),
    shed: ShedSettings,
    shutdown: Type.Object(
      {
        grace: Type.Number({
          minimum: 0,
          default: 10,
          description:
            'Seconds that requests under way are given to finish before connections are cut.',
        }),
      },
      strict,
    ),
  },
  { additionalProperties: false },
)

export type Config = Static<typeof ConfigSchema>

/** One setting, as documentation and the environment know it. */
export interface Setting {
  /** Dotted path in the file, as in `spool.node_name`. */
  readonly path: string
  readonly env: string
  readonly schema: TSchema & { type?: string; default?: unknown; description?: string }
}

export const SETTINGS: readonly Setting[] = listSettings(ConfigSchema, [])

export interface ConfigSources {
  /** Path of a TOML file. */
  readonly file?: string | undefined
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Dotted path to text; what the command line gave. */
  readonly flags?: Readonly<Record<string, string | undefined>>
}

/**
 * Reads and checks the settings.
 * @throws ConfigError naming each setting that is wrong, where it came from and what it takes
 */
export function loadConfig({ file, env = process.env, flags = {} }: ConfigSources = {}): Config {
  const values = file === undefined ? {} : readConfigFile(file)
  const origin = new Map<string, string>()
  for (const setting of SETTINGS) {
    const given = flags[setting.path] ?? env[setting.env]
    if (given === undefined) continue
    origin.set(setting.path, flags[setting.path] === undefined ? setting.env : 'command line')
    assign(values, setting.path, fromText(given, setting.schema))
  }
  checkUnknownEnvironment(env)
  const fits = new Ajv({ useDefaults: true, allErrors: true, strict: false }).compile<Config>(
    ConfigSchema,
  )
  const problems = fits(values)
    ? unworkable(values)
    : describeErrors(fits.errors ?? [], values, (path) => origin.get(path) ?? file ?? 'default')
  if (problems.length > 0) throw new ConfigError(problems.join('; '))
  return values as Config
}

/** When a message is tried again. */
export function retrySchedule({ retry }: Config): RetrySchedule {
  const { delays, base, factor, max, max_retries, message_expiration, never_retry } = retry
  return {
    delays: delays.length > 0 ? delays : { base, factor, max },
    maxRetries: max_retries < 0 ? null : max_retries,
    messageExpiration: message_expiration === 0 ? null : message_expiration,
    neverRetry: never_retry,
  }
}

/** What no schema can say. */
function unworkable(config: Config): string[] {
  const problems = formatProblems(config.events)
  try {
    checkSchedule(retrySchedule(config))
  } catch (error) {
    if (!(error instanceof SpoolError)) throw error
    problems.push(error.message)
  }
  return problems
}

/** Splits HOST:PORT; the brackets of an IPv6 address go. */
export function parseListen(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(':')
  const port = Number(listen.slice(colon + 1))
  if (port > 65535) throw new ConfigError(`listen: port ${port} is over 65535`)
  return { host: listen.slice(0, colon).replace(/^\[|\]$/g, ''), port }
}

function readConfigFile(file: string): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    throw new ConfigError(
      `cannot read the configuration file ${file}: ${(cause as Error).message}`,
      { cause },
    )
  }
  try {
    return parseToml(text)
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause
    const reason = cause.message.split('\n')[0]
    throw new ConfigError(`${file}:${cause.line}:${cause.column}: ${reason}`, { cause })
  }
}

function listSettings(schema: TSchema, path: readonly string[]): Setting[] {
  const properties = (schema as { properties?: Record<string, TSchema> }).properties
  if (properties === undefined) {
    return [{ path: path.join('.'), env: `BOBBIN_${path.join('_').toUpperCase()}`, schema }]
  }
  return Object.entries(properties).flatMap(([name, child]) => listSettings(child, [...path, name]))
}

/** Read by commands; no settings. */
const OF_COMMANDS = ['BOBBIN_CONFIG', 'BOBBIN_URL', 'BOBBIN_TOKEN', 'BOBBIN_TOKEN_FILE']

function fromText(text: string, schema: Setting['schema']): unknown {
  if (schema.type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text
  if (schema.type === 'array') {
    const items = (schema as { items?: Setting['schema'] }).items ?? {}
    return text === ''
      ? []
      : text.split(',').map((item) => fromText(item.trim(), items as Setting['schema']))
  }
  const isNumber = schema.type === 'integer' || schema.type === 'number'
  return isNumber && text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text
}

function assign(values: Record<string, unknown>, path: string, value: unknown): void {
  const names = path.split('.')
  let at = values
  for (const name of names.slice(0, -1)) {
    if (typeof at[name] !== 'object' || at[name] === null) at[name] = {}
    at = at[name] as Record<string, unknown>
  }
  at[names.at(-1)!] = value
}

/** A misspelt variable must not be silently without effect. */
function checkUnknownEnvironment(env: Readonly<Record<string, string | undefined>>): void {
  const known = new Set(SETTINGS.map((setting) => setting.env))
  const unknown = Object.keys(env).filter(
    (name) => name.startsWith('BOBBIN_') && !OF_COMMANDS.includes(name) && !known.has(name),
  )
  if (unknown.length > 0)
    throw new ConfigError(`unknown setting in the environment: ${unknown.join(', ')}`)
}

function describeErrors(
  errors: readonly ErrorObject[],
  config: unknown,
  originOf: (path: string) => string,
): string[] {
  const problems = new Map<string, string>()
  for (const { keyword, instancePath, message, params } of errors) {
    const at = instancePath.slice(1).replaceAll('/', '.')
    if (keyword === 'additionalProperties') {
      const { additionalProperty: name } = params as { additionalProperty: string }
      const path = at === '' ? name : `${at}.${name}`
      problems.set(path, `${path}: unknown setting (${originOf(path)})`)
      continue
    }
    if (problems.has(at)) continue
    const wants =
      keyword === 'enum'
        ? `must be one of ${(params as { allowedValues: string[] }).allowedValues.join(', ')}`
        : message
    const value = at
      .split('.')
      .reduce<unknown>((of, name) => (of as Record<string, unknown>)?.[name], config)
    // A token may stand there in place of its hash.
    const is = at.startsWith('security.tokens') ? '' : `, is ${JSON.stringify(value)}`
    problems.set(at, `${at}: ${wants}${is} (${originOf(at)})`)
  }
  return [...problems.values()]
}
