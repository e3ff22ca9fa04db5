// Repairs the spool in argv[2]; says when it begins to mend.
import { repairSpool } from '../../dist/spool/index.js'

await repairSpool(process.argv[2], {
  onProgress: ({ phase }) => void process.stdout.write(`${phase}\n`),
})
process.stdout.write('done\n')
