/**
 * The MIME structure of a message (RFC 2045, 2046): a tree of parts with where each lies, read from the
 * body as it streams by, in memory that its parts bound and in one pass. Whatever the bytes are, there is
 * a tree: what is wrong is told as defects beside it.
 */
import {
  type HeaderDefect,
  MAX_FIELD_BYTES,
  type PartHeader,
  PartHeaderReader,
} from './mime-header.js'

const MAX_PARTS = 10_000
const MAX_DEPTH = 100
const MAX_DEFECTS = 1000
/** A boundary has up to 70 characters (RFC 2046, section 5.1.1); many write longer ones. */
const MAX_BOUNDARY_BYTES = 1000
const MAX_DELIMITER_BYTES = MAX_BOUNDARY_BYTES + 256

const LF = 0x0a
const CR = 0x0d
const DASH = 0x2d

export type DefectName =
  | HeaderDefect
  /** The header goes over into the body without an empty line. */
  | 'header-not-ended'
  | 'boundary-missing'
  /** A multipart without any part. */
  | 'boundary-never-came'
  | 'boundary-not-closed'
  /** A multipart or message with an encoding that hides its parts or may not stand there. */
  | 'composite-encoded'
  | 'too-deep'
  | 'too-many-parts'
  /** There are more than are listed. */
  | 'more-defects'

export interface MimeDefect {
  readonly defect: DefectName
  /** Of the part that has it. */
  readonly path: string
  /** In the message, near where it was seen. */
  readonly offset: number
}

/** Offsets and lengths are bytes of the message. */
export interface MimePart extends Omit<PartHeader, 'boundary'> {
  /** `1` the message, `1.2` its second part, and so on; a message in a message is its part 1. */
  readonly path: string
  readonly headerOffset: number
  /** Without the empty line. */
  readonly headerLength: number
  /** Of the part's body, as it stands, encoded. */
  readonly offset: number
  readonly length: number
  readonly parts: readonly MimePart[]
}

export interface MimeStructure {
  readonly root: MimePart
  readonly defects: readonly MimeDefect[]
}

/** A part whose end has not come. */
interface OpenPart {
  part: { -readonly [K in keyof MimePart]: MimePart[K] } & { parts: OpenPart['part'][] }
  header: PartHeaderReader | null
  readonly defaultType: string
  /** Of a multipart whose closing delimiter has not come. */
  boundary: string | null
}

export class MimeScanner {
  readonly #root: OpenPart
  readonly #defects: MimeDefect[] = []
  /** From the root to the innermost open part. */
  readonly #open: OpenPart[] = []
  /** Depths that wait for a boundary, innermost last. */
  readonly #boundaries = new Map<string, number[]>()
  #count = 0
  /** Bytes taken in. */
  #size = 0
  #lineStart = 0
  /** Length of the line end before the line. */
  #lineEnd = 0
  #kept: Buffer[] = []
  #keptBytes = 0
  /** Nothing in the rest of the line matters. */
  #skipping = false
  #lastByte = 0

  constructor() {
    this.#root = this.#begin(null, 'text/plain', 0)
  }

  /** Where the message's header ends; undefined until that is known. */
  get headerLength(): number | undefined {
    return this.#root.header === null ? this.#root.part.headerLength : undefined
  }

  push(piece: Uint8Array): void {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    for (let at = 0; at < bytes.length; ) {
      const lf = bytes.indexOf(LF, at)
      const end = lf < 0 ? bytes.length : lf + 1
      this.#take(bytes, at, end, lf >= 0)
      at = end
    }
  }

