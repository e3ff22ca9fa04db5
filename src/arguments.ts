/**
 * The program's arguments with all their bytes. Node takes them for UTF-8, and what is none for U+FFFD; but a subscriber's name may be
 * any bytes, and two of them must not become one. Each byte that is no UTF-8 is a lone surrogate from U+DC80 to U+DCFF here.
 */
import { readFileSync } from 'node:fs'

const LOST = '\ufffd'
const ESCAPED = /[\udc80-\udcff]/
const ESCAPED_FROM = 0xdc00

/** Those after the program's name. Where the system does not tell their bytes, they are as Node has them. */
export function programArguments(): string[] {
  const args = process.argv.slice(2)
  if (!args.some((arg) => arg.includes(LOST))) return args
  let bytes: Buffer
  try {
    bytes = readFileSync('/proc/self/cmdline')
  } catch {
    return args
  }
  const raw: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0, at)
    raw.push(bytes.subarray(at, end < 0 ? bytes.length : end))
    at = end < 0 ? bytes.length : end + 1
  }
  const ours = raw.slice(-args.length)
  // The title of a process overwrites them; then they are no longer to be had.
  if (!ours.every((arg, i) => comparable(arg.toString()) === comparable(args[i]!))) return args
  return ours.map(textOf)
}

/** How many characters stand for what is none is not the same everywhere. */
function comparable(text: string): string {
  return text.replaceAll(/\ufffd+/g, LOST)
}

function textOf(bytes: Buffer): string {
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const length = characterLength(bytes, at)
    if (length === 0) text += String.fromCharCode(ESCAPED_FROM + bytes[at]!)
    else text += bytes.toString('utf8', at, at + length)
    at += Math.max(1, length)
  }
  return text
}

/** Bytes of the UTF-8 character that begins at `at`; 0 when none does. */
function characterLength(bytes: Buffer, at: number): number {
  for (let length = 1; length <= 4 && at + length <= bytes.length; length++) {
    const character = bytes.subarray(at, at + length)
    if (Buffer.from(character.toString()).equals(character)) return length
  }
  return 0
}

/** The bytes that such an argument stands for. */
export function bytesOfArgument(text: string): Buffer {
  if (!ESCAPED.test(text)) return Buffer.from(text)
  return Buffer.concat(
    [...text].map((character) =>
      ESCAPED.test(character) && character.length === 1
        ? Buffer.of(character.charCodeAt(0) - ESCAPED_FROM)
        : Buffer.from(character),
    ),
  )
}
