/**
 * Lines out of a stream of bytes, of whatever encoding: a line is what stands before a newline. A line that came in many pieces is
 * put together once. Holds no more than the line that has not ended yet.
 */
const NEWLINE = 0x0a

export class LineSplitter {
  #begun: Buffer[] = []

  /** The lines that end in this chunk, without their newlines; views of the chunk, but for one that began before it. */
  push(chunk: Buffer): Buffer[] {
    const lines: Buffer[] = []
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const piece = chunk.subarray(start, end)
      if (this.#begun.length === 0) lines.push(piece)
      else {
        lines.push(Buffer.concat([...this.#begun, piece]))
        this.#begun = []
      }
      start = end + 1
    }
    if (start < chunk.length) this.#begun.push(chunk.subarray(start))
    return lines
  }

  /** The last line, if it has no newline. */
  end(): Buffer[] {
    const last = this.#begun.length === 0 ? [] : [Buffer.concat(this.#begun)]
    this.#begun = []
    return last
  }
}
