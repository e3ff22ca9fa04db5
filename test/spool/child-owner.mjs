// Owns the spool in argv[2] until its standard input ends.
import { openSpool } from '../../dist/spool/index.js'

const spool = await openSpool({ path: process.argv[2] })
const { ids } = await spool.swapOut({
  mailfrom: '',
  rcptto: ['a@example.org'],
  body: Buffer.from('the owner’s'),
})
console.log(ids[0])
process.stdin.resume().on('end', () => void spool.close())
