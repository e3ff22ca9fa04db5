/**
 * Options as getopt(3) reads them, which `jlogctl` must: letters that may be put together (`-dv`), values attached or not (`-jDIR`,
 * `-j DIR`, also one that begins with `-`), operands anywhere, `--` as the end of options.
 */

/** Wrong usage: what to say, and whether the usage text is to follow. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly showUsage: boolean

  constructor(message: string, { showUsage = true } = {}) {
    super(message)
    this.showUsage = showUsage
  }
}

export interface Parsed {
  /** Letters with their values (empty for a letter that takes none), in the order given. */
  readonly options: readonly (readonly [letter: string, value: string])[]
  readonly operands: readonly string[]
}

/**
 * @param letters those that are known; a colon after one says that it takes a value
 * @throws UsageError
 */
export function getopt(argv: readonly string[], letters: string): Parsed {
  const options: [string, string][] = []
  const operands: string[] = []
  const rest = [...argv]
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') return { options, operands: [...operands, ...rest] }
    if (word.startsWith('--')) throw new UsageError(`unrecognized option '${word}'`)
    if (!word.startsWith('-') || word === '-') {
      operands.push(word)
      continue
    }
    for (let at = 1; at < word.length; at++) {
      const letter = word[at]!
      const known = letter === ':' ? -1 : letters.indexOf(letter)
      if (known === -1) throw new UsageError(`invalid option -- '${letter}'`)
      if (letters[known + 1] !== ':') {
        options.push([letter, ''])
        continue
      }
      const value = at + 1 < word.length ? word.slice(at + 1) : rest.shift()
      if (value === undefined) throw new UsageError(`option requires an argument -- '${letter}'`)
      options.push([letter, value])
      break
    }
  }
  return { options, operands }
}
