/**
 * A message's meta as text, JSON or XML. No value can forge another: in text control characters and `\`
 * are escaped, in XML what XML cannot say is base64.
 */
import type { Static } from 'typebox'
import type { Meta } from './schemas.js'

export const META_FORMATS = ['text', 'json', 'xml'] as const
export type MetaFormat = (typeof META_FORMATS)[number]

/** Ends with a newline. */
export function renderMeta(meta: Static<typeof Meta>, format: MetaFormat): string {
  if (format === 'json') return `${JSON.stringify(meta)}\n`
  return format === 'text' ? textOf(meta) : xmlOf(meta)
}

/** One `name: value` a line; what is nested by its path, what is null as `-`. */
function textOf(value: object, prefix = ''): string {
  return Object.entries(value)
    .map(([name, item]) => {
      const path = prefix + escapeText(name)
      if (typeof item === 'object' && item !== null) return textOf(item as object, `${path}.`)
      return `${path}: ${item === null ? '-' : escapeText(String(item))}\n`
    })
    .join('')
}

/** Without control characters, so that no text forges a line, or moves the cursor of a terminal. */
export function escapeText(text: string): string {
  return text.replace(/[\\\p{Cc}\u2028\u2029]/gu, (character) =>
    character === '\\' ? '\\\\' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** An element a field; a dictionary has an `entry` a key; null is `nil="true"`. */
function xmlOf({ id, context, ...fields }: Static<typeof Meta>): string {
  const lines = Object.entries(fields).map(([name, value]) => {
    if (value === null) return `  <${name} nil="true"/>`
    if (typeof value === 'object') return `  <${name}>${xmlText(JSON.stringify(value))}</${name}>`
    return `  ${element(name, '', String(value))}`
  })
  for (const [name, dictionary] of Object.entries(context)) {
    lines.push(`  <context dictionary="${name}">`)
    for (const [key, value] of Object.entries(dictionary)) {
      const attribute = isXml(key)
        ? ` key="${xmlText(key)}"`
        : ` key="${base64(key)}" key-encoding="base64"`
      lines.push(`    ${element('entry', attribute, value)}`)
    }
    lines.push('  </context>')
  }
  return `<?xml version="1.0" encoding="UTF-8"?>\n<message id="${xmlText(id)}">\n${lines.join('\n')}\n</message>\n`
}

function element(name: string, attributes: string, text: string): string {
  return isXml(text)
    ? `<${name}${attributes}>${xmlText(text)}</${name}>`
    : `<${name}${attributes} encoding="base64">${base64(text)}</${name}>`
}

/** XML 1.0, section 2.2. */
function isXml(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what XML cannot say.
  return !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/u.test(text)
}

function xmlText(text: string): string {
  return text.replace(/[&<>"'\t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`)
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
