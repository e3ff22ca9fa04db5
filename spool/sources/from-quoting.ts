/**
 * The quoting of lines in an mbox that would else begin a message. In `mboxrd` a `>` is put before every line
 * of `>`s and `From `, and taken off again: it is undone exactly. In `mboxo` it was put before `From ` alone,
 * so a line that had a `>` itself cannot be told from one that was given it. Streams; holds no line whole.
 */

/** How many `>` a line keeps that had so many before `From `. */
export type Quoting = (before: number) => number

export const QUOTE: Quoting = (before) => before + 1
export const UNQUOTE_RD: Quoting = (before) => Math.max(0, before - 1)
export const UNQUOTE_O: Quoting = (before) => (before === 1 ? 0 : before)

const LF = 0x0a
const GT = 0x3e
const FROM = Buffer.from('From ')
/** `>`s are given out in pieces of so many. */
const GTS = Buffer.alloc(4096, GT)

export async function* requote(
  source: AsyncIterable<Uint8Array>,
  quoting: Quoting,
): AsyncGenerator<Uint8Array, void, void> {
  const machine = new Requoting(quoting)
  for await (const piece of source) yield* machine.push(piece)
  yield* machine.end()
}

class Requoting {
  readonly #quoting: Quoting
  /** At the start of a line, after so many `>`, with so much of `From ` after them. */
  #isAtStart = true
  #gts = 0
  #matched = 0

  constructor(quoting: Quoting) {
    this.#quoting = quoting
  }

  *push(piece: Uint8Array): Generator<Uint8Array, void, void> {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    /** What lies before it is given out. */
    let from = 0
    let at = 0
    while (at < bytes.length) {
      if (!this.#isAtStart) {
        const lf = bytes.indexOf(LF, at)
        if (lf < 0) break
        at = lf + 1
        this.#isAtStart = true
        // Most lines begin with neither, and stay in one piece with the next.
        if (at < bytes.length && bytes[at] !== GT && bytes[at] !== FROM[0]) {
          this.#isAtStart = false
          continue
        }
        if (at > from) yield bytes.subarray(from, at)
        from = at
        continue
      }
      const byte = bytes[at]
      if (this.#matched === 0 && byte === GT) {
        this.#gts++
        at++
        from = at
      } else if (byte === FROM[this.#matched]) {
        this.#matched++
        at++
        from = at
        if (this.#matched === FROM.length) yield* this.#give(this.#quoting(this.#gts))
      } else {
        yield* this.#give(this.#gts)
      }
    }
    if (from < bytes.length) yield bytes.subarray(from)
  }

  *end(): Generator<Uint8Array, void, void> {
    if (this.#isAtStart) yield* this.#give(this.#gts)
  }

  /** What was held back at the start of the line, with so many `>`. */
  *#give(gts: number): Generator<Uint8Array, void, void> {
    for (let left = gts; left > 0; left -= GTS.length) yield GTS.subarray(0, left)
    if (this.#matched > 0) yield FROM.subarray(0, this.#matched)
    this.#isAtStart = false
    this.#gts = 0
    this.#matched = 0
  }
}
