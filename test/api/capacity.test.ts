import { describe, expect, it } from 'vitest'
import { startApi } from '../support/api.js'

describe('how many there may be', () => {
  it('of journals: one more is refused, however many ask at once', async () => {
    // Beside mainlog, which is the service's own.
    const { app, journals } = await startApi({ maxJournals: 2 })
    const make = (name: string) => app.inject({ method: 'PUT', url: `/v1/journals/${name}` })
    const answers = await Promise.all(['a', 'b', 'c', 'd', 'e'].map(make))
    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([201, 201, 422, 422, 422])
    expect(answers.find(({ statusCode }) => statusCode === 422)!.json()).toMatchObject({
      code: 'TOO_MANY_JOURNALS',
      detail: expect.stringContaining('limits.journals') as string,
    })
    expect(await journals.names()).toHaveLength(3)
    expect((await make('mainlog')).statusCode).toBe(409)
    const [gone] = (await journals.names()).filter((name) => name !== 'mainlog')
    await app.inject({ method: 'DELETE', url: `/v1/journals/${gone}` })
    expect((await make('f')).statusCode).toBe(201)
    expect((await make('g')).statusCode).toBe(422)
  })

  it('of subscribers of a journal', async () => {
    const { app } = await startApi({ maxSubscribers: 2 })
    const url = (name: string, sub: string) => `/v1/journals/${name}/subscribers/${sub}`
    const add = (sub: string, name = 'mainlog') =>
      app.inject({ method: 'PUT', url: url(name, sub) })
    const answers = await Promise.all(['a', 'b', 'c', 'd'].map((sub) => add(sub)))
    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([201, 201, 422, 422])
    expect((await add('e')).json()).toMatchObject({ code: 'TOO_MANY_SUBSCRIBERS' })
    expect((await app.inject({ method: 'PUT', url: '/v1/journals/other' })).statusCode).toBe(201)
    expect((await add('e', 'other')).statusCode).toBe(201)
    const { subscribers } = (await app.inject({ url: '/v1/journals/mainlog/subscribers' })).json<{
      subscribers: { name: string }[]
    }>()
    const removed = await app.inject({
      method: 'DELETE',
      url: url('mainlog', subscribers[0]!.name),
    })
    expect(removed.statusCode).toBe(204)
    expect((await add('f')).statusCode).toBe(201)
    // A failure makes no room and takes none.
    expect((await add('g', 'none')).statusCode).toBe(404)
  })
})
