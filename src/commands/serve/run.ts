/** The service as a process: its log, and what signals do. */
import { isatty } from 'node:tty'
import { pino } from 'pino'
import { type ConfigSources, loadConfig } from '../../config.js'
import { notify } from '../../notify.js'
import { Service } from '../../service.js'

const LOG_WAITING_BYTES = 1024 * 1024

/** Standard output. A log that cannot be written does not end the service; what fits is written when it can be. */
function logDestination(): ReturnType<typeof pino.destination> {
  const destination = pino.destination({ dest: 1, sync: true, maxLength: LOG_WAITING_BYTES })
  destination.on('error', () => undefined)
  return destination
}

const terminals = () => [0, 1, 2].filter((fd) => isatty(fd)).length

/** Throws ConfigError, and what keeps the service from starting. */
export async function serve(sources: ConfigSources): Promise<void> {
  const config = loadConfig(sources)
  const log = pino({ level: config.log.level }, logDestination())
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
