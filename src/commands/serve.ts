/** `bobbin serve`: the service in the foreground, until SIGTERM or SIGINT. */
import type { Command } from 'commander'
import { type Logger, pino } from 'pino'
import { type Config, loadConfig } from '../config.js'
import { Service } from '../service.js'

interface Options {
  config?: string
  data?: string
  listen?: string
}

export function addServe(program: Command): void {
  program
    .command('serve')
    .description(
      'run the service until SIGTERM or SIGINT; a second signal cuts the connections that are left',
    )
    .option(
      '--config <file>',
      'settings, as TOML (docs/configuration.md)',
      process.env.BOBBIN_CONFIG,
    )
    .option('--data <dir>', 'data directory, made on first start (default: ./data)')
    .option(
      '--listen <host:port>',
      'where to take requests; port 0 takes a free one (default: 127.0.0.1:8025)',
    )
    .action(async ({ config: file, data, listen }: Options) => {
      const config = loadConfig({ file, flags: { data, listen } })
      const log = pino({ level: config.log.level }, pino.destination({ dest: 1, sync: true }))
      await serve(config, log)
    })
}

async function serve(config: Config, log: Logger): Promise<void> {
  let signals = 0
  let starting: Promise<Service> | undefined
  const stop = async () => {
    const service = await starting
    if (signals > 1) service?.hurry()
    await service?.stop()
  }
  const onSignal = (signal: string) => {
    signals++
    log.info({ signal }, signals === 1 ? 'signal received' : 'signal received again')
    stop().catch((error: unknown) => {
      log.fatal({ err: error }, 'could not stop in order')
      process.exitCode = 1
    })
  }
  // Before it takes requests, so that no signal finds it without a handler.
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  starting = Service.start(config, log)
  await starting
}
