/** `bobbin serve`: the service in the foreground, until SIGTERM or SIGINT. */
import type { Command } from 'commander'

interface Options {
  config?: string
  data?: string
  listen?: string
  insecureListen?: true
}

export function addServe(program: Command): void {
  program
    .command('serve')
    .description(
      'run the service until SIGTERM or SIGINT; a second signal cuts the connections that are left; SIGHUP reads tokens and certificate again',
    )
    .option(
      '--config <file>',
      'settings, as TOML (docs/configuration.md)',
      process.env.BOBBIN_CONFIG,
    )
    .option('--data <dir>', 'data directory, made on first start (default: ./data)')
    .option(
      '--listen <address>',
      'where to take requests: HOST:PORT, port 0 takes a free one, or unix:PATH (default: 127.0.0.1:8025)',
    )
    .option(
      '--insecure-listen',
      'take requests from other machines without tokens or without TLS: whoever reaches the service, or is on the way, can read and remove mail',
    )
    .action(async ({ config: file, data, listen, insecureListen }: Options) => {
      const flags = { data, listen, 'security.insecure_listen': insecureListen && 'true' }
      const { serve } = await import('./serve/run.js')
      await serve({ file, flags })
    })
}
