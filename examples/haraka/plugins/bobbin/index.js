/**
 * Queues messages in Bobbin. The SMTP client gets its 250 once Bobbin has the message on its disk, and 4xx while Bobbin is
 * down or sheds load: then the client has the message still, and tries again. Settings: config/bobbin.ini.
 */
const { readFileSync } = require('node:fs')
const { DENY, DENYSOFT, OK } = require('haraka-constants')

const loadingClient = import('bobbin/client')

/** Refusals of the message itself. Any other, a wrong token too, is for the operator to mend while the client waits. */
const OF_THE_MESSAGE = [400, 413, 422]

exports.register = function () {
  this.loadSettings()
  this.register_hook('queue', 'inject')
  // Of clients that may relay.
  this.register_hook('queue_outbound', 'inject')
}

exports.loadSettings = function () {
  const { main } = this.config.get('bobbin.ini', () => this.loadSettings())
  this.settings = {
    url: main.url ?? 'http://127.0.0.1:8025',
    tokenFile: main.token_file,
    // Less than Haraka's plugin_timeout (30): after that it answers without us.
    deadline: Number(main.deadline ?? 25) * 1000,
    timeout: Number(main.timeout ?? 10) * 1000,
    // Short, so that a service that sheds load is not waited for with a connection of each client.
    patience: Number(main.patience ?? 3) * 1000,
  }
  this.client = undefined
}

exports.connectClient = async function () {
  const { BobbinClient } = await loadingClient
  const { url, tokenFile, timeout, patience } = this.settings
  this.client ??= new BobbinClient(url, {
    timeout,
    retry: { deadline: patience },
    ...(tokenFile ? { token: readFileSync(tokenFile, 'utf8').trim() } : {}),
    onRetry: (error, wait) => this.logwarn(`${error.message}; again in ${Math.round(wait)} ms`),
  })
  return this.client
}

exports.inject = async function (next, connection) {
  const { transaction } = connection
  const { mail_from: from, rcpt_to: to, message_stream: stream, uuid } = transaction
  try {
    const client = await this.connectClient()
    const { ids } = await client.inject(
      {
        mailfrom: from.address,
        rcptto: to.map((recipient) => recipient.address),
        protocol: 'esmtp',
        batch_id: uuid,
        connection_id: connection.uuid,
        body: () => {
          // What an attempt that failed has left of its reading.
          stream.unpipe()
          return stream
        },
      },
      // The attempts of one transaction store one message.
      { idempotencyKey: uuid, signal: AbortSignal.timeout(this.settings.deadline) },
    )
    connection.lognotice(`stored as ${ids.join(' ')}`, this)
    // Haraka adds the transaction's id, which is the batch id of the records in Bobbin's log.
    next(OK, 'stored by Bobbin')
  } catch (error) {
    connection.logerror(`${error.message}${error.code ? ` [${error.code}]` : ''}`, this)
    if (OF_THE_MESSAGE.includes(error.status)) next(DENY, `not stored: ${error.message}`)
    else next(DENYSOFT, 'not stored now; try again later')
  }
}
