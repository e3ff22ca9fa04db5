// Every type of event in every form: fields in their order, and none that another could forge.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EventMacros } from '../../spool/event-macros.js'
import { formatEvent, type LogEvent, type MessageEvent } from '../../spool/events.js'

const EC = { format: 'ec', journalOf: () => 'mainlog' } as const
const JSON_FORM = { format: 'json', journalOf: () => 'mainlog' } as const

const EVENT: MessageEvent = {
  type: 'delivery',
  time: 1_064_871_280_500,
  id: '20/00-25593-945A87F3',
  batchId: '00/00-03736-F4101B54',
  connectionId: '00/00-04532-A3456B54',
  mailfrom: 'info@example.fict',
  rcptto: 'Bob@PostalEngine.com',
  size: 266,
  protocol: 'esmtp',
  bindingGroup: 'group-a',
  binding: 'binding-a',
  peer: '10.0.0.1',
  retries: 0,
  age: 0.3934,
  domain: 'postalengine.com',
  stage: 15,
  bytesSent: 31,
  note: '421 no adequate servers',
  context: (dictionary, key) => (dictionary === 'mess' && key === 'customer' ? '17' : undefined),
}
const HEAD = '1064871280@20/00-25593-945A87F3@00/00-03736-F4101B54@00/00-04532-A3456B54'

describe('as an ec line', () => {
  test.each<[LogEvent, string]>([
    [EVENT, `${HEAD}@D@postalengine.com@266@group-a@binding-a@0@0.393@10.0.0.1`],
    [
      { ...EVENT, type: 'transfer' },
      `${HEAD}@X@postalengine.com@266@group-a@binding-a@0@0.393@10.0.0.1`,
    ],
    [
      { ...EVENT, type: 'transient_failure' },
      `${HEAD}@T@postalengine.com@31@group-a@binding-a@15@0@0.393@10.0.0.1@421 no adequate servers`,
    ],
    [
      { ...EVENT, type: 'permanent_failure', retries: 1 },
      `${HEAD}@P@postalengine.com@31@group-a@binding-a@15@1@0.393@10.0.0.1@421 no adequate servers`,
    ],
    [
      { type: 'import', time: 1000, originalId: 'a', id: 'b', result: 3, source: '/var/spool' },
      '1@a@I@b@3@/var/spool',
    ],
    [{ type: 'heartbeat', time: 1_251_470_342_999 }, '1251470342@@@@M'],
  ])('%#', (event, line) => {
    expect(formatEvent(event, EC)).toBe(line)
  })
})

const text = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string({ unit: fc.constantFrom('@', '\\', '\n', '\r', '\0', ' ', ':', 'D', '\u007f') }),
)
const types = ['delivery', 'transfer', 'transient_failure', 'permanent_failure'] as const
const events: fc.Arbitrary<LogEvent> = fc.oneof(
  fc
    .record({
      type: fc.constantFrom(
        ...types,
        'attempt' as const,
        'expiration' as const,
        'rejection' as const,
      ),
      batchId: text,
      connectionId: text,
      mailfrom: text,
      rcptto: text,
      protocol: text,
      bindingGroup: text,
      binding: text,
      peer: text,
      domain: text,
      note: text,
    })
    .map((given) => ({ ...EVENT, ...given })),
  fc
    .record({ originalId: text, id: text, source: text })
    .map((given) => ({ type: 'import' as const, time: 5000, result: 1 as const, ...given })),
  fc
    .record({ connectionId: text, peer: text, user: text, note: text })
    .map((given) => ({ type: 'authentication' as const, time: 5000, ...given })),
)

/** Fields as a subscriber splits them. */
function fieldsOf(line: string, separator: string): string[] {
  const fields = ['']
  for (let i = 0; i < line.length; i++) {
    if (line[i] === separator) fields.push('')
    else fields.push((fields.pop() as string) + (line[i] === '\\' ? line[++i] : line[i]))
  }
  return fields
}

const COUNTS: Partial<Record<LogEvent['type'], number>> = {
  delivery: 12,
  transfer: 12,
  attempt: 12,
  transient_failure: 14,
  permanent_failure: 14,
  expiration: 14,
  rejection: 16,
  import: 6,
  authentication: 8,
}

test('no field of any content makes another field or line', () => {
  fc.assert(
    fc.property(events, (event) => {
      const line = formatEvent(event, EC)
      const fields = fieldsOf(line, '@')
      expect(fields).toHaveLength(COUNTS[event.type]!)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not stand there bare.
      expect(line.replace(/\\./gs, '')).not.toMatch(/[\u0000-\u001f\u007f]/)
      if ('note' in event && event.type !== 'attempt' && fields.length >= 14) {
        expect(fields.at(-1)).toBe(event.note)
      }
      const json = formatEvent(event, JSON_FORM)
      expect(json).not.toMatch(/\n/)
      const parsed = JSON.parse(json) as Record<string, unknown>
      expect(parsed.type).toBe(event.type)
      if ('peer' in event) expect(parsed.peer).toBe(event.peer)
    }),
    { numRuns: 500 },
  )
})

describe('a format with macros', () => {
  const expand = (format: string, event: LogEvent = EVENT) => new EventMacros(format).format(event)

  test.each([
    ['%t %r@%R', '1064871280 Bob@PostalEngine.com'],
    [
      '%t@%i@%BI@%CI@D@%d@%B@%g@%b@%N@%T{3}@%H',
      `${HEAD}@D@postalengine.com@266@group-a@binding-a@0@0.393@10.0.0.1`,
    ],
    ['%m|%M|%p|%S|%s|%T', 'info|example.fict|esmtp|15|STARTTLS|0.39'],
    ['%vctx_mess{customer}:%vctx_conn{customer}:%vctx_mess{none}', '17::'],
    ['%us{3} %us{6} 100%%', '1064871280.500 1064871280.500000 100%'],
    ['%t{%Y-%m-%d %H:%M:%S %j %a %b}', '2003-09-29 21\\:34\\:40 272 Mon Sep'.replaceAll('\\', '')],
    ['%RI', 'PostalEngine.comI'],
  ])('%s', (format, line) => {
    expect(expand(format)).toBe(line)
  })

  test('gives nothing for what an event does not have', () => {
    expect(expand('%t;%i;%r;%n;%vctx_mess{a}', { type: 'heartbeat', time: 5000 })).toBe('5;;;;')
  })

  test('escapes what its values have of its separators', () => {
    const event = { ...EVENT, note: 'a;b\\c\nd@e' }
    expect(expand('%i;%n', event)).toBe(`${EVENT.id};a\\;b\\\\c\\\nd@e`)
  })

  test('lets no value forge a field or a line', () => {
    fc.assert(
      fc.property(fc.array(text, { minLength: 3, maxLength: 3 }), ([peer, note, binding]) => {
        const event = { ...EVENT, peer: peer!, note: note!, binding: binding! }
        expect(fieldsOf(expand('%H:%n:%b', event), ':')).toEqual([peer, note, binding])
      }),
    )
  })

  test.each([
    ['', /empty/],
    ['%q', /no macro %q \(at character 1\)/],
    ['%t@%vctx_mess', /no macro %vctx_mess /],
    ['%t@%vctx_mess{}', /no key/],
    ['%i %h{Subject}', /no macro %h\{Subject\} \(at character 4\)/],
    ['%T{9}', /decimal places/],
    ['%t{%Q}', /no %Q/],
    ['100%', /no macro %/],
  ])('is refused when it is %j', (format, message) => {
    expect(() => new EventMacros(format)).toThrow(message)
  })
})
