// What Haraka, with the example's plugin, answers for what Bobbin does.
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import nodemailer from 'nodemailer'
import { expect, it } from 'vitest'
import { BobbinClient } from '../../api/client/index.js'
import { bobbin, temporaryDirectory } from '../support/service.js'
import { bobbinPart, freePorts, HARAKA_PROGRAM, harakaPart, type Ports } from './processes.js'

const MAIL = Buffer.from('Subject: x\r\n\r\nbody\r\n')

/** The answer to a mail, whether it was taken or not. */
async function send({ haraka }: Ports, raw = MAIL): Promise<string> {
  const smtp = nodemailer.createTransport({ host: '127.0.0.1', port: haraka, ignoreTLS: true })
  const envelope = { from: 'a@example.com', to: ['b@example.net', 'c@example.net'] }
  try {
    return (await smtp.sendMail({ envelope, raw })).response
  } catch (error) {
    return (error as { response?: string }).response ?? String(error)
  }
}

it('says 250 when it is stored, 450 when it is not now, 550 when it never will be', {
  timeout: 180_000,
}, async (test) => {
  if (!existsSync(HARAKA_PROGRAM)) {
    const why = 'Haraka is not installed (npm ci --prefix examples/haraka)'
    console.log(`skipped: ${why}`)
    return test.skip(why)
  }
  const directory = await temporaryDirectory()
  const data = join(directory, 'data')
  const ports = await freePorts()
  const tokens = join(directory, 'tokens')
  const tokenFile = join(directory, 'haraka.token')
  const create = ['token', 'create', '--scope', 'inject', '--name', 'mta', '--file', tokens]
  const token = (await bobbin(create)).stdout.toString().trim()
  await writeFile(tokenFile, token)
  const haraka = await harakaPart(join(directory, 'haraka'), ports, `token_file=${tokenFile}\n`)
  await haraka.start()
  expect(await send(ports)).toMatch(/^450 not stored now/)

  const run = async (env: NodeJS.ProcessEnv, use: () => Promise<void>) => {
    const service = bobbinPart(data, ports, env)
    await service.start()
    await use()
    expect(await service.stop('SIGTERM')).toBe(0)
  }
  const withTokens = { BOBBIN_SECURITY_TOKEN_FILE: tokens }
  await run(withTokens, async () => {
    const answer = await send(ports)
    expect(answer).toMatch(/^250 stored by Bobbin \(\S+\)$/)
  })
  await run({ ...withTokens, BOBBIN_SPOOL_MAX_MESSAGE_SIZE: '1000' }, async () => {
    const large = Buffer.concat([MAIL, Buffer.alloc(100_000, 'x\r\n')])
    expect(await send(ports, large)).toMatch(/^550 not stored: .*1000/)
    expect(await send(ports)).toMatch(/^250 /)
  })
  // As with a disk that has no room.
  const full = String(Number.MAX_SAFE_INTEGER)
  await run(
    { ...withTokens, BOBBIN_SPOOL_MIN_FREE: full, BOBBIN_SPOOL_RESUME_FREE: full },
    async () => expect(await send(ports)).toMatch(/^450 not stored now/),
  )
  // A token that is not known is for the operator to mend: no mail bounces for it.
  await run({ BOBBIN_SECURITY_TOKENS: `other:inject:sha256:${'0'.repeat(64)}` }, async () =>
    expect(await send(ports)).toMatch(/^450 not stored now/),
  )
  await run({}, async () => {
    const client = new BobbinClient(`http://127.0.0.1:${ports.bobbin}`)
    expect(await client.spool()).toMatchObject({ messages: 4, bodies: 2 })
  })
  await haraka.stop('SIGTERM')
})
