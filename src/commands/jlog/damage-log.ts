/** Tells damage that a command met and went past: the first cases one by one, then how many there were. */
import type { JlogError, SkippedRange } from '../../../jlog/index.js'
import { EXIT } from '../../program.js'
import { count, segmentName, warn } from './report.js'

const MOST_TOLD = 20

export class DamageLog {
  readonly #program: string
  #met = 0
  #bytes = 0

  constructor(program = 'bobbin') {
    this.#program = program
  }

  skipped({ segment, offset, bytes, reason }: SkippedRange): void {
    this.#bytes += bytes
    this.#tell(
      `damage in segment ${segmentName(segment)}: ${count(bytes, 'byte')} at ${offset} are no confirmed record (${reason})`,
    )
  }

  unreadable(error: JlogError): void {
    this.#tell(`${error.message} [${error.code}]`)
  }

  /** Sets the exit status when there was any. */
  finish(): void {
    if (this.#met === 0) return
    if (this.#met > MOST_TOLD) {
      warn(
        `${count(this.#met, 'damaged place')} in all, ${count(this.#bytes, 'byte')} passed over`,
        this.#program,
      )
    }
    process.exitCode = EXIT.failed
  }

  #tell(text: string): void {
    this.#met++
    if (this.#met <= MOST_TOLD) warn(text, this.#program)
  }
}
