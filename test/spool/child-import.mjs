// Imports argv[3] into the spool argv[2] with the options of argv[4] (JSON); says each progress, and its report.
import { openSpool } from '../../dist/spool/index.js'

const [path, source, options] = process.argv.slice(2)
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)
const spool = await openSpool({ path, events: { format: 'json', journalOf: () => 'mainlog' } })
const report = await spool.importFrom(source, {
  ...JSON.parse(options),
  onProgress: ({ phase, done }) => say({ phase, done }),
})
say({ report })
await spool.close()
