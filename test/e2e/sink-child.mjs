// Takes mail and keeps it, on the disk before it says 250: a line of JSON each, with the content. Refuses recipients that begin
// with `refused` for good; those that begin with `later` once.
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { SMTPServer } from 'smtp-server'

const [, , file, port] = process.argv
const fd = openSync(file, 'a')
const seen = new Set()

const refusal = (responseCode, text) => Object.assign(new Error(text), { responseCode })

const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  onRcptTo({ address }, _session, answer) {
    if (address.startsWith('refused')) return answer(refusal(550, '5.1.1 no such user'))
    if (address.startsWith('later') && !seen.has(address)) {
      seen.add(address)
      return answer(refusal(451, '4.3.2 try again later'))
    }
    answer()
  },
  async onData(stream, { envelope }, answer) {
    const chunks = []
    try {
      for await (const chunk of stream) chunks.push(chunk)
    } catch (error) {
      // The client is gone in the middle of it.
      return answer(error)
    }
    const content = Buffer.concat(chunks).toString('base64')
    const rcptto = envelope.rcptTo.map(({ address }) => address)
    writeSync(fd, `${JSON.stringify({ rcptto, content })}\n`)
    fsyncSync(fd)
    answer(null, 'taken')
  },
})
server.on('error', (error) => console.error(error.message))
server.listen(Number(port), '127.0.0.1', () => console.log('listening'))
process.once('SIGTERM', () => server.close(() => closeSync(fd)))
