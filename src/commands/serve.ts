/** `bobbin serve`: the service in the foreground, until SIGTERM or SIGINT. */
import { isatty } from 'node:tty'
import type { Command } from 'commander'
import { type Logger, pino } from 'pino'
import { type Config, loadConfig } from '../config.js'
import { notify } from '../notify.js'
import { Service } from '../service.js'

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
      const config = loadConfig({ file, flags })
      const log = pino({ level: config.log.level }, logDestination())
      await serve(config, log)
    })
}

const LOG_WAITING_BYTES = 1024 * 1024

/** Standard output. A log that cannot be written does not end the service; what fits is written when it can be. */
function logDestination(): ReturnType<typeof pino.destination> {
  const destination = pino.destination({ dest: 1, sync: true, maxLength: LOG_WAITING_BYTES })
  destination.on('error', () => undefined)
  return destination
}

const terminals = () => [0, 1, 2].filter((fd) => isatty(fd)).length

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
    if (signals === 1) notify('STOPPING=1', log)
    stop().catch((error: unknown) => {
      log.fatal({ err: error }, 'could not stop in order')
      process.exitCode = 1
    })
  }
  const terminalsAtStart = terminals()
  const onHangUp = () => {
    // The terminal that it was started in has been closed: that ends it, as it ends what has no handler.
    if (terminalsAtStart > 0 && terminals() === 0) return onSignal('SIGHUP')
    log.info({ signal: 'SIGHUP' }, 'signal received')
    // A service that could not start says so elsewhere.
    starting?.then((service) => service.reload()).catch(() => undefined)
  }
  // Before it takes requests, so that no signal finds it without a handler.
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  process.on('SIGHUP', onHangUp)
  // What nobody has caught ends the process, as it should: what follows it is not known. The log says why.
  process.on('uncaughtExceptionMonitor', (error) => log.fatal({ err: error }, 'the process ends'))
  starting = Service.start(config, log)
  await starting
  notify('READY=1', log)
}
