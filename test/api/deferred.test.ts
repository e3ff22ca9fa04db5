// Deferred spooling over REST, to the record in the journal.
import { describe, expect, test } from 'vitest'
import { startApi } from '../support/api.js'

const MESSAGE = {
  mailfrom: 'a@example.org',
  rcptto: ['b@example.com'],
  content: 'Subject: x\r\n\r\n',
}
const DEFERRED = { ...MESSAGE, durability: 'deferred' }

const SUBSCRIBER = '/v1/journals/mainlog/subscribers/s'
const RECORDS = `${SUBSCRIBER}/records?limit=100`

function types({ payload }: { payload: string }): string[] {
  const lines = payload.split('\n').filter((line) => line !== '')
  return lines.map((line) => {
    const { data } = JSON.parse(line) as { data: string }
    return (JSON.parse(Buffer.from(data, 'base64').toString()) as { type: string }).type
  })
}

describe('durability', () => {
  test('deferred is refused where it is not switched on, and nothing is stored', async () => {
    const { app } = await startApi()
    const refused = await app.inject({ method: 'POST', url: '/v1/messages', payload: DEFERRED })
    expect(refused.statusCode).toBe(422)
    expect(refused.headers['content-type']).toContain('application/problem+json')
    expect(refused.json()).toMatchObject({ code: 'SPOOL_ERR_UNSAFE' })
    expect((await app.inject('/v1/spool')).json()).toMatchObject({ messages: 0, unspooled: 0 })
  })

  test('a deferred message lives its whole life, and its events are logged', async () => {
    const { app } = await startApi({}, {}, { unsafeSpooling: true, suppressRetries: 2 })
    await app.inject({ method: 'PUT', url: `${SUBSCRIBER}?whence=begin` })
    const injected = await app.inject({ method: 'POST', url: '/v1/messages', payload: DEFERRED })
    expect(injected.statusCode).toBe(201)
    expect(injected.json()).toMatchObject({ result: 'deferred', size: 14 })
    const id = injected.json().ids[0] as string
    const raw = await app.inject({
      method: 'POST',
      url: '/v1/messages?from=a@example.org&to=b@example.com&durability=deferred',
      headers: { 'content-type': 'message/rfc822' },
      payload: 'Subject: y\r\n\r\n',
    })
    expect(raw.json()).toMatchObject({ result: 'deferred' })
    expect((await app.inject('/v1/spool')).json()).toMatchObject({ messages: 2, unspooled: 2 })
    expect((await app.inject(`/v1/messages/${id}`)).json()).toMatchObject({ id, state: 'queued' })
    expect((await app.inject(`/v1/messages/${id}/content`)).payload).toBe(MESSAGE.content)
    expect((await app.inject('/v1/messages')).json().messages).toHaveLength(2)
    const claim = await app.inject({ method: 'POST', url: '/v1/claims', payload: { limit: 1 } })
    expect(claim.json().messages[0]).toMatchObject({ id, state: 'leased' })
    const event = (payload: object) =>
      app.inject({ method: 'POST', url: `/v1/messages/${id}/events`, payload })
    const failed = await event({ type: 'transient_failure', lease: claim.json().lease })
    expect(failed.json()).toMatchObject({ result: 'deferred', outcome: 'deferred' })
    const again = await event({ type: 'transient_failure' })
    expect(again.json()).toMatchObject({ result: 'complete', outcome: 'deferred' })
    expect((await app.inject('/v1/spool')).json()).toMatchObject({ messages: 2, unspooled: 1 })
    expect((await event({ type: 'delivery' })).json()).toMatchObject({ outcome: 'removed' })
    // The second reception is of the other message.
    await expect
      .poll(async () => types(await app.inject(RECORDS)))
      .toEqual(['reception', 'reception', 'transient_failure', 'transient_failure', 'delivery'])
  })
})