  /** After the last byte. */
  finish(): MimeStructure {
    if (this.#size > this.#lineStart) this.#line(0)
    this.#lineStart = this.#size
    this.#lineEnd = 0
    this.#close(0)
    return { root: this.#root.part, defects: this.#defects }
  }

  #take(bytes: Buffer, from: number, to: number, isEnded: boolean): void {
    const atLineStart = this.#size === this.#lineStart
    if (atLineStart) this.#skipping = this.#top.header === null && !mayDelimit(bytes, from, to)
    this.#size += to - from
    if (!this.#skipping) this.#keep(bytes, from, to)
    const before = to - from > 1 ? bytes[to - 2] : this.#lastByte
    this.#lastByte = bytes[to - 1] as number
    if (!isEnded) return
    const lineEnd = before === CR && this.#size - this.#lineStart > 1 ? 2 : 1
    this.#line(lineEnd)
    this.#lineStart = this.#size
    this.#lineEnd = lineEnd
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    const most = this.#top.header === null ? MAX_DELIMITER_BYTES : MAX_FIELD_BYTES
    const end = Math.min(to, from + most - this.#keptBytes)
    if (end <= from) return
    this.#kept.push(bytes.subarray(from, end))
    this.#keptBytes += end - from
  }

  /** A whole line; `lineEnd` the length of its end. */
  #line(lineEnd: number): void {
    const kept = this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept)
    const length = this.#size - this.#lineStart - lineEnd
    this.#kept = []
    this.#keptBytes = 0
    if (this.#skipping) return
    const line = kept.subarray(0, Math.min(length, kept.length))
    const isCut = length > line.length
    if (!isCut && this.#delimiter(line)) return
    const top = this.#top
    if (top.header === null) return
    if (length === 0) this.#endHeader(top, this.#size)
    else if (!top.header.take(line, isCut)) {
      // An mbox line before the header is of no harm.
      if (this.#lineStart === top.part.headerOffset && line.subarray(0, 5).equals(MBOX_FROM)) return
      this.#defect('header-not-ended', top)
      this.#endHeader(top, this.#lineStart)
    }
  }

  /** Whether the line is a delimiter of an open multipart; then its parts within end here. */
  #delimiter(line: Buffer): boolean {
    if (this.#boundaries.size === 0 || line[0] !== DASH || line[1] !== DASH) return false
    const text = line.toString('latin1', 2).trimEnd()
    let depth = this.#boundaries.get(text)?.at(-1)
    const isLast = depth === undefined && text.endsWith('--')
    if (isLast) depth = this.#boundaries.get(text.slice(0, -2))?.at(-1)
    if (depth === undefined) return false
    this.#close(depth + 1)
    const parent = this.#open[depth] as OpenPart
    if (isLast) this.#forget(parent)
    else if (this.#count >= MAX_PARTS) {
      this.#defect('too-many-parts', parent)
      this.#forget(parent)
    } else {
      const type = parent.part.type === 'multipart/digest' ? 'message/rfc822' : 'text/plain'
      this.#begin(parent, type, this.#size)
    }
    return true
  }

  #begin(parent: OpenPart | null, defaultType: string, at: number): OpenPart {
    this.#count++
    const path = parent === null ? '1' : `${parent.part.path}.${parent.part.parts.length + 1}`
    const open: OpenPart = {
      part: {
        path,
        type: defaultType,
        charset: null,
        encoding: '7bit',
        disposition: null,
        filename: null,
        headerOffset: at,
        headerLength: 0,
        offset: at,
        length: 0,
        parts: [],
      },
      header: new PartHeaderReader((defect) => this.#defect(defect, open)),
      defaultType,
      boundary: null,
    }
    parent?.part.parts.push(open.part)
    this.#open.push(open)
    return open
  }

  /** The header ended before the line; the body begins at `bodyAt`. */
  #endHeader(open: OpenPart, bodyAt: number): void {
    const { boundary, ...header } = (open.header as PartHeaderReader).finish(open.defaultType)
    Object.assign(open.part, header)
    open.header = null
    open.part.headerLength = this.#lineStart - open.part.headerOffset
    open.part.offset = bodyAt
    const { type, encoding } = open.part
    const isMultipart = type.startsWith('multipart/')
    const isMessage = type === 'message/rfc822' || type === 'message/global'
    if (!isMultipart && !isMessage) return
    const isEncoded = encoding === 'base64' || encoding === 'quoted-printable'
    if (isEncoded) this.#defect('composite-encoded', open)
    if (isMultipart && boundary === null) this.#defect('boundary-missing', open)
    else if (this.#open.length >= MAX_DEPTH) this.#defect('too-deep', open)
    else if (this.#count >= MAX_PARTS) this.#defect('too-many-parts', open)
    else if (isMultipart) this.#await(open, boundary as string)
    else if (!isEncoded) this.#begin(open, 'text/plain', bodyAt)
  }

  #await(open: OpenPart, boundary: string): void {
    // As the bytes stand in the line, whatever their charset; RFC 2046 lets none end in white space.
    open.boundary = Buffer.from(boundary).toString('latin1').trimEnd()
    const depths = this.#boundaries.get(open.boundary)
    const depth = this.#open.length - 1
    if (depths === undefined) this.#boundaries.set(open.boundary, [depth])
    else depths.push(depth)
  }

  /** The multipart has no more parts. */
  #forget(open: OpenPart): void {
    if (open.boundary === null) return
    const depths = this.#boundaries.get(open.boundary) as number[]
    depths.pop()
    if (depths.length === 0) this.#boundaries.delete(open.boundary)
    open.boundary = null
  }

  /** Ends the open parts from this depth on; the line end before the line is the delimiter's. */
  #close(depth: number): void {
    while (this.#open.length > depth) {
      const open = this.#top
      if (open.header !== null) {
        // The root's may just end; a part's must be told from its body.
        if (open !== this.#root) this.#defect('header-not-ended', open)
        this.#endHeader(open, this.#lineStart)
        continue
      }
      const { part, boundary } = open
      const last = part.parts.at(-1)
      const lastEnd = last === undefined ? part.offset : last.offset + last.length
      part.length = Math.max(lastEnd, this.#lineStart - this.#lineEnd) - part.offset
      if (boundary !== null) {
        this.#defect(part.parts.length === 0 ? 'boundary-never-came' : 'boundary-not-closed', open)
        this.#forget(open)
      }
      this.#open.pop()
    }
  }

  #defect(defect: DefectName, { part: { path } }: OpenPart): void {
    if (this.#defects.length > MAX_DEFECTS) return
    const name = this.#defects.length === MAX_DEFECTS ? 'more-defects' : defect
    this.#defects.push({ defect: name, path, offset: this.#lineStart })
  }

  get #top(): OpenPart {
    return this.#open.at(-1) as OpenPart
  }
}

const MBOX_FROM = Buffer.from('From ')

/** Whether a line that begins so may be a delimiter. */
function mayDelimit(bytes: Buffer, from: number, to: number): boolean {
  return bytes[from] === DASH && (to - from < 2 || bytes[from + 1] === DASH)
}

/** Reads it all. */
export async function scanMime(source: AsyncIterable<Uint8Array>): Promise<MimeStructure> {
  const scanner = new MimeScanner()
  for await (const piece of source) scanner.push(piece)
  return scanner.finish()
}
