/** What request headers ask for: the version it must have (If-Match), and the content type (Accept); and what they send (Content-Type). */
import Type from 'typebox'
import { HttpError } from './problem.js'

export const ifMatch = Type.Optional(Type.String({ description: 'The version it must have' }))

/** The version that If-Match names; undefined when any will do. Throws HttpError 400. */
export function parseIfMatch(header: string | undefined): number | undefined {
  if (header === undefined || header === '*') return undefined
  const match = /^"?(\d+)"?$/.exec(header)
  if (!match)
    throw new HttpError(
      400,
      'INVALID_IF_MATCH',
      'headers.if-match: give the version in quotes, as the ETag has it',
    )
  return Number(match[1])
}

/**
 * Which of the types Accept prefers (RFC 9110, section 12.5.1), the first among equals, and the first
 * when it takes none of them: a wrong type is more use than no answer.
 */
export function preferred<T extends string>(
  header: string | undefined,
  types: readonly [T, ...T[]],
): T {
  if (header === undefined) return types[0]
  const ranges = header.split(',').map((text) => {
    const [range = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase())
    const q = parameters.find((parameter) => parameter.startsWith('q='))
    return { range, quality: q === undefined ? 1 : Number(q.slice(2)) || 0 }
  })
  const qualityOf = (type: string) => {
    const family = `${type.split('/')[0]}/*`
    for (const wanted of [type, family, '*/*']) {
      const found = ranges.find(({ range }) => range === wanted)
      if (found !== undefined) return found.quality
    }
    return 0
  }
  return types.reduce((best, type) => (qualityOf(type) > qualityOf(best) ? type : best), types[0])
}

/** The type that Content-Type names, in lower case and without parameters (RFC 9110, section 8.3.1); empty when there is none. */
export function mediaType(header: string | undefined): string {
  return (header ?? '').split(';', 1)[0]!.trim().toLowerCase()
}
