/**
 * Mail through all of it: an SMTP client, Haraka with the example's plugin, Bobbin, the example's worker, and a host that takes the
 * mail; each a process of its own, killed at random on the way. What was accepted with 250 arrives, whole, and stands in the
 * log: received once, and ended once. It may arrive twice, since a worker that dies after the host's 250 and before its
 * report delivers again; how often is printed.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import nodemailer from 'nodemailer'
import { expect, it } from 'vitest'
import { BobbinClient } from '../../api/client/index.js'
import { readRecords } from '../../jlog/index.js'
import { checkSpool } from '../../spool/index.js'
import { corpusMails, ownMails, type SampleMail } from '../support/mail.js'
import { temporaryDirectory } from '../support/service.js'
import {
  bobbinPart,
  freePorts,
  HARAKA_PROGRAM,
  harakaPart,
  type Part,
  type Ports,
  relayPart,
  sinkPart,
} from './processes.js'

const SEED = Number(process.env.E2E_SEED ?? Date.now() % 1_000_000)
const KILLS = Number(process.env.E2E_KILLS ?? 16)
const CLIENTS = 4

/** A mail that was given 250. */
interface Accepted {
  readonly mail: SampleMail
  readonly rcptto: readonly string[]
  /** The transaction, as Haraka's answer and Bobbin's log name it. */
  readonly batch: string
}

interface LogEntry {
  readonly type: string
  readonly id: string
  readonly batch_id: string
  readonly rcptto: string
}

interface Delivery {
  readonly rcptto: readonly string[]
  readonly content: Buffer
}

/** mulberry32: enough to have the same choices again. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/** An SMTP client that does as an MTA does: 4xx and a lost connection are tried again, 5xx is the end. */
class Sender {
  readonly accepted: Accepted[] = []
  readonly refused = new Map<string, string>()
  /** Recipients of attempts that ended without an answer: they may have been accepted. */
  retries = 0
  #count = 0
  readonly #port: number

  constructor({ haraka }: Ports) {
    this.#port = haraka
  }

  /** Recipients of its own for each mail, so that each delivery is known; some that are refused, or deferred once. */
  recipients(): string[] {
    const n = this.#count++
    const names = [`m${n}`]
    if (n % 5 === 0) names.push(`refused${n}`)
    if (n % 7 === 0) names.push(`later${n}`)
    return names.map((name) => `${name}@example.net`)
  }

  /** Resolves once it was accepted, or refused for good. */
  async send(mail: SampleMail): Promise<Accepted | null> {
    const rcptto = this.recipients()
    for (;;) {
      const smtp = nodemailer.createTransport({
        host: '127.0.0.1',
        port: this.#port,
        ignoreTLS: true,
      })
      try {
        const envelope = { from: 'sender@example.com', to: rcptto }
        const { response } = await smtp.sendMail({ envelope, raw: mail.bytes })
        const accepted = { mail, rcptto, batch: /\((\S+)\)$/.exec(response)?.[1] ?? response }
        this.accepted.push(accepted)
        return accepted
      } catch (error) {
        const { responseCode = 0, message } = error as Error & { responseCode?: number }
        if (responseCode >= 500) {
          this.refused.set(mail.name, message)
          return null
        }
        this.retries++
        // Nothing tells when the other side takes mail again but asking it.
        await delay(100)
      }
    }
  }
}

/** Without the Received header that Haraka puts first, which says when and to whom. */
function withoutReceived(content: Buffer): Buffer {
  const text = content.toString('latin1')
  const found = /^Received: .*\r\n([ \t].*\r\n)*/.exec(text)
  expect(found).not.toBeNull()
  return content.subarray(found![0].length)
}

/** As nodemailer sends it: every line ends with CRLF. */
function asSent(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString('latin1').replaceAll(/\r\n|\r|\n/g, '\r\n'), 'latin1')
}

/** What stands after the first empty line. */
function bodyOf(bytes: Buffer): string {
  const text = bytes.toString('latin1')
  const at = text.indexOf('\r\n\r\n')
  const body = at === -1 ? '' : text.slice(at + 4)
  return body === '' || body.endsWith('\r\n') ? body : `${body}\r\n`
}

function deliveries(file: string): Delivery[] {
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.slice(0, -1).flatMap((line) => {
    try {
      const { rcptto, content } = JSON.parse(line) as { rcptto: string[]; content: string }
      return [{ rcptto, content: Buffer.from(content, 'base64') }]
    } catch {
      // It was killed while it wrote; it has not said 250.
      return []
    }
  })
}

async function logged(data: string): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  for await (const batch of readRecords(join(data, 'journals', 'mainlog')))
    for (const { payload } of batch) entries.push(JSON.parse(payload.toString()) as LogEntry)
  return entries
}

