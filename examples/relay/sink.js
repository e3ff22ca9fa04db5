#!/usr/bin/env node
/** A host to deliver to while trying things out: takes every message, prints its envelope and size, and throws it away. */
import { parseArgs } from 'node:util'
import { SMTPServer } from 'smtp-server'

const { values } = parseArgs({ options: { port: { type: 'string', default: '2526' } } })

const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  async onData(stream, { envelope }, answer) {
    let bytes = 0
    try {
      for await (const chunk of stream) bytes += chunk.length
    } catch (error) {
      // The client is gone in the middle of it.
      return answer(/** @type {Error} */ (error))
    }
    const from = envelope.mailFrom ? envelope.mailFrom.address : ''
    const to = envelope.rcptTo.map(({ address }) => address).join(' ')
    console.log(`<${from}> -> <${to}> ${bytes} bytes`)
    answer(null, 'taken')
  },
})
server.listen(Number(values.port), '127.0.0.1', () => {
  const { address, port } = /** @type {import('node:net').AddressInfo} */ (server.server.address())
  console.log(`listening at ${address}:${port}`)
})
// No handlers of signals: a host that is down cuts its connections, and whoever keeps them open for the next message notices.
