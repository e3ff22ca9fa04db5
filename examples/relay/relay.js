#!/usr/bin/env node
/**
 * A delivery worker: claims due messages of Bobbin, delivers each over SMTP to one host, and reports what became of it.
 *
 *     node relay.js --url http://127.0.0.1:8025 --host smtp.example.com --port 25 --concurrency 20
 *
 * BOBBIN_TOKEN is a token with the scopes deliver and read, where Bobbin asks for one. SIGTERM and SIGINT: it finishes what it is
 * delivering, gives back what it has not begun, and ends.
 *
 * A message is delivered at least once: it comes again where the host took it, and this process or Bobbin died before the
 * report. That cannot be helped with SMTP (RFC 1047).
 */
// @ts-check
import { Readable } from 'node:stream'
import { parseArgs } from 'node:util'
import { BobbinClient, ClientError } from 'bobbin/client'
import { createTransport } from 'nodemailer'

/** @import { ClaimedMessage, DispositionJson } from 'bobbin/client' */

/** What nodemailer's errors say of the session. @typedef {Error & { code?: string, command?: string, responseCode?: number, syscall?: string }} SmtpError */

const { values } = parseArgs({
  options: {
    url: { type: 'string', default: process.env.BOBBIN_URL ?? 'http://127.0.0.1:8025' },
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '25' },
    /** What it says in EHLO; default: the name of this machine. */
    name: { type: 'string' },
    concurrency: { type: 'string', default: '10' },
    /** Seconds that a claim holds without a sign of life. */
    lease: { type: 'string', default: '60' },
    /** Milliseconds between two looks while nothing is due. */
    poll: { type: 'string', default: '1000' },
  },
})
const concurrency = Number(values.concurrency)
const leaseSeconds = Number(values.lease)

/** @type {(level: 'info' | 'warn', msg: string, more?: object) => void} */
const log = (level, msg, more) =>
  console.log(JSON.stringify({ time: new Date().toISOString(), level, msg, ...more }))

const client = new BobbinClient(values.url, {
  token: process.env.BOBBIN_TOKEN,
  onRetry: (error, wait) =>
    log('warn', 'trying again', { reason: error.message, wait_ms: Math.round(wait) }),
})

const smtp = createTransport({
  pool: true,
  host: values.host,
  port: Number(values.port),
  name: values.name,
  maxConnections: concurrency,
  // A content is streamed, once: no further attempts of the pool's own.
  maxRequeues: 0,
  connectionTimeout: 30_000,
  socketTimeout: 300_000,
  disableFileAccess: true,
  disableUrlAccess: true,
})

/**
 * One message, from its claim to its report.
 * @param {ClaimedMessage} message
 * @param {AbortSignal} leaseLost
 */
async function handle(message, leaseLost) {
  const { id, lease, mailfrom, rcptto, size } = message
  /** @type {DispositionJson} */
  let disposition
  try {
    const content = await client.content(id, { signal: leaseLost })
    const raw = Readable.from(content, { objectMode: false })
    const envelope = { from: mailfrom, to: [rcptto] }
    const { response } = await smtp.sendMail({ envelope, raw, signal: leaseLost })
    disposition = { type: 'delivery', bytes_sent: size, note: response }
  } catch (error) {
    const { code, message: reason } = /** @type {SmtpError} */ (error)
    // Nothing is wrong with the delivery: Bobbin did not give the content, or has given the lease to another.
    if (error instanceof ClientError || code === 'ESTREAM' || leaseLost.aborted)
      return log('warn', 'left for later', { id, reason })
    disposition = failure(/** @type {SmtpError} */ (error))
  }
  await report(id, { ...disposition, lease, peer: values.host })
}

/**
 * A refusal of this message for good is a permanent failure. Everything else may be mended: it is tried again by Bobbin's
 * schedule, until the message expires.
 * @param {SmtpError} error
 * @returns {DispositionJson}
 */
function failure(error) {
  const { responseCode = 0, command = '', message } = error
  const isOfMessage = ['MAIL FROM', 'RCPT TO', 'DATA'].includes(command)
  const type = isOfMessage && responseCode >= 500 ? 'permanent_failure' : 'transient_failure'
  return { type, stage: stageOf(error), note: message.slice(0, 1000) }
}

/**
 * How far the session was: Bobbin's stages, docs/events.md.
 * @param {SmtpError} error
 */
function stageOf({ code, command = '', responseCode, syscall }) {
  // An answer to the message itself; an answer to the command DATA has another code.
  if (command === 'DATA' && code === 'EMESSAGE') return 9
  if (command === 'CONN')
    return responseCode ? 12 : syscall === 'connect' || code === 'ETIMEDOUT' ? 0 : 22
  return { EHLO: 11, 'MAIL FROM': 3, 'RCPT TO': 5, DATA: 7, STARTTLS: 16 }[command] ?? 22
}

/**
 * Tried again for as long as the lease holds, since a report that is lost is a message that is delivered twice.
 * @param {string} id
 * @param {DispositionJson} disposition
 */
async function report(id, disposition) {
  const { type, note } = disposition
  try {
    const retry = { attempts: Number.POSITIVE_INFINITY, deadline: leaseSeconds * 1000 }
    const { outcome } = await client.report(id, disposition, { retry })
    log('info', type, { id, outcome, note })
  } catch (error) {
    // The message is due again when its lease ends.
    log('warn', `${type} could not be reported`, { id, reason: String(error), note })
  }
}

const stop = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => stop.abort())

log('info', 'started', { url: values.url, host: values.host, port: values.port, concurrency })
await client.work(
  {
    concurrency,
    lease_seconds: leaseSeconds,
    poll: Number(values.poll),
    owner: `relay ${process.pid}`,
    signal: stop.signal,
  },
  (message, { signal }) => handle(message, signal),
)
smtp.close()
log('info', 'stopped')
