/**
 * What the header block of a part says of it: type, charset, encoding, disposition, file name. Fields are
 * taken in a line at a time, of bounded size; what cannot be read is a defect and has the default that
 * RFC 2045 gives.
 */
import libmime from 'libmime'

/** Of a field's value so much is looked at. */
export const MAX_FIELD_BYTES = 64 * 1024
/** A name is looked for in so many bytes. */
const MAX_NAME_BYTES = 256

export type HeaderDefect =
  | 'malformed-field-name'
  | 'duplicate-field'
  | 'field-too-long'
  | 'malformed-content-type'
  | 'malformed-content-disposition'
  | 'unknown-encoding'

const WANTED = ['content-type', 'content-transfer-encoding', 'content-disposition'] as const
type Wanted = (typeof WANTED)[number]

const ENCODINGS = new Set(['7bit', '8bit', 'binary', 'quoted-printable', 'base64'])

/** What a part says of itself, in lower case but for the file name and the boundary. */
export interface PartHeader {
  readonly type: string
  readonly charset: string | null
  /** Content-Transfer-Encoding; `7bit` when there is none. */
  readonly encoding: string
  readonly disposition: string | null
  readonly filename: string | null
  readonly boundary: string | null
}

export class PartHeaderReader {
  readonly #fields = new Map<Wanted, { text: string; isCut: boolean }>()
  readonly #report: (defect: HeaderDefect) => void
  #current: Wanted | null = null

  constructor(report: (defect: HeaderDefect) => void) {
    this.#report = report
  }

  /**
   * Takes a line without its end; `isCut` when it was longer.
   * @returns false when it is no header line: then the header ended before it
   */
  take(line: Buffer, isCut: boolean): boolean {
    const first = line[0]
    if (first === 0x20 || first === 0x09) {
      this.#append(line, isCut)
      return true
    }
    const colon = line.subarray(0, MAX_NAME_BYTES).indexOf(0x3a)
    if (colon <= 0) return false
    const name = line.toString('latin1', 0, colon).trimEnd().toLowerCase()
    if (!/^[\x21-\x7e][\x20-\x7e]*$/.test(name)) return false
    if (name.includes(' ')) this.#report('malformed-field-name')
    this.#current = null
    const wanted = WANTED.find((wanted) => wanted === name)
    if (wanted === undefined) return true
    if (this.#fields.has(wanted)) {
      this.#report('duplicate-field')
      return true
    }
    this.#current = wanted
    this.#fields.set(wanted, { text: '', isCut: false })
    this.#append(line.subarray(colon + 1), isCut)
    return true
  }

  /** At the end of the header. `defaultType`: of a part that gives none. */
  finish(defaultType: string): PartHeader {
    for (const { isCut } of this.#fields.values()) if (isCut) this.#report('field-too-long')
    const { value, params } = this.#structured('content-type', 'malformed-content-type')
    let type = defaultType
    if (value !== null) {
      type = value.toLowerCase().replace(/\s/g, '')
      if (!/^[^\s/;]+\/[^\s/;]+$/.test(type)) {
        this.#report('malformed-content-type')
        type = 'text/plain'
      }
    }
    const disposition = this.#structured('content-disposition', 'malformed-content-disposition')
    const filename = disposition.params.filename || params.name || null
    return {
      type,
      charset: params.charset?.toLowerCase() || null,
      encoding: this.#encoding(),
      disposition: disposition.value?.toLowerCase() || null,
      filename: filename === null ? null : decodeWords(filename),
      boundary: params.boundary || null,
    }
  }

  #append(bytes: Buffer, isCut: boolean): void {
    const field = this.#current === null ? undefined : this.#fields.get(this.#current)
    if (field === undefined) return
    const room = MAX_FIELD_BYTES - field.text.length
    // Unfolded (RFC 5322, section 2.2.3): the line end went, the white space stays.
    field.text += decodeText(bytes.subarray(0, room))
    field.isCut ||= isCut || bytes.length > room
  }

  #structured(
    name: Wanted,
    defect: HeaderDefect,
  ): { value: string | null; params: Record<string, string | undefined> } {
    const field = this.#fields.get(name)
    if (field === undefined) return { value: null, params: {} }
    try {
      // libmime keeps parameters in an object that has a prototype, which is not to be written to.
      const { value, params } = libmime.parseHeaderValue(field.text.replace(/__proto__/gi, '_'))
      if (value === false || value === '') this.#report(defect)
      const own = Object.entries(params).filter(([, given]) => typeof given === 'string')
      return { value: value || '', params: Object.fromEntries(own) }
    } catch {
      this.#report(defect)
      return { value: field.text.split(';', 1)[0]?.trim() ?? '', params: {} }
    }
  }

  #encoding(): string {
    const field = this.#fields.get('content-transfer-encoding')
    if (field === undefined) return '7bit'
    const encoding = field.text
      .replace(/\([^()]*\)/g, '')
      .trim()
      .toLowerCase()
    if (!ENCODINGS.has(encoding)) this.#report('unknown-encoding')
    return encoding.slice(0, 255) || '7bit'
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Raw 8-bit is UTF-8 when it can be (RFC 6532), else each byte a character. */
function decodeText(bytes: Buffer): string {
  try {
    return utf8.decode(bytes)
  } catch {
    return bytes.toString('latin1')
  }
}

function decodeWords(text: string): string {
  try {
    return libmime.decodeWords(text)
  } catch {
    return text // a charset that nobody knows
  }
}
