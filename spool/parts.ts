/** Parts of a body, found as it is read in pieces and never whole in memory. */
import type { Bodies } from './bodies.js'
import { SmallRead } from './body-read.js'
import type { BodyRef } from './layout.js'
import type { SwappedBody } from './message.js'
import { MimeScanner, type MimeStructure, scanMime } from './mime.js'

/** The structure, and of which content it is. */
export interface ContentStructure extends MimeStructure {
  readonly size: number
  readonly sha256: string
}

/** The header of the message, without the empty line, as a range of the body. */
export async function readHeaders(
  bodies: Bodies,
  ref: BodyRef,
  onCorrupt: (error: unknown) => void,
): Promise<SwappedBody> {
  const whole = { start: 0, end: ref.size }
  // Keeps the body there between finding the end of the header and reading up to it.
  const held = bodies.readInPieces(ref, whole, onCorrupt)
  try {
    const scanner = new MimeScanner()
    const isRead = held instanceof SmallRead
    const pieces = isRead ? held : bodies.readInPieces(ref, whole, onCorrupt)
    for await (const piece of pieces.stream) {
      scanner.push(piece)
      if (scanner.headerLength !== undefined) break
    }
    const end = scanner.headerLength ?? scanner.finish().root.headerLength
    return isRead ? held.upTo(ref, end) : bodies.read(ref, { start: 0, end }, onCorrupt)
  } finally {
    held.release()
  }
}

export async function readStructure(
  bodies: Bodies,
  ref: BodyRef,
  onCorrupt: (error: unknown) => void,
): Promise<ContentStructure> {
  const whole = { start: 0, end: ref.size }
  const structure = await scanMime(bodies.readInPieces(ref, whole, onCorrupt).stream)
  return { ...structure, size: ref.size, sha256: ref.sha256.toString('hex') }
}