it('takes every mail through, whichever part is killed', {
  timeout: 600_000,
}, async (test) => {
  if (!existsSync(HARAKA_PROGRAM)) {
    const why = 'Haraka is not installed (npm ci --prefix examples/haraka)'
    console.log(`skipped: ${why}`)
    return test.skip(why)
  }
  console.log(`E2E_SEED=${SEED} E2E_KILLS=${KILLS}`)
  const pick = random(SEED)
  const directory = await temporaryDirectory()
  const data = join(directory, 'data')
  const taken = join(directory, 'taken.ndjson')
  const ports = await freePorts()
  const bobbin = bobbinPart(data, ports)
  const haraka = await harakaPart(join(directory, 'haraka'), ports)
  const relay = relayPart(ports)
  const sink = sinkPart(taken, ports)
  const client = new BobbinClient(`http://127.0.0.1:${ports.bobbin}`, { timeout: 5000 })
  const sender = new Sender(ports)
  const mails = [...corpusMails(), ...(await ownMails())]

  // First all of it once, in peace and with no worker: what Bobbin holds is what was sent.
  await Promise.all([bobbin.start(), haraka.start(), sink.start()])
  const forms = new Map<string, string>()
  for (const mail of mails) {
    const accepted = await sender.send(mail)
    if (accepted === null) continue
    for await (const { id, batch_id, sha256 } of client.list()) {
      if (batch_id !== accepted.batch) continue
      const content = withoutReceived(await buffer(await client.content(id)))
      expect(sha256).not.toBeNull()
      expect(bodyOf(content), mail.name).toBe(bodyOf(asSent(mail.bytes)))
      forms.set(mail.name, content.toString('latin1'))
    }
  }
  expect(forms.size).toBeGreaterThan(mails.length / 2)
  console.log(`${forms.size} of ${mails.length} mails are accepted; refused:`, sender.refused)

  // Then again and again, and one part after the other is killed, while mail comes and goes.
  await relay.start()
  const parts: Part[] = [bobbin, haraka, relay, sink]
  let over = false
  const good = mails.filter(({ name }) => forms.has(name))
  const sending = Array.from({ length: CLIENTS }, async (_, n) => {
    for (let i = n; !over; i += CLIENTS) await sender.send(good[i % good.length]!)
  })
  const killed: string[] = []
  for (let kill = 0; kill < KILLS; kill++) {
    // Each of them in turn, and any of them after that.
    const part = kill < parts.length ? parts[kill]! : parts[pick(parts.length)]!
    await Promise.race([progress(relay, haraka, 1 + pick(30)), ...parts.map(({ died }) => died)])
    expect(await part.stop('SIGKILL')).toBeNull()
    killed.push(part.name)
    await part.start()
  }
  over = true
  await Promise.all(sending)

  // Nothing is left once what was deferred, and what dead workers held, has had its time.
  while ((await client.spool({ retry: { attempts: 100 } })).messages > 0) await delay(200)
  expect(await relay.stop('SIGTERM')).toBe(0)
  await haraka.stop('SIGTERM')
  expect(await bobbin.stop('SIGTERM')).toBe(0)
  await sink.stop('SIGTERM')

  const received = new Map<string, LogEntry>()
  const ended = new Map<string, LogEntry>()
  for (const entry of await logged(data)) {
    const { type, id } = entry
    if (type === 'transient_failure') continue
    const records = type === 'reception' ? received : ended
    expect(records.has(id), `two records: ${type} of ${id}`).toBe(false)
    expect(['reception', 'delivery', 'permanent_failure']).toContain(type)
    records.set(id, entry)
  }
  expect(new Set(ended.keys())).toEqual(new Set(received.keys()))

  const arrived = new Map<string, Buffer[]>()
  for (const { rcptto, content } of deliveries(taken))
    for (const to of rcptto) arrived.set(to, [...(arrived.get(to) ?? []), content])
  for (const { type, rcptto, id } of ended.values()) {
    expect(type, id).toBe(rcptto.startsWith('refused') ? 'permanent_failure' : 'delivery')
    expect(arrived.has(rcptto), `${type} of ${rcptto}`).toBe(type === 'delivery')
  }
  const batches = new Map<string, string[]>()
  for (const { batch_id, rcptto } of received.values())
    batches.set(batch_id, [...(batches.get(batch_id) ?? []), rcptto])
  for (const { mail, rcptto, batch } of sender.accepted) {
    expect(batches.get(batch)?.toSorted(), `${mail.name} in ${batch}`).toEqual(rcptto.toSorted())
    for (const to of rcptto) {
      if (to.startsWith('refused')) continue
      const copies = arrived.get(to) ?? []
      expect(copies.length, `${mail.name} to ${to}`).toBeGreaterThan(0)
      for (const copy of copies)
        expect(withoutReceived(copy).toString('latin1'), mail.name).toBe(forms.get(mail.name))
    }
  }
  expect(await checkSpool(join(data, 'spool'))).toMatchObject({ found: 0, messages: 0 })

  const copies = [...arrived.values()].reduce((sum, { length }) => sum + length, 0)
  const delivered = [...ended.values()].filter(({ type }) => type === 'delivery').length
  console.log(
    `${sender.accepted.length} accepted, ${sender.retries} attempts tried again, ${received.size} messages ` +
      `in Bobbin, ${copies} deliveries for ${delivered} reports; killed: ${killed.join(' ')}`,
  )
})

/** Until so many messages have come into or gone out of Bobbin. */
async function progress(relay: Part, haraka: Part, count: number): Promise<void> {
  let left = count
  await new Promise<void>((resolve) => {
    const onLine = (line: string) => {
      if (!/"outcome"|stored as/.test(line) || --left > 0) return
      relay.off('line', onLine)
      haraka.off('line', onLine)
      resolve()
    }
    relay.on('line', onLine)
    haraka.on('line', onLine)
  })
}
