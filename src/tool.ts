/** What the small tools, `jlogctl` and `jlogtail`, share: output that waits, and an end without a stack trace. */
import { endWithOutput, print } from './program.js'

export { print }

/** Writes to standard error, waiting where the reader is slow. */
export async function printError(text: string): Promise<void> {
  if (process.stderr.write(text)) return
  await new Promise((resolve) => process.stderr.once('drain', resolve))
}

/** Runs a tool to its end and sets the exit status that it returns; 1 for an error. */
export async function runTool(name: string, tool: () => Promise<number>): Promise<void> {
  endWithOutput(name)
  try {
    process.exitCode = await tool()
  } catch (error) {
    const { message, code } = error as { message?: string; code?: unknown }
    const named = typeof code === 'string' ? ` [${code}]` : ''
    process.stderr.write(
      `${name}: ${(message ?? String(error)).replaceAll(/\s*\n\s*/g, ' ')}${named}\n`,
    )
    process.exitCode = 1
  }
}
