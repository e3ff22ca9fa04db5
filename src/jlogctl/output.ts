/** Where `jlogctl` writes to. Both wait while the reader is slow, so that nothing piles up. */
import { JlogError } from '../../jlog/index.js'

export interface Output {
  out(text: string | Uint8Array): Promise<void>
  err(text: string): Promise<void>
}

/** Something did not work, and was told on standard error: exit status 1. */
export class Failed extends Error {
  override readonly name = 'Failed'
}

/** An error in one line, with its code. Anything but a JlogError is no matter of the journal, and thrown on. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof JlogError)) throw error
  return `${error.message.replaceAll(/\s*\n\s*/g, ' ')} [${error.code}]`
}
