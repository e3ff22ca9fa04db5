// A process that logs into a journal by the transport: `path options(JSON) how count [bytes]`.
import { pino } from 'pino'

const [path, options, how, count, bytes = '0'] = process.argv.slice(2)
const transport = pino.transport({
  target: 'bobbin/jlog/pino',
  options: { path, ...JSON.parse(options) },
})
transport.on('error', (error) => {
  process.stdout.write(`error: ${error.message}\n`)
  process.exitCode = 3
})
const log = pino({ base: null }, transport)
const filling = 'é'.repeat(Number(bytes) / 2)

for (let n = 0; n < Number(count); n++) log.info({ n, filling }, 'größer')
if (how === 'exit') process.exit(0)
// What was flushed must be there, whatever happens next.
if (how === 'kill') log.flush(() => process.kill(process.pid, 'SIGKILL'))
if (how === 'drain') transport.once('drain', () => process.stdout.write('drained\n'))
