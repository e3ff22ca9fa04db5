// The OpenAPI document against the service: it is one, every route is in it, and every operation in it takes generated input,
// good and bad, without failing: each answer is one that the document names, and the stores are sound in the end.
import { Validator } from '@seriousme/openapi-schema-validator'
import { describe, expect, it } from 'vitest'
import { startApi, type TestApi } from '../support/api.js'
import { driveOperations } from '../support/document-driver.js'
import { checkerOf, documentOf, operationsOf } from '../support/openapi.js'

/** document.slow.ts has more. */
const RUNS = 6

/** Paths with their methods, as the router has them. */
function routesOf({ app }: TestApi): string[] {
  const routes: string[] = []
  const above: string[] = []
  for (const line of app.printRoutes({ commonPrefix: false }).split('\n')) {
    const found = /^((?:│ {3}| {4})*)(?:├── |└── )(\S*)(?: \(([A-Z, ]+)\))?/.exec(line)
    if (found === null) continue
    const depth = (found[1] as string).length / 4
    above.length = depth
    above.push(found[2] as string)
    for (const method of found[3]?.split(', ') ?? []) routes.push(`${method} ${above.join('')}`)
  }
  return routes
}

describe('the document', () => {
  it('is an OpenAPI document, and every route is in it', async () => {
    const api = await startApi()
    const document = await documentOf(api)
    expect(await new Validator().validate(structuredClone(document) as never)).toEqual({
      valid: true,
    })
    const described = operationsOf(document).map(
      ({ method, path }) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
    )
    const routes = routesOf(api).filter((route) => !/^(HEAD|OPTIONS) | \/docs/.test(route))
    expect(routes.toSorted()).toEqual(described.toSorted())
  })

  it('has a page that a browser shows under a policy that lets nothing else in', async () => {
    const { app } = await startApi()
    const page = await app.inject({ url: '/docs' })
    const policy = String(page.headers['content-security-policy']).split('; ')
    expect(policy).toEqual(expect.arrayContaining(["default-src 'none'", "script-src 'self'"]))
    const scripts = [...page.payload.matchAll(/<script([^>]*)>([^<]*)</g)]
    expect(scripts.length).toBeGreaterThan(0)
    for (const [, attributes = '', inline = ''] of scripts) {
      expect(inline.trim()).toBe('')
      const [, url = ''] = /src="([^"]+)"/.exec(attributes) ?? []
      const script = await app.inject({ url: new URL(url, 'http://x/docs').pathname })
      expect(script.headers['content-type'], url).toMatch(/javascript/)
    }
    expect(page.payload).not.toMatch(/<style| style=| on\w+=/)
  })

  it('says of each operation what it does, its errors, and gives examples that fit', async () => {
    const api = await startApi()
    const document = await documentOf(api)
    const check = checkerOf(document)
    const operations = operationsOf(document)
    const ids = operations.map(({ operationId }) => operationId)
    expect(new Set(ids).size).toBe(ids.length)
    for (const { operationId, summary, responses, content } of operations) {
      expect(summary, operationId).toMatch(/^\S/)
      const bodies = Object.entries(content).map(([type, media]) => ({
        what: 'request',
        type,
        media,
      }))
      for (const [status, { content: answer = {} }] of Object.entries(responses)) {
        const types = Object.keys(answer)
        if (status === 'default' || Number(status) >= 400) {
          expect(types, `${operationId} ${status}`).toEqual(['application/problem+json'])
          continue
        }
        for (const [type, media] of Object.entries(answer))
          bodies.push({ what: status, type, media })
      }
      for (const { what, type, media } of bodies) {
        const where = `${operationId} ${what} ${type}`
        expect(media, where).toHaveProperty('example')
        if (type !== 'application/json') continue
        expect(check(media.schema ?? {}, media.example), where).toBeNull()
      }
    }
  })
})

it(
  `takes, at every operation, the example and ${RUNS} generated requests, good and bad`,
  {
    timeout: 120_000,
  },
  () => driveOperations(RUNS),
)
