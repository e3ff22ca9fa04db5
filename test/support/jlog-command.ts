/** `bobbin jlog …` without a process of its own, because a test may run a hundred. */
import { Command } from 'commander'
import { vi } from 'vitest'
import { addJlog } from '../../src/commands/jlog.js'
import { runProgram } from '../../src/program.js'

/** What the program does in a process of its own, but for the process. */
export async function jlog(...args: string[]) {
  const program = new Command('bobbin').option('--debug')
  addJlog(program)
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  const capture = (stream: NodeJS.WriteStream, into: Buffer[]) =>
    vi.spyOn(stream, 'write').mockImplementation((chunk) => into.push(Buffer.from(chunk)) > 0)
  const captured = [capture(process.stdout, stdout), capture(process.stderr, stderr)]
  try {
    await runProgram(program, ['jlog', ...args])
    const code = process.exitCode ?? 0
    return {
      code,
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
    }
  } finally {
    process.exitCode = 0
    for (const one of captured) one.mockRestore()
    process.stdout.removeAllListeners('error')
  }
}
