/**
 * What every command of ours has in common. Exit status: 0 done, 1 done but problems found or the operation failed, 2 wrong
 * usage. An error is one line on standard error; `--debug` shows its stack.
 */
import { type Command, CommanderError, InvalidArgumentError } from 'commander'
import { programArguments } from './arguments.js'

export const EXIT = { done: 0, failed: 1, usage: 2 } as const

/** Wrong use of a command that its options alone do not show. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError'
}

/** Runs the program to its end and sets the exit status. `args` are those after its name; default: the process's. */
export async function runProgram(
  program: Command,
  args: readonly string[] = programArguments(),
): Promise<void> {
  endWithOutput('bobbin')
  for (const command of [program, ...descendants(program)]) {
    command.exitOverride().configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'bobbin: ')),
    })
  }
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    process.exitCode = report(error, program.opts<{ debug?: boolean }>().debug === true)
  }
}

/**
 * Ends the process when its standard output does. A reader that goes away (`| head`) is no error of ours; a full disk is one, and
 * what was to be printed is told to be missing.
 */
export function endWithOutput(program: string): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.done)
    process.stderr.write(`${program}: standard output cannot be written: ${error.message}\n`)
    process.exit(EXIT.failed)
  })
}

function report(error: unknown, debug: boolean): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage
  const { message, code } = error as { message?: string; code?: unknown }
  const named = typeof code === 'string' ? ` [${code}]` : ''
  process.stderr.write(`bobbin: ${oneLine(message ?? String(error))}${named}\n`)
  if (debug && error instanceof Error) process.stderr.write(`${error.stack}\n`)
  return error instanceof UsageError ? EXIT.usage : EXIT.failed
}

/** What is in a name that was given, or met, must not move the cursor of a terminal. */
function oneLine(text: string): string {
  return text
    .replaceAll(/\s*\n\s*/g, ' ')
    .replaceAll(/\p{Cc}/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

function descendants(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...descendants(child)])
}

/** For a numeric option. */
export function wholeNumber(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < minimum) {
      throw new InvalidArgumentError(`Give a whole number of at least ${minimum}.`)
    }
    return value
  }
}

/** Writes to standard output, waiting where the reader is slow. */
export async function print(text: string | Uint8Array): Promise<void> {
  if (process.stdout.write(text)) return
  await new Promise((resolve) => process.stdout.once('drain', resolve))
}

export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}

/** For an option that takes one of a few words. */
export function choice<const T extends string>(words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((candidate) => candidate === text)
    if (word === undefined) throw new InvalidArgumentError(`Give one of ${words.join(', ')}.`)
    return word
  }
}
