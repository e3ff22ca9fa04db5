// The lines of the log: fields in their order, and none that another field could forge.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatEvent, type Reception } from '../../spool/events.js'

const CONTEXT = {
  conn: new Map([['helo', 'mx']]),
  mess: new Map([['campaign', '17']]),
}

const RECEPTION: Reception = {
  type: 'reception',
  time: 1_064_868_656_789,
  id: '00/00-25004-31B987F3',
  batchId: '00/00-03736-F4101B54',
  connectionId: '00/00-04532-A3456B54',
  mailfrom: 'info@postalengine.com',
  rcptto: 'bob@example.fict',
  size: 201,
  protocol: 'esmtp',
  bindingGroup: 'default',
  binding: 'default',
  peer: '10.0.1.1',
  context: (dictionary, key) => CONTEXT[dictionary].get(key),
}

const EC = { format: 'ec', journalOf: () => 'mainlog' } as const
const JSON_FORM = { format: 'json', journalOf: () => 'mainlog' } as const

/** Splits an `ec` line as a subscriber does. */
function fieldsOf(line: string): string[] {
  const fields = ['']
  for (let i = 0; i < line.length; i++) {
    if (line[i] === '@') fields.push('')
    else fields.push((fields.pop() as string) + (line[i] === '\\' ? line[++i] : line[i]))
  }
  return fields
}

describe('a reception', () => {
  test('as an ec line is the documented example', () => {
    expect(formatEvent(RECEPTION, EC)).toBe(
      '1064868656@00/00-25004-31B987F3@00/00-03736-F4101B54@00/00-04532-A3456B54@R@bob@example.fict@info@postalengine.com@10.0.1.1@201@esmtp@default@default',
    )
  })

  test('as JSON has the same facts by name', () => {
    const options = { ...JSON_FORM, contextKeys: { conn: ['helo', 'none'], mess: ['campaign'] } }
    expect(JSON.parse(formatEvent(RECEPTION, options))).toEqual({
      type: 'reception',
      time: '2003-09-29T20:50:56.789Z',
      id: RECEPTION.id,
      batch_id: RECEPTION.batchId,
      connection_id: RECEPTION.connectionId,
      mailfrom: RECEPTION.mailfrom,
      rcptto: RECEPTION.rcptto,
      size: 201,
      protocol: 'esmtp',
      binding_group: 'default',
      binding: 'default',
      peer: '10.0.1.1',
      context: { conn: { helo: 'mx' }, mess: { campaign: '17' } },
    })
  })

  test('of any content gives its fields back, whatever is in them', () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.string({ unit: fc.constantFrom('@', '\\', '\n', '\r', '\0', 'a', '\u007f', '\u001b') }),
    )
    fc.assert(
      fc.property(fc.array(text, { minLength: 7, maxLength: 7 }), ([a, b, c, d, e, f, g]) => {
        const event = {
          ...RECEPTION,
          batchId: a!,
          connectionId: b!,
          rcptto: `${c}@${d!.replaceAll('@', '')}`,
          mailfrom: e!.replaceAll('@', ''),
          peer: f!,
          binding: g!,
        }
        const line = formatEvent(event, EC)
        expect(fieldsOf(line)).toEqual([
          '1064868656',
          event.id,
          a,
          b,
          'R',
          c,
          d!.replaceAll('@', ''),
          event.mailfrom,
          '',
          f,
          '201',
          'esmtp',
          'default',
          g,
        ])
        // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not stand there bare.
        expect(line.replace(/\\./gs, '')).not.toMatch(/[\u0000-\u001f\u007f]/)
        const json = formatEvent(event, JSON_FORM)
        expect(json).not.toMatch(/\n/)
        expect(JSON.parse(json)).toMatchObject({ batch_id: a, rcptto: event.rcptto, peer: f })
      }),
      { numRuns: 300 },
    )
  })
})
