/**
 * The checksums that a writer puts beside the segment it appends to. They help, and are never in the way: when they
 * cannot be written, the rest of the segment goes without, and its records count as unknown instead of good.
 */
import { ChecksumAppender, checksumFile } from './checksums.js'
import { headerBytes } from './format.js'
import { RecordOffsets, walkRecords } from './segment.js'

export function isChecksumFile(name: string): boolean {
  return /^[0-9a-f]{8}\.sum$/.test(name) && name === checksumFile(Number.parseInt(name, 16))
}

export class SegmentSums {
  readonly #hdrMagic: number
  readonly #offsets = new RecordOffsets()
  /** Null once it could not be written. */
  #sums: ChecksumAppender | null

  private constructor(sums: ChecksumAppender | null, hdrMagic: number) {
    this.#sums = sums
    this.#hdrMagic = hdrMagic
  }

  /** @param end where the segment's last record ends */
  static async open(
    dir: string,
    log: number,
    end: number,
    { hdrMagic, fileMode }: { readonly hdrMagic: number; readonly fileMode: number },
  ): Promise<SegmentSums> {
    const sums = await ChecksumAppender.open(dir, log, end, fileMode).catch(() => null)
    return new SegmentSums(sums, hdrMagic)
  }

  /**
   * Notes the records that were written at `at`: stretches of whole records, and headers at the end of a stretch whose
   * payload is the next buffer.
   */
  async note(buffers: readonly Uint8Array[], at: number): Promise<void> {
    const sums = this.#sums
    if (sums === null) return
    const header = headerBytes(this.#hdrMagic)
    let start = at
    for (let i = 0; i < buffers.length; i++) {
      const bytes = buffers[i]!
      this.#offsets.clear()
      const walk = walkRecords(bytes, 0, bytes.length, this.#hdrMagic, this.#offsets)
      for (let n = 0; n < this.#offsets.length; n++) {
        const end = n + 1 < this.#offsets.length ? this.#offsets.at(n + 1) : walk.at
        const from = this.#offsets.at(n)
        sums.note(start + from, bytes.subarray(from, end), header)
      }
      if (walk.at < bytes.length) {
        const payload = buffers[++i]!
        const record = Buffer.concat([bytes.subarray(walk.at), payload])
        sums.note(start + walk.at, record, header)
        start += payload.length
      }
      start += bytes.length
    }
    await sums.flush(at).catch(() => this.#giveUp())
  }

  async sync(): Promise<void> {
    await this.#sums?.sync().catch(() => this.#giveUp())
  }

  /** Syncs and closes. */
  async close(): Promise<void> {
    await this.sync()
    await this.#giveUp()
  }

  async #giveUp(): Promise<void> {
    const sums = this.#sums
    this.#sums = null
    await sums?.close().catch(() => {})
  }
}
