/** Sources to import from, made as other programs make them, and what an import logged. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { MessageMeta, MessagePage, Spool } from '../../spool/index.js'

export interface ImportRecord {
  type: string
  id: string
  original_id: string
  result: number
  source: string
}

/** The records in the outbox, which nobody relays here. */
export function logged(spool: Spool): ImportRecord[] {
  return spool.outbox
    .pending('mainlog', { maxRecords: 1_000_000, maxBytes: 1e9 })
    .map(({ payload }) => JSON.parse(payload.toString()) as ImportRecord)
}

/** Results by the original id; throws when one has two. */
export function results(spool: Spool): Record<string, number> {
  const found: Record<string, number> = {}
  for (const { type, original_id, result } of logged(spool)) {
    if (type !== 'import') continue
    if (found[original_id] !== undefined) throw new Error(`${original_id}: logged twice`)
    found[original_id] = result
  }
  return found
}

export async function allOf(spool: Spool): Promise<MessageMeta[]> {
  const messages: MessageMeta[] = []
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page: MessagePage = await spool.list({ limit: 1000, cursor })
    messages.push(...page.messages)
    cursor = page.cursor
  }
  return messages
}

/** Contents by recipient. */
export async function contentsOf(spool: Spool): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const { id, rcptto } of await allOf(spool)) {
    if (found[rcptto] !== undefined) throw new Error(`${rcptto}: twice`)
    found[rcptto] = (await (await spool.swapIn(id)).buffer()).toString('latin1')
  }
  return found
}

export function mail(to: string, body = 'body\n', lineEnd = '\n'): string {
  return [`Return-Path: <sender@example.org>`, `Delivered-To: ${to}`, 'Subject: x', '', body].join(
    lineEnd,
  )
}

/** A queue file as Haraka 3 writes it. */
export function harakaFile(
  { from = 'a@example.org', to = ['b@example.com'], uuid = 'U.1.1' } = {},
  stuffed = 'Subject: x\r\n\r\nbody\r\n',
): Buffer {
  const address = (text: string) => {
    const [user, host] = text === '' ? [null, null] : text.split('@')
    return { original: `<${text}>`, original_host: host, host, user }
  }
  const todo = {
    queue_time: 1_700_000_000_000,
    domain: 'example.com',
    rcpt_to: to.map(address),
    mail_from: address(from),
    notes: { local_sender: true },
    uuid,
    force_tls: false,
  }
  const json = Buffer.from(`\n${JSON.stringify(todo, null, '\t')}\n`)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.length)
  return Buffer.concat([length, json, Buffer.from(stuffed, 'latin1')])
}

export async function writeAll(
  directory: string,
  files: Record<string, string | Buffer>,
): Promise<string> {
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(join(directory, name, '..'), { recursive: true })
    await writeFile(join(directory, name), bytes, 'latin1')
  }
  return directory
}
