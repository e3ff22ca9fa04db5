/** `bobbin token …`: make tokens and list them; the service knows only their hashes. */
import type { Command } from 'commander'
import { SCOPES } from '../../api/caller.js'
import { choice, collect, print, UsageError } from '../program.js'
import { appendToTokenFile, createToken, readTokenFile } from '../tokens.js'

export function addToken(program: Command): void {
  const token = program
    .command('token')
    .description('make and list the tokens that callers of the service are known by')
  const file = process.env.BOBBIN_SECURITY_TOKEN_FILE

  const scope = choice(SCOPES)
  token
    .command('create')
    .description(
      'make a token: prints it, this once, and the line to store of it; with --file the line is stored there',
    )
    .requiredOption(
      '--scope <scope>',
      `what it is good for, may be given several times: ${SCOPES.join(', ')}`,
      (text: string, before?: string[]) => collect(scope(text), before),
    )
    .option('--name <name>', 'what the log calls its holder', 'token')
    .option('--file <file>', 'token file that the line is added to; made where it is not there')
    .option('--json', 'print name, scopes, token and line as JSON')
    .action(async (options: { scope: string[]; name: string; file?: string; json?: boolean }) => {
      const { name, scope: scopes } = options
      const made = createToken(name, scopes)
      if (options.file !== undefined) await add(options.file, name, made.line)
      if (options.json) return print(`${JSON.stringify({ name, scopes, ...made })}\n`)
      await print(`${made.token}\n`)
      if (options.file === undefined) await print(`${made.line}\n`)
    })

  token
    .command('list')
    .description('list the tokens of a file: names and scopes')
    .option('--file <file>', 'the token file (default: BOBBIN_SECURITY_TOKEN_FILE)', file)
    .option('--json', 'a line of JSON each')
    .action(async (options: { file?: string; json?: boolean }) => {
      if (options.file === undefined) throw new UsageError('name the token file with --file')
      for (const { name, scopes } of await readTokenFile(options.file)) {
        await print(
          options.json ? `${JSON.stringify({ name, scopes })}\n` : `${name}  ${scopes.join('+')}\n`,
        )
      }
    })
}

async function add(file: string, name: string, line: string): Promise<void> {
  const tokens = await readTokenFile(file).catch((error: unknown) => {
    const cause = (error as Error).cause as NodeJS.ErrnoException | undefined
    if (cause?.code === 'ENOENT') return []
    throw error
  })
  if (tokens.some((token) => token.name === name)) {
    throw new UsageError(`${file} has a token named ${name} already; give another --name`)
  }
  await appendToTokenFile(file, line)
}
